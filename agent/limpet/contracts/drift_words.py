"""Alarms of monitors in words, the same wherever they are shown. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.drift import AlarmHealth, DriftEvent, Moved

SHOWN = 3
"""What moved that a sentence names."""
FAULTS = {
    "stuck": "the sensor repeats the same value",
    "saturated": "the sensor is at its limit",
    "drop_out": "the sensor drops samples",
    "rate": "samples come at another rate",
    "clock": "the sensor's clock drifts",
    "unit": "the sensor seems to measure in another unit",
}


def sentence(event: DriftEvent) -> str:
    """Return an event of a monitor in words."""
    if event.type == "end":
        why = f": {event.reason}" if event.reason else ""
        return f"{event.monitor}: the alarm is over, {_span(event.since_s)} after it began{why}"
    found = _found(event.fault, event.moved, event.reason)
    return f"{event.monitor}: {found} (since {_span(event.since_s)}, p = {event.p_value:.1g})"


def described(monitor: str, alarm: AlarmHealth) -> str:
    """Return an alarm that holds in words."""
    return f"{monitor}: {_found(alarm.fault, alarm.moved, alarm.reason)}"


def _found(fault: str, moved: Sequence[Moved], reason: str) -> str:
    named = [f"{one.name} moved from {one.before:.4g} to {one.now:.4g}" for one in moved[:SHOWN]]
    more = [f"{len(moved) - SHOWN} more"] if len(moved) > SHOWN else []
    parts = [FAULTS.get(fault, ""), listed([*named, *more]), reason]
    return "; ".join(filter(None, parts)) or "the windows are not like those of the reference"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
