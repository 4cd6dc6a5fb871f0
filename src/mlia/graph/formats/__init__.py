"""Other formats: Keras, SavedModel, ONNX, PyTorch and TOSA -> Graph, and the converters' environments."""
