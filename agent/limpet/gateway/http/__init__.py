"""HTTP: connections, the protocols on them, and checks of each request."""
