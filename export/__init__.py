"""Export of a PyTorch checkpoint to a bundle: fp32 ONNX and dynamic int8, checked, written whole or not at all."""
