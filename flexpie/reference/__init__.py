"""The unsplit model in onnxruntime, and how far a split answer may be from its own."""
