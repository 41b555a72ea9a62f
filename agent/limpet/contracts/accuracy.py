"""Accuracy: how often the results of a pipeline were right, as people said. Health reports it.

No numpy here: the supervisor publishes it. All counts can be added over devices and time.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

MOST_CLASSES = 64
"""Classes that health reports the accuracy of. Others are counted in the whole alone."""
MOST_SLICES = 64
"""Slices that health reports the accuracy of."""
MOST_GROUPS, MOST_SPANS = 8, 16
"""Groups of a pipeline, and times of day of a group."""

GroupName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,23}\Z",
        extra={"use": 'letters, digits, ".", "_" and "-", at most 24 characters'},
    ),
]
"""Name of a group such as ``site``, and one of its values. Together they are a slice: ``site=north``."""
SliceName = Annotated[str, Meta(max_length=64)]


class RightShare(msgspec.Struct, kw_only=True):
    """How many answers there were, and how many were right.

    ``low`` and ``high``: credible interval of the true share, 95 %, with Jeffreys' prior.
    """

    answers: int
    right: int
    low: float
    high: float


class AccuracyHealth(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How often the results of the model that runs were right, as `feedback` says. It survives restarts.

    ``all``: answers for windows that were not kept for a reason. ``chosen``: answers for captures that were kept
    as the model was unsure, or for another such reason. Their accuracy is not that of all windows.
    ``recent``: the last 200 of ``all``. ``abstained``: results with feedback in which the model had not decided.
    ``classes``: by the true class. ``slices``: by the group and its value, such as ``shift=night``. ``expected``:
    accuracy in the bundle's reference, ``null`` if it has none.
    """

    all: RightShare
    recent: RightShare
    chosen: RightShare | None = None
    abstained: int = 0
    classes: dict[str, RightShare] = {}
    slices: dict[SliceName, RightShare] = {}
    expected: float | None = None
