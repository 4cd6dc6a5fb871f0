"""What the model is: frozen data, read from TFLite and written to it."""
