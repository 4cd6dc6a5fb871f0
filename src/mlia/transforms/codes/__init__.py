"""Pruning and clustering of quantized weights."""
