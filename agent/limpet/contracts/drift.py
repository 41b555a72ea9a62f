"""Drift: the event of an alarm, and what health reports about monitors. They cross the border from a worker.

No numpy here: the supervisor publishes them.
"""

from __future__ import annotations

from datetime import datetime
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
MOST_SKETCHES = MOST_FEATURES + 2
"""Sketches of a pipeline: those of the features, of the score and of the classes."""
MOST_BINS = 65
"""Counts of one sketch."""
SCORE_SKETCH, CLASS_SKETCH = "score", "class"
"""Names of the sketches that are of no feature."""

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


_Count = Annotated[int, Meta(ge=0, le=1 << 53)]
_Level = Annotated[float, Meta(ge=0, le=1e6)]
_Reason = Annotated[str, Meta(max_length=500)]
Counts = Annotated[list[_Count], Meta(max_length=MOST_BINS)]
"""A sketch: windows by the bin of the reference's quantiles that their number is in, see ``drift_merging``."""


class OpenAlarm(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An alarm that holds, as a worker reports it. The fields are those of ``DriftEvent``."""

    fault: Fault | Literal[""] = ""
    moved: Annotated[list[Moved], Meta(max_length=MOST_MOVED)] = []
    since_s: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    p_value: Annotated[float, Meta(ge=0, le=1)] = 0.0
    reason: _Reason = ""


class MonitorState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a monitor stands, as a worker reports it.

    ``level``: its statistic in shares of its threshold. ``problem``: why it does not look at windows.
    """

    level: _Level = 0.0
    alarm: OpenAlarm | None = None
    problem: _Reason = ""


class MonitorFigures(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the monitors of one pipeline saw since the figures before, and how they stand.

    ``busy_us``: what the pipeline took for its windows, in µs; ``spent_us``: what the monitors took. ``skipped``:
    windows that they left out to stay within their share. ``sketches``: new counts, by name. ``problem``: why
    there is no monitor.
    """

    windows: _Count = 0
    skipped: _Count = 0
    busy_us: _Count = 0
    spent_us: _Count = 0
    monitors: Annotated[dict[MonitorName, MonitorState], Meta(max_length=MOST_MONITORS)] = {}
    sketches: Annotated[dict[FeatureName, Counts], Meta(max_length=MOST_SKETCHES)] = {}
    problem: _Reason = ""


class AlarmHealth(msgspec.Struct, kw_only=True):
    """An alarm that holds. ``since``: when the change began, as far as is known. The rest is as in ``drift``."""

    since: datetime
    fault: Fault | Literal[""] = ""
    moved: list[Moved] = []
    p_value: float = 0.0
    reason: str = ""


class MonitorHealth(msgspec.Struct, kw_only=True):
    """One monitor. ``level``: its statistic in shares of its threshold; an alarm begins above 1.

    ``alarm`` is null where none holds. ``problem``: why it does not look at windows.
    """

    level: float
    alarm: AlarmHealth | None = None
    problem: str = ""


class MonitorsHealth(msgspec.Struct, kw_only=True):
    """The monitors of a pipeline. Counts run since its model began to run, or since the supervisor started.

    ``windows``: those that the monitors saw. ``skipped``: those that they left out to stay within their share.
    ``cost``: what they took, as a share of the pipeline's own time. ``sketches``: windows by feature and by the
    bin of the reference's quantiles. Sketches of devices with the same model add up. ``problem``: why there is
    no monitor.
    """

    windows: int = 0
    skipped: int = 0
    cost: float | None = None
    monitors: dict[str, MonitorHealth] = {}
    sketches: dict[str, list[int]] = {}
    problem: str = ""

    @property
    def alarms(self) -> list[str]:
        """The monitors with an alarm."""
        return [name for name, one in self.monitors.items() if one.alarm is not None]
