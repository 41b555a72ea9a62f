"""A worker process: the sources and pipelines of one cell."""
