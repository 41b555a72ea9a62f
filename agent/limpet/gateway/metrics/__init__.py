"""The device's figures as metrics."""
