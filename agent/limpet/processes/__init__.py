"""The processes of the daemon: supervisor, fork server and workers, and what they say to each other."""
