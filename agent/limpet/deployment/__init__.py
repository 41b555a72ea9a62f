"""What should run, as values: pure functions from configuration and models found to assignments."""
