"""Conversion to ONNX, rewriting of the graph, and int8 quantization."""
