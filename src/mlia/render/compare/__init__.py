"""A comparison: the same parts as text and as Markdown."""
