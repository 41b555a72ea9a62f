"""Output tensors to meaning: one module a kind."""
