"""What the decoders of Limpet make of a window. JSON Schemas of these are in docs/schemas/output/.

No numpy here: programs that only read results use these types, too.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec


class ScoredLabel(msgspec.Struct, gc=False):
    """A class and its score, null where that is not finite or the model gives none."""

    label: str
    score: float | None


class Classification(msgspec.Struct, gc=False):
    """The best class and its score; ``top`` has the best few, best first.

    ``score`` is null where the model gives an index alone. ``abstained``: the score is below the threshold, or the
    model gave NaN or infinity (then ``score`` is null and ``top`` empty). ``label`` is null then.
    """

    label: str | None
    score: float | None
    top: list[ScoredLabel]
    abstained: bool


class Anomaly(msgspec.Struct, gc=False, omit_defaults=True):
    """Whether there is an anomaly, by the score of this window and those before.

    ``score`` is null where it is not finite. ``threshold`` is what it was compared with, null while there is none.
    Only models that learn on the device have the rest. ``untrained``: the model still learns what is normal, so
    ``anomalous`` is false whatever the score. ``learned``: share of its learning time that is over, 0 to 1.
    """

    anomalous: bool
    score: float | None
    threshold: float | None
    untrained: bool | None = None
    learned: float | None = None


class Detection(msgspec.Struct, gc=False):
    """A box: left, top, right and bottom as fractions, 0 to 1, of the width and height of the source's picture."""

    label: str
    score: float
    box: tuple[float, float, float, float]


class Detections(msgspec.Struct, gc=False):
    """What is in the picture, best first.

    ``counts`` has how many there are of each label, 0 of one that was there earlier.
    """

    detections: list[Detection]
    counts: dict[str, int]


class Regression(msgspec.Struct, gc=False):
    """The quantities by name, in the unit of the same name in ``units``; those without a unit have none there.

    A value is null where the model gave NaN or infinity. ``out_of_range`` names the values that are null or
    outside what can be believed, and ``in_range`` says that there are none.
    """

    values: dict[str, float | None]
    units: dict[str, str]
    in_range: bool
    out_of_range: list[str]


Output: TypeAlias = Classification | Anomaly | Detections | Regression | dict[str, Any]
"""What a result's ``output`` may be; a mapping comes from a decoder of another package."""
