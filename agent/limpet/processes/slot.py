"""A worker as the supervisor sees it: the place of one source, whether a process fills it or not. No I/O."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from limpet.processes.restarts import Restarts
from limpet.records import Refused, Results, State, Transition

if TYPE_CHECKING:
    from limpet.config import Config
    from limpet.processes.channel import Channel
    from limpet.records import FromWorker

LOADING_DEADLINE = 120.0
"""Seconds that loading models may take: a GPU's first compilation takes most of a minute."""
OVER: tuple[State, ...] = ("failed", "finished")


class Slot:
    """The worker of one source: what it should run, when it was heard, when it may be restarted.

    Times are seconds on any steady clock.
    """

    def __init__(self, config: Config) -> None:
        (self.name,) = config.sources
        self.config = config
        self.channel: Channel[FromWorker] | None = None
        self.pid: int | None = None
        self.heard = 0.0
        self.ending: str | None = None
        """Why this process was told to end, or was killed, if it was."""
        self._states: dict[str, State] = {}
        self._restarts: dict[str, Restarts] = {}
        self.want(config)

    def want(self, config: Config) -> None:
        """Take another configuration of the same source."""
        changed = {
            name
            for name, pipeline in config.pipelines.items()
            if name not in self._states
            or pipeline != self.config.pipelines.get(name)
            or config.sources != self.config.sources
            or config.delegates != self.config.delegates
        }
        self._restarts = {
            name: Restarts() if name in changed else self._restarts[name] for name in config.pipelines
        }
        self._states = {name: "starting" if name in changed else self._states[name] for name in config.pipelines}
        self.config = config

    def retry(self, pipeline: str) -> None:
        """Forget what went wrong with a pipeline."""
        self._restarts[pipeline] = Restarts()
        self._states[pipeline] = "starting"

    def runnable(self, now: float) -> list[str]:
        """Return the pipelines that should run and may: those whose circuit was open get one more try."""
        return [
            name
            for name, restarts in self._restarts.items()
            if (restarts.open or self._states[name] not in OVER) and restarts.not_before <= now
        ]

    def revived(self, now: float) -> bool:
        """Whether a pipeline's circuit has cooled off while the process ran the others."""
        return self.channel is not None and any(
            restarts.open and restarts.not_before <= now and self._states[name] == "failed"
            for name, restarts in self._restarts.items()
        )

    def next_start(self) -> float | None:
        """Return when a process should be started: in the past for now, ``None`` for not at all.

        Pipelines whose circuit is open do not hold up the others.
        """
        if self.channel is not None:
            return None
        closed = [
            restarts.not_before
            for name, restarts in self._restarts.items()
            if not restarts.open and self._states[name] not in OVER
        ]
        if closed:
            return max(closed)
        return min((restarts.not_before for restarts in self._restarts.values() if restarts.open), default=None)

    def assigned(self, names: list[str], now: float) -> None:
        """Take note that the process was told to run these pipelines."""
        self.heard = now
        for name in names:
            if self._states[name] != "running":
                self._states[name] = "starting"

    def hear(self, record: FromWorker, now: float) -> None:
        """Take note of a record."""
        self.heard = now
        if isinstance(record, Transition) and record.pipeline in self._states:
            # A pipeline that stopped and is still wanted is to be started again.
            self._states[record.pipeline] = "starting" if record.state == "stopped" else record.state
            if record.state in OVER:
                self._restarts[record.pipeline].open = False
        elif isinstance(record, Results):
            for name in {item.pipeline for item in record.items} & self._restarts.keys():
                self._restarts[name].open = False
        elif isinstance(record, Refused) and not record.pipeline:
            self._states = dict.fromkeys(self._states, "failed")

    def overdue(self, now: float) -> float | None:
        """Return for how many seconds the process has been silent, if that is longer than its deadline."""
        if self.channel is None:
            return None
        deadline = min((p.deadline for p in self.config.pipelines.values()), default=LOADING_DEADLINE)
        if "starting" in self._states.values():
            deadline = max(deadline, LOADING_DEADLINE)
        silent = now - self.heard
        return silent if silent > deadline else None

    def ended(self, status: int, now: float) -> list[Transition]:
        """Take note that the process is gone; return what that means for the pipelines that it broke.

        To blame for a crash is who was loading; if nobody was, all that ran.
        """
        running = [name for name, state in self._states.items() if state not in OVER]
        reason = self.ending or describe(status)
        orderly = status == 0
        self.channel = self.pid = self.ending = None
        if orderly:
            return []
        blamed = [name for name in running if self._states[name] == "starting"] or running
        for name in blamed:
            self._restarts[name].crashed(now)
            self._states[name] = "failed" if self._restarts[name].open else "starting"
        return [self._broken(name, reason, now) for name in blamed]

    def _broken(self, name: str, reason: str, now: float) -> Transition:
        restarts = self._restarts[name]
        pause = restarts.not_before - now
        if restarts.open:
            reason = f"crashed too often ({reason}); next try in {pause:.0f} s"
        return Transition(name, self._states[name], reason)


def describe(status: int) -> str:
    """Say in words how a process ended; ``status`` is negative for a signal."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
