"""What a device learns in the field: accuracy from feedback, when to retrain, and bounded changes to itself.

Rules without I/O and without numpy. ``limpet.supervision.learning`` does the rest.
"""
