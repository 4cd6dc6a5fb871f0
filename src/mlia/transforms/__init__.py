"""How a model is changed: quantized, rewritten, cut, compressed, trained."""
