"""Direct channels to the processes that run models."""
