"""The gateway: a separate process for the local API, metrics and the page."""
