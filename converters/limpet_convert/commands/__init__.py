"""The commands of ``limpet-convert``: one module each."""
