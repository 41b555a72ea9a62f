"""Results to better results, and events: one module a kind."""
