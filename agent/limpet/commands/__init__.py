"""What ``limpet`` can be told to do: one module a command, with ``HELP``, ``add_arguments`` and ``main``."""
