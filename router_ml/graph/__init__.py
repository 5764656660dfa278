"""ONNX graphs: a builder, and the embedding bag that a linear model on words becomes."""
