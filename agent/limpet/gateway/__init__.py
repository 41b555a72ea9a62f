"""The gateway: the local API, metrics and the page, in a process of its own."""
