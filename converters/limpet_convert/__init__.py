"""Workstation tooling around limpet: training, conversion, packaging."""
