"""The inference core: numpy, onnxruntime and tokenizers, and nothing else."""
