"""Which parts of a window an answer hangs on. Algorithms over a function from windows to scores: no I/O."""
