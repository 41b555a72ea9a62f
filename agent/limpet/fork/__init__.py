"""The fork server, from which workers and executors are forked."""
