"""Updates of models: the rules, without I/O. ``limpet.supervision.updates`` does what they say."""
