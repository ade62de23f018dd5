"""Turn a PyTorch checkpoint into a bundle: fp32 ONNX, dynamic int8, checked, written whole or not at all."""
