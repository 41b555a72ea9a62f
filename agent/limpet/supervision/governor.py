"""Sparing a device that is hot, busy or low on power: pipelines step down their ladders, and up again.

Decides, without I/O. Times are seconds on any steady clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from limpet.config import GovernorTable
    from limpet.device.host import Readings

Mood: TypeAlias = Literal["distress", "between", "calm"]

POWER_MARGIN = 0.8
"""Share of ``most_power`` to be back within."""


class Governor:
    """How far down the device is: ``level`` 0 is everything in full, each step down one rung of every ladder."""

    def __init__(self, table: GovernorTable) -> None:
        self.table = table
        self.level = 0
        self._mood: Mood = "between"
        self._since = 0.0

    def update(self, readings: Readings, deepest: int, now: float) -> str:
        """Look at the device; where that moves ``level`` by a step, at most to ``deepest``, return why."""
        reason = distress(self.table, readings)
        mood: Mood = "distress" if reason else "calm" if calm(self.table, readings) else "between"
        if mood != self._mood:
            self._mood, self._since = mood, now
        waited = now - self._since
        self.level = min(self.level, deepest)
        if mood == "distress" and self.level < deepest and waited >= self.table.down_after:
            self.level += 1
        elif mood == "calm" and self.level > 0 and waited >= self.table.up_after:
            self.level -= 1
            reason = f"within all limits for {waited:.0f} s"
        else:
            return ""
        self._since = now  # Each step gets its time to show.
        return reason


def distress(table: GovernorTable, readings: Readings) -> str:
    """Say which limits are exceeded, empty if none is. A value that the machine cannot measure exceeds none."""
    reasons = []
    if readings.temperature_c is not None and readings.temperature_c >= table.hot:
        reasons.append(f"{readings.temperature_c:.0f} °C")
    if readings.throttled:
        reasons.append("throttled")
    if readings.pressure is not None and readings.pressure >= table.busy:
        reasons.append(f"tasks wait for a CPU {readings.pressure:.0%} of the time")
    if readings.charge is not None and readings.charge <= table.empty:
        reasons.append(f"battery at {readings.charge:.0%}")
    if readings.power_w is not None and table.most_power is not None and readings.power_w > table.most_power:
        reasons.append(f"{readings.power_w:.1f} W drawn")
    return ", ".join(reasons)


def calm(table: GovernorTable, readings: Readings) -> bool:
    """Whether the device is back within all limits."""
    most_power = None if table.most_power is None else table.most_power * POWER_MARGIN
    return (
        (readings.temperature_c is None or readings.temperature_c <= table.cool)
        and not readings.throttled
        and (readings.pressure is None or readings.pressure <= table.idle)
        and (readings.charge is None or readings.charge >= table.charged)
        and (readings.power_w is None or most_power is None or readings.power_w <= most_power)
    )
