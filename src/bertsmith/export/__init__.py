"""export: a trained model becomes an ONNX graph, in fp32 or with INT8 products, and has to pass a gate."""
