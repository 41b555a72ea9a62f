"""Uncertainty: how often a model abstains, and how large its sets are. Workers count it, health reports it.

No numpy here: the supervisor publishes it. All counts can be added over devices and time.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

MOST_SIZES = 10
"""Sizes of sets that are counted each alone. Larger sets count as this size."""

_Count = Annotated[int, Meta(ge=0, le=1 << 32)]
_Size = Annotated[int, Meta(ge=0, le=MOST_SIZES)]


class Uncertainties(msgspec.Struct, omit_defaults=True):
    """What a worker counted: windows whose result can abstain, those that did, and sets by how many classes."""

    windows: _Count = 0
    abstained: _Count = 0
    sets: dict[_Size, _Count] = {}


class UncertaintyHealth(msgspec.Struct, kw_only=True):
    """How sure a model was. ``windows``: those whose result can abstain. ``abstained``: those that did.

    ``set_sizes``, behind ``conformal``: how many sets had so many classes; 10 are 10 or more. ``mean_set_size`` is
    null if there was no set.
    """

    windows: int
    abstained: int
    set_sizes: dict[str, int] = {}
    mean_set_size: float | None = None
