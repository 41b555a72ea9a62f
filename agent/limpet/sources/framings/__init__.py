"""How bytes of a serial line are cut into rows: one module a kind."""
