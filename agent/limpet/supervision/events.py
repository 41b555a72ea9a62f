"""Events: each has a line in the log and a message on the bus."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from limpet.contracts.drift_words import sentence
from limpet.contracts.messages import EventMessage
from limpet.device import clock
from limpet.supervision.health import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.drift import DriftEvent
    from limpet.contracts.messages import EventDetails, Origin
    from limpet.wire.records import EventDetected

log = logging.getLogger(__name__)

BAD = frozenset(
    {
        "crashed",
        "failed",
        "degraded",
        "waiting",
        "stepped_down",
        "shadow_paused",
        "shadow_failed",
        "swap_failed",
        "backup",
        "skipped",
        *("slice_behind", "retraining_advised"),
        "state_damaged",
        "audit_gap",
        "root_refused",
        "api_failed",
        "drift",
        "captures_failed",
        *("update_failed", "update_refused", "update_rolled_back", "update_waits"),
    }
)
"""Events that a person should look at."""


class Events:
    """Reports events. ``append`` puts a message on the bus."""

    def __init__(self, origin: Origin, append: Callable[[EventMessage], None]) -> None:
        self._origin = origin
        self._append = append
        self._clock = clock.ClockWatch()

    def report(
        self,
        event: str,
        pipeline: str,
        reason: str,
        offset_s: float | None = None,
        details: EventDetails | None = None,
    ) -> None:
        """Report an event. ``pipeline`` is empty for one of the whole device."""
        level = logging.WARNING if event in BAD and not _is_over(details) else logging.INFO
        fields = {"limpet_pipeline": pipeline, "limpet_event": event}
        log.log(level, "%s: %s%s", pipeline or "device", event, f": {reason}" if reason else "", extra=fields)
        time = now()
        self._append(
            EventMessage(
                device=self._origin.device,
                boot=self._origin.boot,
                time=time,
                event=event,
                pipeline=pipeline,
                reason=reason,
                offset_s=offset_s,
                details=details,
                clock=clock.mark(time),
            )
        )

    def report_drift(self, pipeline: str, event: DriftEvent) -> None:
        """Report that an alarm of a monitor begins or ends."""
        self.report("drift", pipeline, sentence(event), details=event)

    def report_detected(self, record: EventDetected) -> None:
        """Report an event that a stage detected. Such events come often, so only a debug log has them."""
        event = record.event
        kind = str(event.__struct_config__.tag)
        log.debug("%s: %s %s: %s", record.pipeline, kind, event.type, event.label)
        time = now() if record.wall_ns is None else datetime.fromtimestamp(record.wall_ns / 1e9, timezone.utc)
        self._append(
            EventMessage(
                device=self._origin.device,
                boot=self._origin.boot,
                time=time,
                event=kind,
                pipeline=record.pipeline,
                details=event,
                clock=clock.mark(time),
            )
        )

    def watch_clock(self) -> None:
        """Report if the wall clock was set since the last call."""
        if (step := self._clock.step()) is not None:
            self.report("clock_set", "", f"the wall clock was set by {step:+.3f} s", offset_s=step)


def _is_over(details: EventDetails | None) -> bool:
    return details is not None and details.type == "end"
