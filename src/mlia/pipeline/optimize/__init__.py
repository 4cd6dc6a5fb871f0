"""`mlia optimize`: a recipe applied, or recipes searched within limits."""
