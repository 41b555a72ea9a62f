"""Who executes the model: one module a kind."""
