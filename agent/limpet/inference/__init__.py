"""From a source's samples to results: reading, windows, and the pipeline around a model."""
