"""A verification, and the listing of a command stream."""
