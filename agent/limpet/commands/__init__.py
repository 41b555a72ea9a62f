"""The commands of ``limpet``: one module each, with ``HELP``, ``add_arguments`` and ``main``."""
