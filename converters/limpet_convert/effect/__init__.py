"""The effect of a new model against the old one on what devices measured themselves. No network, no model."""
