"""Signs of life: for systemd, and as a file in the runtime directory for everyone else."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from limpet.device import directories, liveness
from limpet.device.notify import notify, watchdog_interval

if TYPE_CHECKING:
    from collections.abc import Iterable

READY_AFTER = 150.0
"""Seconds after which the start is complete even if a pipeline loads. TimeoutStartSec= in the unit is longer."""
BEAT = 5.0
"""Seconds between two signs of life where systemd does not want them more often."""


def start_complete(states: Iterable[str], seconds: float) -> bool:
    """Whether to report to systemd that the start is complete, ``seconds`` after it began.

    A worker that always says "starting" would otherwise have systemd end the service, again and again.
    """
    return seconds >= READY_AFTER or not {"starting", "stopped"}.intersection(states)


class ServiceManager:
    """Reports that the start is complete, and that the daemon makes progress."""

    def __init__(self) -> None:
        self._started = monotonic()
        self._ready = False
        self._next_beat = 0.0

    def update(self, states: Iterable[str], *, progresses: bool) -> None:
        """Report what is due. ``states`` are those of the configured pipelines."""
        now = monotonic()
        if not self._ready and start_complete(states, now - self._started):
            self._ready = True
            self._next_beat = 0.0
            notify("READY=1")
        if progresses and now >= self._next_beat:
            self._next_beat = now + (watchdog_interval() or BEAT)
            notify("WATCHDOG=1")
            if directory := directories.runtime():
                liveness.beat(directory, ready=self._ready)

    def stopping(self) -> None:
        """Report that the daemon stops."""
        notify("STOPPING=1")
