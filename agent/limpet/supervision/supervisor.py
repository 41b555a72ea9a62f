"""The supervisor: numbers the workers' results, hands them to the reporters, and keeps the health of it all.

One thread and one selector. It imports no numpy, opens no model and parses nothing that came from a sensor.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING

from limpet import __version__, config
from limpet.accelerators import inventory
from limpet.contracts.messages import AcceleratorHealth, DeviceHealth, EventMessage, Origin
from limpet.delivery.bus import Bus
from limpet.delivery.reporters import Reporters, resolve
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import deepest, desired
from limpet.device import boot, clock, directories, host, liveness
from limpet.device.notify import notify, watchdog_interval
from limpet.device.state_files import give_to_owner
from limpet.errors import ConfigError
from limpet.isolation import unreadable
from limpet.models import store
from limpet.supervision import governor
from limpet.supervision.commands import Commands
from limpet.supervision.fleet import Fleet
from limpet.supervision.health import PipelineRecord, now
from limpet.supervision.roster import Roster
from limpet.wire.memory_file import anonymous_file
from limpet.wire.records import (
    Ask,
    Heartbeat,
    Incident,
    Notice,
    RawResults,
    SetLogLevel,
    ToSupervisor,
    Transition,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from limpet.config import Config
    from limpet.contracts.reporter import Command
    from limpet.deployment.desired import Desired
    from limpet.fork.launch import ForkServerProcess

log = logging.getLogger(__name__)

SEARCH = 60.0
"""Seconds between two searches for inventory."""
READY_AFTER = 150.0
"""Seconds after which the start is complete even if a pipeline loads. TimeoutStartSec= in the unit is longer."""
BEAT = 5.0
"""Seconds between two signs of life where systemd does not want them more often."""
_TOLD = 2
"""Health reports over a connection after which the broker has the state of a pipeline that is gone."""
BAD = frozenset({"crashed", "failed", "degraded", "waiting", "stepped_down", "state-damaged"})
"""Events that a person should look at."""


def supervise(path: Path, launched: ForkServerProcess) -> None:
    """Run a configuration file until SIGTERM or SIGINT. ``ConfigError`` if it cannot be used."""
    with ExitStack() as stack:
        stack.callback(launched.close)
        unreadable.close_memory()
        wanted = config.read(path)
        damaged: list[str] = []
        stack.callback(give_to_owner, wanted.device.state)
        claim = boot.lock(wanted.device.state, damaged.append)
        if claim:
            stack.enter_context(claim)
        with suppress(OSError):  # A worker can read what comes into the store later only if the store exists.
            wanted.models.mkdir(parents=True, exist_ok=True)
        origin = Origin(wanted.device.id, boot.next_boot(wanted.device.state, damaged.append), __version__)
        log.info("limpet %s starts as %s, boot %s", origin.version, origin.device, origin.boot)
        roster = Roster(wanted.device.state, damaged.append)
        Supervisor(path, wanted, origin, launched, roster).run(damaged)


def start_complete(states: Iterable[str], seconds: float) -> bool:
    """Whether to report to systemd that the start is complete, ``seconds`` after it began.

    A worker that always says "starting" would otherwise have systemd end the service, again and again.
    """
    return seconds >= READY_AFTER or not {"starting", "stopped"}.intersection(states)


class Supervisor:
    """The event loop and what it does with each record."""

    def __init__(
        self, path: Path, wanted: Config, origin: Origin, launched: ForkServerProcess, roster: Roster
    ) -> None:
        self._path = path
        self._config = wanted
        self._origin = origin
        self._roster = roster
        self._told = 0
        # Not epoll: what it may watch is limited for all processes of a user, and a worker could use that up.
        self._selector = selectors.PollSelector()
        self._bus = Bus()
        self._fleet = Fleet(self._selector, launched, self._hear)
        self._reporters = Reporters(
            origin, wanted.device.state, self._bus, self._take_command if wanted.device.commands else None
        )
        self._remote = Commands(origin, wanted.device.commands, self)
        self._commands: deque[Command] = deque()
        self._wake: socket.socket | None = None
        self._records: dict[str, PipelineRecord] = {}
        self._host = host.Host(wanted.device.sysroot)
        self._governor = governor.Governor(wanted.governor)
        self._desired: Desired
        self._next_look = 0.0
        self._next_search = 0.0
        self._found: list[AcceleratorHealth] = []
        self._clock = clock.Watch()
        self._signals: set[int] = set()
        self._ready = False
        self._started = monotonic()
        self._next_health = 0.0
        self._next_sign = 0.0

    def run(self, damaged: Sequence[str] = ()) -> None:
        """Work until told to stop. ``ConfigError`` if the options of plugins cannot be used.

        ``damaged`` says what was wrong with the state directory.
        """
        try:
            with self._signal_wakeup():
                checking = self._fleet.check(self._config)
                resolve(self._config)  # imports the reporters while the checker works
                if problems := checking.problems():
                    raise ConfigError(problems)
                self._assign()
                self._reporters.adopt(self._config)
                self._report_models()
                self._dismiss()
                for reason in damaged:
                    self._event("state-damaged", "", reason)
                while not self._signals & {signal.SIGTERM, signal.SIGINT}:
                    self._turn()
                notify("STOPPING=1")
                self._fleet.stop()
                self._report_health()
        finally:
            self._reporters.close()
            self._fleet.close()
            self._selector.close()

    def _turn(self) -> None:
        due = min(self._fleet.next_due(), self._next_health, self._next_look or self._next_health)
        for key, _ in self._selector.select(max(0.0, due - monotonic())):
            key.data()
        if signal.SIGHUP in self._signals:
            self._signals.discard(signal.SIGHUP)
            self._reload()
        while self._commands:
            self._remote.obey(self._commands.popleft())
        self._remote.tend()
        self._fleet.tend()
        self._reporters.tend()
        self._tell_systemd()
        self._watch_clock()
        self._govern()
        if monotonic() >= self._next_health:
            self._next_health = monotonic() + self._config.device.health_interval
            self._report_health()

    @contextmanager
    def _signal_wakeup(self) -> Iterator[None]:
        """Have SIGTERM, SIGINT and SIGHUP end the wait of the selector."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, lambda received, _: self._signals.add(received))
            signal.set_wakeup_fd(theirs.fileno())
            self._wake = theirs
            self._selector.register(ours, selectors.EVENT_READ, lambda: ours.recv(4096))
            try:
                yield
            finally:
                signal.set_wakeup_fd(-1)
                self._wake = None
                self._selector.unregister(ours)

    # --- what workers say

    def _hear(self, record: ToSupervisor) -> None:
        if isinstance(record, RawResults):
            for result in record.items:
                self._bus.append(self._record(result.pipeline).accept(result))
        elif isinstance(record, Heartbeat):
            for name, figures in record.pipelines.items():
                self._record(name).add(figures, record.dropped)
        elif isinstance(record, Transition):
            self._move(record)
        elif isinstance(record, Incident | Notice):
            self._record(record.pipeline).restarts += record.event == "crashed"
            self._event(record.event, record.pipeline, record.reason)
        else:
            self._remote.answered(record)

    def _record(self, pipeline: str) -> PipelineRecord:
        if pipeline not in self._records:
            self._records[pipeline] = PipelineRecord(self._origin, pipeline, Transition(pipeline, "stopped"))
        return self._records[pipeline]

    def _move(self, to: Transition) -> None:
        record = self._record(to.pipeline)
        for event, reason in record.move(to):
            self._event(event, to.pipeline, reason)
        self._bus.append(record.health())
        self._bus.append(record.model())

    def _watch_clock(self) -> None:
        if (step := self._clock.step()) is not None:
            self._event("clock-set", "", f"the wall clock was set by {step:+.3f} s", offset_s=step)

    def _event(self, event: str, pipeline: str, reason: str, offset_s: float | None = None) -> None:
        level = logging.WARNING if event in BAD else logging.INFO
        fields = {"limpet_pipeline": pipeline, "limpet_event": event}
        log.log(level, "%s: %s%s", pipeline or "device", event, f": {reason}" if reason else "", extra=fields)
        time = now()
        self._bus.append(
            EventMessage(
                device=self._origin.device,
                boot=self._origin.boot,
                time=time,
                event=event,
                pipeline=pipeline,
                reason=reason,
                offset_s=offset_s,
                clock=clock.mark(time),
            )
        )

    # --- commands, see limpet.supervision.commands

    def _take_command(self, command: Command) -> None:
        """Have the main thread obey a command. Called by a reporter's thread."""
        self._commands.append(command)
        wake = self._wake
        if wake is not None:
            with suppress(OSError):  # full: it has wake-ups enough; closed: the daemon stops
                wake.send(b"\0")

    def health_now(self) -> DeviceHealth:
        """Publish all health, and return the device's."""
        return self._report_health()

    def restart(self, pipeline: str) -> None:
        """End a pipeline's worker so that it is started anew. ``KeyError`` if it has none."""
        self._fleet.restart(pipeline)

    def ask(self, pipeline: str, ask: Ask, payload: bytes = b"") -> None:
        """Have a pipeline's worker answer. ``KeyError`` if it has none."""
        if not payload:
            self._fleet.ask(pipeline, ask)
            return
        # Through the socket it could fill what the worker has not read yet, which is taken for not listening.
        with anonymous_file() as file:
            file.write(payload)
            file.flush()
            self._fleet.ask(pipeline, ask, (file.fileno(),))

    def set_log_level(self, level: str) -> None:
        """Set it in this process and all workers."""
        logging.getLogger().setLevel(level)
        self._fleet.ask_all(Ask(0, SetLogLevel(level)))

    # --- health

    def _dismiss(self) -> None:
        """Report that the pipelines of earlier configurations are stopped: a broker may retain another state."""
        for name in self._roster.adopt(self._config.pipelines):
            if name not in self._records:  # else its worker says so
                self._move(Transition(name, "stopped", "no longer configured"))
        self._told = 0

    def _forget_dismissed(self) -> None:
        """Forget what is gone once its last state is out: after two health reports over a connection."""
        self._told = self._told + 1 if self._reporters.connected() else 0
        if self._told > _TOLD and self._roster.gone:
            self._roster.forget()

    def _report_health(self) -> DeviceHealth:
        for record in self._records.values():
            self._bus.append(record.health())
        health = self._device_health()
        self._bus.append(health)
        self._forget_dismissed()
        return health

    def _device_health(self) -> DeviceHealth:
        return DeviceHealth(
            device=self._origin.device,
            boot=self._origin.boot,
            version=self._origin.version,
            time=now(),
            uptime_s=host.uptime_s(),
            cpu_share=self._host.cpu_share(),
            load_1m=self._host.load_1m(),
            pss_mb=self._host.pss_mb([os.getpid(), *self._fleet.pids().values()]),
            memory_available_mb=self._host.memory_available_mb(),
            temperature_c=self._host.temperature_c(),
            throttled=self._host.throttled(),
            disk_free_mb=host.disk_free_mb(self._config.device.state),
            clock_synchronised=host.clock_synchronised(),
            accelerators=self._accelerators(),
            pipelines={name: record.last.state for name, record in self._records.items()},
            reporters=self._reporters.health(),
        )

    def _accelerators(self) -> list[AcceleratorHealth]:
        """Return what there is; looked for once a minute at most, as that reads some hundred files."""
        if monotonic() >= self._next_search:
            self._next_search = monotonic() + SEARCH
            self._found = [
                AcceleratorHealth(
                    name=one.name, where=one.where, delegate=one.delegate, usable=one.usable, why_not=one.why_not
                )
                for one in inventory.discover()
            ]
        return self._found

    def _tell_systemd(self) -> None:
        states = [self._record(name).last.state for name in self._config.pipelines]
        if not self._ready and start_complete(states, monotonic() - self._started):
            self._ready = True
            self._next_sign = 0.0
            notify("READY=1")
        if monotonic() >= self._next_sign and self._fleet.progresses():
            self._next_sign = monotonic() + (watchdog_interval() or BEAT)
            notify("WATCHDOG=1")
            if directory := directories.runtime():
                liveness.beat(directory, ready=self._ready)

    # --- configuration

    def _desire(self) -> Desired:
        found = {
            model: store.candidates(model, self._config.folders)
            for pipeline in self._config.pipelines.values()
            for model in pipeline.models
        }
        return desired(self._config, found, level=self._governor.level)

    def _assign(self) -> None:
        """Have the workers run what should run."""
        self._desired = self._desire()
        self._fleet.assign(assignments(self._desired))

    def _report_models(self) -> None:
        """Report the pipelines that have no model as failed."""
        for name, pipeline in self._desired.pipelines.items():
            if pipeline.model is None:
                self._move(Transition(name, "failed", pipeline.problem))

    def _govern(self) -> None:
        """Have pipelines step down or up their ladders if it is time to."""
        lowest = deepest(self._config)
        if not lowest or monotonic() < self._next_look:
            return
        self._next_look = monotonic() + self._config.governor.interval
        before, level = self._desired, self._governor.level
        if reason := self._governor.update(self._host.readings(), lowest, monotonic()):
            self._assign()
            self._report_models()
            event = "stepped_down" if self._governor.level > level else "stepped_up"
            for name, pipeline in self._desired.pipelines.items():
                if pipeline != before.pipelines[name]:
                    self._event(event, name, f"{reason}; runs {governor.described(pipeline)}")

    def _reload(self) -> None:
        try:
            wanted = config.read(self._path)
            if wanted.device != self._config.device:
                raise ConfigError(["device: changes here need a restart of the service"])  # noqa: TRY301
            if problems := self._fleet.check(wanted).problems():
                raise ConfigError(problems)  # noqa: TRY301
            self._reporters.adopt(wanted)
        except Exception as error:
            if not isinstance(error, ConfigError):
                log.exception("the configuration is not taken")
            self._event("refused", "", f"configuration not taken: {error}")
            return
        finally:
            self._fleet.excuse()
        log.info("configuration read again")
        self._config = wanted
        self._governor.table = wanted.governor
        self._assign()
        self._report_models()
        self._dismiss()
