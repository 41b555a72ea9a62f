"""Converters, found by their kind: the name of the module.

An input converter has ``Config``, a msgspec struct with its options, and ``convert(path, config, shapes)``, which
returns a float ``.tflite`` model as bytes. An output converter makes another format of a model.
"""
