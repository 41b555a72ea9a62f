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
    """What a worker counted: windows whose result can abstain, those that did, and sets by how many classes.

    ``runs`` of the model, if it runs on variations of the windows.
    """

    windows: _Count = 0
    abstained: _Count = 0
    sets: dict[_Size, _Count] = {}
    runs: _Count = 0


class UncertaintyHealth(msgspec.Struct, kw_only=True):
    """How sure a model was. ``windows``: those whose result can abstain. ``abstained``: those that did.

    ``set_sizes``, behind ``conformal``: how many sets had so many classes; 10 are 10 or more. ``mean_set_size`` is
    null if there was no set. ``mean_runs``, with ``test_time``: runs of the model for a window.
    """

    windows: int
    abstained: int
    set_sizes: dict[str, int] = {}
    mean_set_size: float | None = None
    mean_runs: float | None = None


class VariationOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """``test_time`` of a pipeline: the model also runs on variations of each window. Its outputs are averaged."""

    runs: Annotated[int, Meta(ge=2, le=16)] = 4
    """Runs for each window at most, the one on the window itself among them."""
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Share of the time between two windows that all runs may take. If the model is too slow, there are fewer."""
    noise: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Noise that is added, as a share of the window's standard deviation. Example: `0.05`."""
    gain: Annotated[float, Meta(ge=0, le=0.9)] = 0.0
    """Largest share by which the values are raised and lowered. Example: `0.1`."""
    shift: Annotated[int, Meta(ge=0, le=65_536)] = 0
    """Rows by which the window is moved in time at most; its end comes to its beginning. Example: `2`."""
    flip: bool = False
    """Whether every second variation of a picture is mirrored, left to right."""

    def __post_init__(self) -> None:
        if not (self.noise or self.gain or self.shift or self.flip):
            raise ValueError("set noise, gain, shift or flip")
