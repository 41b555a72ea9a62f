"""Monitors: whether what a pipeline sees still looks like what its model was verified with. One file each."""
