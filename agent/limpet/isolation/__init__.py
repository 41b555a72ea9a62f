"""What a process gives up, so that bytes of strangers can do no harm."""
