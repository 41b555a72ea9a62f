"""The supervisor's loop: what workers made goes to the ledger, and from there on the bus to the reporters.

One thread and one selector. It imports no numpy, opens no model and parses nothing that came from a sensor.
"""

from __future__ import annotations

import logging
import selectors
import signal
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING

from limpet import __version__, config
from limpet.contracts.messages import Origin
from limpet.delivery.bus import Bus
from limpet.delivery.reporters import Reporters, resolve
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import deepest, desired
from limpet.device import boot, host
from limpet.device.state_files import give_to_owner
from limpet.errors import ConfigError
from limpet.isolation import unreadable
from limpet.models import store
from limpet.supervision import governor
from limpet.supervision.commands import Commands
from limpet.supervision.events import Events
from limpet.supervision.fleet import Fleet
from limpet.supervision.health import DeviceReader, HealthReader, model_reported, now
from limpet.supervision.ledger import Ledger
from limpet.supervision.roster import Roster
from limpet.supervision.service_manager import ServiceManager
from limpet.wakeup import Wakeup
from limpet.wire.records import Heartbeat, Incident, Notice, RawResults, ToSupervisor, Transition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from limpet.config import Config
    from limpet.contracts.messages import DeviceHealth
    from limpet.deployment.desired import Desired
    from limpet.fork.launch import ForkServerProcess

log = logging.getLogger(__name__)


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


class Supervisor:
    """The event loop and what it does with each record."""

    def __init__(
        self, path: Path, wanted: Config, origin: Origin, launched: ForkServerProcess, roster: Roster
    ) -> None:
        self._path = path
        self._config = wanted
        self._roster = roster
        # Not epoll: what it may watch is limited for all processes of a user, and a worker could use that up.
        self._selector = selectors.PollSelector()
        self._wakeup = Wakeup()
        self._signals: set[int] = set()
        self._bus = Bus()
        self._ledger = Ledger(origin, self._bus.append)
        self._events = Events(origin, self._bus.append)
        self._fleet = Fleet(self._selector, launched, self._hear)
        self._commands = Commands(
            origin, wanted.device.commands, self._fleet, self._publish_health, self._wakeup.wake
        )
        obey = self._commands.take if wanted.device.commands else None
        self._reporters = Reporters(origin, wanted.device.state, self._bus, obey)
        self._origin = origin
        self._host = host.Host(wanted.device.sysroot)
        self._health = HealthReader(origin)
        self._device = DeviceReader(origin, self._host, wanted.device.state)
        self._next_health = 0.0
        self._service_manager = ServiceManager()
        self._governor = governor.Governor(wanted.governor)
        self._desired: Desired
        self._next_look = 0.0

    def run(self, damaged: Sequence[str] = ()) -> None:
        """Work until told to stop. ``ConfigError`` if the options of plugins cannot be used.

        ``damaged`` says what was wrong with the state directory.
        """
        try:
            with self._signal_handlers():
                checking = self._fleet.check(self._config)
                resolve(self._config)  # imports the reporters while the checker works
                if problems := checking.problems():
                    raise ConfigError(problems)
                self._assign()
                self._reporters.adopt(self._config)
                self._report_models()
                self._dismiss()
                for reason in damaged:
                    self._events.report("state-damaged", "", reason)
                while not self._signals & {signal.SIGTERM, signal.SIGINT}:
                    self._turn()
                self._service_manager.stopping()
                self._fleet.stop()
                self._publish_health()
        finally:
            self._reporters.close()
            self._fleet.close()
            self._selector.close()
            self._wakeup.close()

    def _turn(self) -> None:
        due = min(self._fleet.next_due(), self._next_health, self._next_look or self._next_health)
        for key, _ in self._selector.select(max(0.0, due - monotonic())):
            key.data()
        if signal.SIGHUP in self._signals:
            self._signals.discard(signal.SIGHUP)
            self._reload()
        self._commands.tend()
        self._fleet.tend()
        self._reporters.tend()
        states = [self._ledger.account(name).last.state for name in self._config.pipelines]
        self._service_manager.update(states, progresses=self._fleet.progresses())
        self._events.watch_clock()
        self._govern()
        if monotonic() >= self._next_health:
            self._next_health = monotonic() + self._config.device.health_interval
            self._publish_health()

    @contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        """Have SIGTERM, SIGINT and SIGHUP end the wait of the selector."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _: self._signals.add(received))
        self._wakeup.on_signals()
        self._selector.register(self._wakeup.socket, selectors.EVENT_READ, self._wakeup.clear)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            self._selector.unregister(self._wakeup.socket)

    # --- what workers report

    def _hear(self, cell: str, record: ToSupervisor) -> None:
        """Take a record of a cell's worker, or about it. ``UnreadableError`` if the worker may not say that."""
        if isinstance(record, RawResults):
            self._ledger.accept(cell, record.items, monotonic())
        elif isinstance(record, Heartbeat):
            self._ledger.add(cell, record, monotonic())
        elif isinstance(record, Transition):
            self._move(record)
        elif isinstance(record, Incident | Notice):
            self._ledger.account(record.pipeline).restarts += record.event == "crashed"
            self._events.report(record.event, record.pipeline, record.reason)
        else:
            self._commands.answered(record)

    def _move(self, to: Transition) -> None:
        account = self._ledger.account(to.pipeline)
        for event, reason in account.move(to):
            self._events.report(event, to.pipeline, reason)
        self._bus.append(self._health.pipeline(account, now()))
        self._bus.append(model_reported(self._origin, account, now()))

    # --- health

    def _publish_health(self) -> DeviceHealth:
        """Publish all health, and return the device's."""
        for account in self._ledger.accounts.values():
            self._bus.append(self._health.pipeline(account, now()))
        health = self._device.device(self._ledger, self._fleet.pids().values(), self._reporters.health())
        self._bus.append(health)
        self._roster.health_published(connected=self._reporters.connected())
        return health

    def _dismiss(self) -> None:
        """Report that the pipelines of earlier configurations are stopped: a broker may retain another state."""
        for name in self._roster.adopt(self._config.pipelines):
            if name not in self._ledger.accounts:  # else its worker reports it
                self._move(Transition(name, "stopped", "no longer configured"))

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
        cells = assignments(self._desired)
        owners = {pipeline: name for name, cell in cells.items() for pipeline in cell.pipelines}
        self._ledger.assign(owners, monotonic())
        self._fleet.assign(cells)

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
                    self._events.report(event, name, f"{reason}; runs {governor.described(pipeline)}")

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
            self._events.report("refused", "", f"configuration not taken: {error}")
            return
        finally:
            self._fleet.excuse()
        log.info("configuration read again")
        self._config = wanted
        self._governor.table = wanted.governor
        self._assign()
        self._report_models()
        self._dismiss()
