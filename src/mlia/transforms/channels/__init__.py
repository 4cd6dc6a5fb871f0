"""Fewer channels: which go together, which are missed least, and what makes up for them."""
