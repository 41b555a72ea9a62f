"""Drift: the event of an alarm, and what health reports about monitors. They cross the border from a worker.

No numpy here: the supervisor publishes them.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

MOST_FEATURES = 128
"""Features of a window that are compared with the reference."""
MOST_EDGES = 65
"""Quantiles of a feature in a reference."""
MOST_MOVED = 8
"""Features that one alarm names."""
MOST_MONITORS = 16
"""Monitors of a pipeline."""

FeatureName = Annotated[str, Meta(max_length=96)]
MonitorName = Annotated[str, Meta(max_length=64)]
Fault: TypeAlias = Literal["stuck", "saturated", "drop_out", "rate", "clock", "unit"]
"""Faults of a sensor that have a name. Everything else is drift of the data."""


class Moved(msgspec.Struct, kw_only=True):
    """What moved: a feature or a class. Its mean, or the share of the class, in the reference and now."""

    name: FeatureName
    before: float
    now: float


class DriftEvent(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="event", tag="drift"):
    """A monitor raises an alarm (``new``), or it is over (``end``).

    ``moved``: what moved most comes first. ``fault``: the fault of the sensor that would explain it, empty if it
    is the data that changed. ``since_s``: how many seconds ago it began, as far as is known. ``p_value``: how
    probable so large a change would be if nothing had changed.
    """

    type: Literal["new", "end"]
    monitor: MonitorName
    fault: Fault | Literal[""] = ""
    moved: Annotated[list[Moved], Meta(max_length=MOST_MOVED)] = []
    since_s: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    p_value: Annotated[float, Meta(ge=0, le=1)] = 0.0
    reason: Annotated[str, Meta(max_length=500)] = ""
