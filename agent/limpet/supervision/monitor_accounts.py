"""What monitors report of each pipeline: counted, and turned into events where an alarm begins or ends. No I/O.

A worker reports in each heartbeat which alarms hold. What differs from the heartbeat before is an event. So an
alarm also ends if its worker is started again, and a worker cannot report more events than the limit here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from limpet.bucket import Bucket
from limpet.contracts.drift import (
    MOST_SKETCHES,
    AlarmHealth,
    DriftEvent,
    MonitorFigures,
    MonitorHealth,
    MonitorsHealth,
    MonitorState,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.drift import OpenAlarm

EVENTS_PER_SECOND, EVENTS_AT_ONCE = 0.1, 32
"""Events of the monitors of a pipeline. Those that are too many wait: the alarm is reported later, if it holds."""
LARGEST_COUNT = (1 << 53) - 1


class MonitorAccount(msgspec.Struct):
    """The monitors of one pipeline, since its model began to run.

    ``alarms``: those that were reported as events.
    """

    model: tuple[str, int] = ("", 0)
    figures: MonitorFigures | None = None
    """The last ones; their counts are summed up in the fields below."""
    windows: int = 0
    skipped: int = 0
    busy_us: int = 0
    spent_us: int = 0
    sketches: dict[str, list[int]] = {}
    alarms: dict[str, AlarmHealth] = {}
    events: Bucket = msgspec.field(default_factory=lambda: Bucket(EVENTS_PER_SECOND, EVENTS_AT_ONCE))

    def take(
        self, figures: MonitorFigures | None, model: tuple[str, int], time: datetime, now: float
    ) -> list[DriftEvent]:
        """Take what a heartbeat brought. Return the events that it is.

        ``model``: the one that runs, and its version. ``time`` is in UTC, ``now`` in seconds on any steady clock.
        """
        if figures is None and self.figures is None:
            return []
        if model != self.model:
            self.model, self.sketches = model, {}
            self.windows = self.skipped = self.busy_us = self.spent_us = 0
        self.figures = figures
        if figures is not None:
            self._add(figures)
        return list(self._changes(figures.monitors if figures else {}, time, now))

    def _add(self, figures: MonitorFigures) -> None:
        self.windows = min(self.windows + figures.windows, LARGEST_COUNT)
        self.skipped = min(self.skipped + figures.skipped, LARGEST_COUNT)
        self.busy_us = min(self.busy_us + figures.busy_us, LARGEST_COUNT)
        self.spent_us = min(self.spent_us + figures.spent_us, LARGEST_COUNT)
        for name, counts in figures.sketches.items():
            before = self.sketches.get(name)
            if before is None and len(self.sketches) >= MOST_SKETCHES:
                continue
            if before is None or len(before) != len(counts):
                self.sketches[name] = list(counts)
            else:
                sums = zip(before, counts, strict=True)
                self.sketches[name] = [min(old + new, LARGEST_COUNT) for old, new in sums]

    def _changes(self, states: dict[str, MonitorState], time: datetime, now: float) -> Iterator[DriftEvent]:
        open_now = {name: state.alarm for name, state in states.items() if state.alarm is not None}
        for name in [name for name in self.alarms if name not in open_now]:
            if not self._may_report(now):
                return
            ended = self.alarms.pop(name)
            age = max(0.0, (time - ended.since).total_seconds())
            reason = "" if name in states else "the monitor was started again"
            yield DriftEvent(type="end", monitor=name, fault=ended.fault, since_s=min(age, 1e9), reason=reason)
        for name, alarm in open_now.items():
            if name in self.alarms:
                self.alarms[name] = _health(alarm, self.alarms[name].since)
            elif not self._may_report(now):
                return
            else:
                self.alarms[name] = _health(alarm, time - timedelta(seconds=alarm.since_s))
                yield DriftEvent(
                    type="new",
                    monitor=name,
                    fault=alarm.fault,
                    moved=alarm.moved,
                    since_s=alarm.since_s,
                    p_value=alarm.p_value,
                    reason=alarm.reason,
                )

    def _may_report(self, now: float) -> bool:
        if self.events.level(now) < 1:
            return False
        self.events.spend(1)
        return True

    @property
    def health(self) -> MonitorsHealth | None:
        """What the health of the pipeline has of its monitors, ``None`` if it has none."""
        figures = self.figures
        if figures is None:
            return None
        return MonitorsHealth(
            windows=self.windows,
            skipped=self.skipped,
            cost=round(self.spent_us / self.busy_us, 5) if self.busy_us else None,
            monitors={
                name: MonitorHealth(
                    level=round(state.level, 4), alarm=self.alarms.get(name), problem=state.problem
                )
                for name, state in figures.monitors.items()
            },
            sketches={name: list(counts) for name, counts in self.sketches.items()},
            problem=figures.problem,
        )


def _health(alarm: OpenAlarm, since: datetime) -> AlarmHealth:
    return AlarmHealth(
        since=since, fault=alarm.fault, moved=alarm.moved, p_value=alarm.p_value, reason=alarm.reason
    )
