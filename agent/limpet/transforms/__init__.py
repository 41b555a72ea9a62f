"""Windows to model input: one module a kind."""
