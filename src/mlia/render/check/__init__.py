"""A check's report: for terminals, tables, pull requests and CI."""
