"""The supervisor: what should run, the processes that run it, and the results that they send. No numpy."""
