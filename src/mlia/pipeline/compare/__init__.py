"""`mlia compare`: operators matched, figures side by side, what to believe of the difference."""
