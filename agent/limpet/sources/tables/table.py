"""What is read of a table."""

from __future__ import annotations

from array import array

import msgspec


class Table(msgspec.Struct):
    """``values``: row after row; ``seconds``: a time for each row, or none.

    ``gaps``: rows that do not follow the one before. ``notes``: what was skipped, each in a sentence.
    """

    channels: tuple[str, ...]
    values: array[float]
    seconds: array[float]
    gaps: list[int]
    notes: list[str]
