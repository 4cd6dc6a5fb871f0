"""Equivalent graphs, and the proof that they are."""
