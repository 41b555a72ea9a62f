"""Converters, found by their kind: the name of the module.

An input converter has ``Config``, a msgspec struct with its options, and ``convert(path, config, shapes)``, which
returns a float ``.tflite`` model as bytes. An output converter makes another format of a model.

Each declares ``SUFFIXES``, the ends of the names of the files that it reads. An output converter has none. An
input converter declares ``IN_JAIL``: a large library reads the file in a sandboxed child. It also declares
``LIVE``: it has ``live(path, config)``, which opens the model itself.
"""
