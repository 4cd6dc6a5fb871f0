"""What is advised: a class for each offense, whose docstring is its page."""
