"""The supervisor's loop: what workers made goes to the ledger, and from there on the bus to the reporters.

One thread and one selector. It imports no numpy, opens no model and parses nothing that came from a sensor.
"""

from __future__ import annotations

import logging
import selectors
import signal
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from limpet import config as configuration
from limpet.contracts.messages import Origin, PipelineRemoved, SnapshotMessage
from limpet.delivery.bus import Bus
from limpet.delivery.deliveries import DeliveryInbox
from limpet.delivery.reporters import Reporters, inspect
from limpet.device import directories, host
from limpet.errors import ConfigError, ConfigFileError
from limpet.supervision import governor
from limpet.supervision.adoption import Adoption
from limpet.supervision.auditing import Auditing
from limpet.supervision.backup import Backups
from limpet.supervision.cell_pipelines import AT_WORK
from limpet.supervision.checking import Known
from limpet.supervision.commands import Commands
from limpet.supervision.ending import Ending
from limpet.supervision.events import Events
from limpet.supervision.fleet import Fleet
from limpet.supervision.health import DeviceReader, HealthReader, model_reported, now
from limpet.supervision.ledger import BackupModel, Ledger
from limpet.supervision.plan import Plan
from limpet.supervision.service_manager import ServiceManager
from limpet.supervision.shadows import clean as clean_shadow
from limpet.supervision.shadows import failure as shadow_failure
from limpet.supervision.showing import Showing
from limpet.supervision.traffic import LEAVING
from limpet.supervision.updates import Calls, Surroundings, Updater
from limpet.updates.answers import Pairs
from limpet.updates.comparison import Comparisons
from limpet.wakeup import Wakeup
from limpet.wire.records import (
    EventDetected,
    Heartbeat,
    Incident,
    LeftOut,
    Notice,
    RawResults,
    ShadowFailed,
    Snapshot,
    ToSupervisor,
    Transition,
)
from limpet.wording import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from limpet.audit.journal import Journal
    from limpet.config import Config
    from limpet.contracts.assignment import Assignment, FoundModel, ShadowAssignment
    from limpet.contracts.commands import Feedback
    from limpet.contracts.messages import DeviceHealth, FeedbackTaken, State
    from limpet.delivery.monitor import Monitor
    from limpet.fork.launch import ForkServerProcess
    from limpet.models.deployed import Kept
    from limpet.models.history import History
    from limpet.supervision.checking import Checking
    from limpet.supervision.ledger import Account
    from limpet.supervision.roster import Roster
    from limpet.updates.stimuli import Ordered
    from limpet.wire.records import Ask

log = logging.getLogger(__name__)

_CONNECTION_LOOK = 1.0
"""Seconds between two looks at whether the reporters are connected."""
DELIVERY_LOOK = 0.05
"""Seconds between two looks at what is not delivered, when that is all that is left to do."""


class Attendance(NamedTuple):
    """A person or a script that started the daemon.

    ``ends``: if all pipelines are in these states, the daemon ends. ``open`` begins to show what happens. It gets
    a function to end the daemon with.
    """

    ends: Collection[State]
    open: Callable[[Monitor, Callable[[], None]], AbstractContextManager[object] | None]


class Memory(NamedTuple):
    """What is known from earlier runs."""

    roster: Roster
    history: History
    journal: Journal
    updates: Kept


def placed(path: Path, error: ConfigError) -> ConfigFileError:
    """Return a problem with its place in a file. The finder of places is imported only if it is needed."""
    if isinstance(error, ConfigFileError):
        return error
    from limpet.problems.locate import read_and_locate

    return ConfigFileError(read_and_locate(path, error.problems))


class _Workers:
    """The workers, as commands use them: ``restart`` also tries the models again that failed."""

    def __init__(
        self,
        fleet: Fleet,
        retry: Callable[[str], None],
        order: Callable[[str, Ordered], str],
        comparisons: Comparisons,
    ) -> None:
        self._fleet = fleet
        self._retry = retry
        self._order = order
        self._comparisons = comparisons

    def restart(self, pipeline: str) -> None:
        """End a pipeline's worker so that it is started again. ``KeyError`` if it has none."""
        self._fleet.restart(pipeline)
        self._retry(pipeline)

    def order(self, pipeline: str, ordered: Ordered) -> str:
        """Obey an order about the model of a pipeline. Return why not, if so. ``KeyError`` if there is none."""
        return self._order(pipeline, ordered)

    def feedback(self, feedback: Feedback) -> FeedbackTaken:
        """Count which of two models was right. ``ValueError`` if the truth cannot be compared with answers."""
        return self._comparisons.feedback(feedback.id, feedback.truth, feedback.tolerance)

    def ask(self, pipeline: str, ask: Ask, fds: tuple[int, ...] = ()) -> None:
        """Have a pipeline's worker answer. ``KeyError`` if it has none."""
        self._fleet.ask(pipeline, ask, fds)

    def ask_all(self, ask: Ask) -> None:
        """Have every worker answer."""
        self._fleet.ask_all(ask)


class Supervisor:
    """The event loop and what it does with each record."""

    def __init__(
        self, path: Path, wanted: Config, origin: Origin, launched: ForkServerProcess, memory: Memory
    ) -> None:
        self._path = path
        self._roster, self._history, self._journal, kept = memory
        self._auditing = Auditing(self._journal)
        # Not epoll: what it may watch is limited for all processes of a user, and a worker could use that up.
        self._selector = selectors.PollSelector()
        self._wakeup = Wakeup()
        self._signals: set[int] = set()
        self._bus = Bus()
        self._ledger = Ledger(origin, self._bus.extend)
        socket = directories.monitor(wanted.device.state)
        self._showing = Showing(origin, self._bus, socket, self._selector)
        self._events = Events(origin, self._showing.monitor.append)
        self._fleet = Fleet(self._selector, launched, self._hear)
        self._comparisons = Comparisons(origin.device, origin.boot)
        self._deliveries = DeliveryInbox(self._wakeup.wake)
        self._host = host.Host(wanted.device.sysroot)
        surroundings = Surroundings(self._fleet, self._deliveries, self._host, self._journal, self._comparisons)
        self._updates = Updater(wanted, kept, surroundings, self._calls())
        self._config = self._updates.boot()
        self._backups = Backups(self._config.pipelines)
        self._commands = Commands(
            origin,
            wanted.device.commands,
            _Workers(self._fleet, self._retry, self._updates.order, self._comparisons),
            self._publish_health,
            self._wakeup.wake,
            self._auditing.commanded,
        )
        obey = self._commands.take if wanted.device.commands else None
        self._reporters = Reporters(origin, wanted.device.state, self._bus, obey, self._deliveries)
        self._origin = origin
        self._health = HealthReader(origin)
        self._device = DeviceReader(origin, self._host, wanted.device.state)
        self._next_health = 0.0
        self._next_connection_look = 0.0
        self._reported_connected = False
        """Whether the reporters were connected when health was last published."""
        self._service_manager = ServiceManager()
        self._governor = governor.Governor(wanted.governor)
        self._ending = Ending(())
        self._view = ExitStack()
        self._over = False
        self._plan: Plan
        self._checking: Checking | None = None
        self._is_selected = True
        """Whether what runs is what updates select, or is being changed to that."""
        self._adoption: Adoption | None = None
        self._next_look = 0.0
        self._leaving: dict[str, float] = {}
        """Pipelines that are not configured any more, and until when their workers may report that they stop."""

    def run(self, attendance: Attendance, damaged: Sequence[str] = ()) -> dict[str, str]:
        """Work until SIGTERM or SIGINT, or the end. Return the reasons of pipelines that have failed.

        ``damaged`` says what was wrong with the state directory. ``ConfigError`` if the options of plugins cannot
        be used.
        """
        self._ending = Ending(attendance.ends)
        try:
            with self._signal_handlers():
                checking = self._fleet.check(self._config)
                problems, denied = inspect(self._config)  # imports the reporters while the checker works
                if not self._wait_for(checking):
                    return {}
                if problems := [*problems, *denied, *checking.problems]:
                    raise ConfigError(problems)
                self._plan = Plan(self._config, checking.found)
                self._showing.open()
                if view := attendance.open(self._showing.monitor, self._end):
                    self._view.enter_context(view)
                self._assign()
                self._fleet.roots.use(self._config, self)
                self._reporters.adopt(self._config)
                self._report_plan()
                self._report_removed_pipelines()
                self._auditing.configured(self._path)
                for reason in damaged:
                    self._report_damage(reason)
                self._updates.begin()
                while not self._stopping():
                    self._turn()
                self._service_manager.stopping()
                failed = self._failed()
                self._fleet.stop()
                self._publish_health()
                return failed
        finally:
            if self._adoption is not None:
                self._adoption.wait()
            self._view.close()
            self._reporters.close()
            self._showing.close()
            self._fleet.close()
            self._journal.close()
            self._selector.close()
            self._wakeup.close()

    def _stopping(self) -> bool:
        return self._over or bool(self._signals & {signal.SIGTERM, signal.SIGINT})

    def _end(self) -> None:
        """End the daemon. From any thread."""
        self._over = True
        self._wakeup.wake()

    def _failed(self) -> dict[str, str]:
        """Return the reasons of pipelines that have failed."""
        last = {name: self._ledger.account(name).last for name in self._config.pipelines}
        return {name: one.reason for name, one in last.items() if one.state == "failed"}

    def _end_if_over(self) -> None:
        """End the daemon if all pipelines are over, nothing is tried again, and the reporters have sent it all."""
        states = [self._ledger.account(name).last.state for name in self._config.pipelines]
        if not self._ending.is_over(states) or self._checking or self._adoption or not self._fleet.rests():
            return
        if not self._ending.begun:
            log.info("all pipelines are over; the daemon ends once their results are delivered")
        undelivered, connected = self._reporters.undelivered(), self._reporters.connected()
        if self._ending.is_delivered(undelivered, connected=connected, now=monotonic()):
            self._over = True

    def _wait_for(self, checking: Checking) -> bool:
        """Do nothing else until a check is done. Return ``False`` if the daemon is to stop before that."""
        while not checking.done and not self._stopping():
            self._select(self._fleet.next_due())
            self._fleet.tend()
        return checking.done

    def _select(self, due: float) -> None:
        for key, _ in self._selector.select(max(0.0, due - monotonic())):
            key.data()

    def _turn(self) -> None:
        due = min(self._fleet.next_due(), self._next_health, self._next_look or self._next_health)
        due = min(due, self._updates.next_due() or due)
        if self._ending.begun:
            due = min(due, monotonic() + DELIVERY_LOOK)
        self._select(due)
        if signal.SIGHUP in self._signals:
            self._signals.discard(signal.SIGHUP)
            self._updates.take_requests()
            self._select_models()  # Before a reload, as a person may want to go back at once.
            self._begin_reload()
        if self._adoption is not None and self._adoption.done:
            self._finish_reload(self._adoption)
        if self._adoption is None and self._checking is not None and self._checking.done:
            checking, self._checking = self._checking, None
            if checking.options:
                self._adopt_reporters(checking)
            else:
                self._take_models(checking)
        self._tend_updates()
        self._commands.tend()
        self._fleet.tend()
        self._forget_removed_pipelines()
        if self._adoption is None:
            self._reporters.tend()
        states = [self._ledger.account(name).last.state for name in self._config.pipelines]
        self._service_manager.update(states, progresses=self._fleet.progresses())
        self._events.watch_clock()
        self._govern()
        self._tend_backups()
        self._showing.tend(self._ledger.current)
        self._tend_journal()
        self._end_if_over()
        if monotonic() >= self._next_health or self._is_connection_news():
            self._next_health = monotonic() + self._config.device.health_interval
            self._publish_health()

    def _is_connection_news(self) -> bool:
        """Return whether brokers came or went since health was published. It is looked up once a second."""
        if monotonic() < self._next_connection_look:
            return False
        self._next_connection_look = monotonic() + _CONNECTION_LOOK
        return self._reporters.connected() != self._reported_connected

    @contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        """Have SIGTERM, SIGINT and SIGHUP end the wait of the selector."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _: self._signals.add(received))
        self._wakeup.on_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked by ``limpet.cli``
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
            self._accept(cell, record)
        elif isinstance(record, Heartbeat):
            self._count(cell, record)
        elif isinstance(record, Snapshot | EventDetected | LeftOut | Pairs | ShadowFailed):
            self._pass_on(cell, record)
        elif isinstance(record, Transition):
            if self._plan.runs(record.pipeline) and not self._ledger.has_moved(cell, record.pipeline):
                on_trial = record.pipeline in self._updates.on_trial
                self._move(record)
                self._hear_move(record, on_trial=on_trial)
        elif isinstance(record, Incident | Notice):
            self._ledger.account(record.pipeline).restarts += record.event == "crashed"
            self._events.report(record.event, record.pipeline, record.reason)
            if isinstance(record, Incident):
                if self._plan.hear_incident(record):
                    self._look_again()
                if record.event == "swap_failed" and record.pipeline not in self._updates.on_trial:
                    self._backups.not_back(record.pipeline, record.why or record.reason, monotonic())
                self._updates.had_incident(record)
        else:
            self._commands.answered(record)

    def _hear_move(self, to: Transition, *, on_trial: bool) -> None:
        """Decide what a new state of a pipeline means for its models. A model on trial is rolled back instead."""
        if self._plan.hear(to):
            self._look_again()
        elif to.state == "failed" and not on_trial and self._plan.is_about_model(to):
            self._back_up(to.pipeline, to.reason)
        elif to.state == "running" and self._plan.runs_main(to) and self._backups.ran(to.pipeline, monotonic()):
            self._ledger.account(to.pipeline).backup = None

    def _accept(self, cell: str, record: RawResults) -> None:
        accepted = self._ledger.accept(cell, record.items, monotonic())
        if self._comparisons.at_work:
            self._comparisons.take_results(accepted)
        if self._updates.on_trial:
            self._updates.accepted(record)

    def _count(self, cell: str, record: Heartbeat) -> None:
        self._ledger.add(cell, record, monotonic())
        if self._comparisons.at_work:
            for pipeline, figures in record.pipelines.items():
                self._comparisons.take_errors(pipeline, figures.errors)
        if self._backups.watched:
            self._watch_latencies(record)
        if cell in self._plan.cells:
            self._showing.show_inputs(cell, record)

    def _watch_latencies(self, record: Heartbeat) -> None:
        """Have the backup models of pipelines take over whose main ones are too slow."""
        for pipeline in record.pipelines:
            if pipeline in self._updates.on_trial:
                continue
            if reason := self._backups.slow(pipeline, self._ledger.account(pipeline).latency.get("invoke", {})):
                self._back_up(pipeline, reason)

    def _pass_on(self, cell: str, record: Snapshot | EventDetected | LeftOut | Pairs | ShadowFailed) -> None:
        if isinstance(record, Snapshot):
            self._ledger.accept_snapshot(cell, record, monotonic())
        elif isinstance(record, EventDetected):
            self._events.report_detected(record)
        elif isinstance(record, Pairs | ShadowFailed):
            if not self._ledger.has_moved(cell, record.pipeline):
                self._hear_of_shadow(record)
        else:
            self._ledger.account(record.pipeline).events_left_out += 1

    def _hear_of_shadow(self, record: Pairs | ShadowFailed) -> None:
        if isinstance(record, Pairs):
            self._comparisons.take_pairs(record)
        else:
            self._events.report("shadow_failed", record.pipeline, shadow_failure(record))
            self._updates.shadow_failed(record)

    def _move(self, to: Transition) -> None:
        account = self._ledger.account(to.pipeline)
        if account.removed:
            return
        for event, reason in account.move(to):
            self._events.report(event, to.pipeline, reason)
        if to.state == "running":
            self._history.ran(to.pipeline, to.model, to.version)
            wanted = self._plan.desired.pipelines.get(to.pipeline)
            self._auditing.ran(to.pipeline, to.model, to.version, wanted.model if wanted else None)
        self._bus.append(self._health.pipeline(account, now()))
        self._publish_model(to.pipeline)
        self._updates.moved(to, self._plan.identity(to, self._fleet.in_use()))
        if to.pipeline in self._leaving and to.state == "stopped":
            self._remove(account)

    def _remove(self, account: Account) -> None:
        """Have the state of a pipeline that is not configured any more forgotten, here and by brokers."""
        self._leaving.pop(account.pipeline, None)
        account.removed = True
        self._bus.append(PipelineRemoved(device=self._origin.device, pipeline=account.pipeline, time=now()))

    # --- health

    def _publish_health(self) -> DeviceHealth:
        """Publish all health, and return the device's."""
        for account in self._ledger.current:
            self._bus.append(self._health.pipeline(account, now()))
        self._reported_connected = self._reporters.connected()
        self._auditing.trusts(self._fleet.roots.report)
        self._tend_journal()
        health = self._device.device(self._ledger, self._fleet.pids().values(), self._reporters.health())
        health.audit = self._auditing.health()
        health.trust = self._fleet.roots.report
        self._bus.append(health)
        self._journal.published()
        self._roster.health_published(connected=self._reporters.connected())
        return health

    def _tend_journal(self) -> None:
        """Have the disk keep what was written into the audit journal, and report what is wrong with it."""
        for event, reason in self._journal.tend():
            self._events.report(event, "", reason)

    def _report_removed_pipelines(self) -> None:
        """Report that pipelines of earlier configurations are stopped, and clear what brokers retain of them."""
        self._history.forget_all_but(self._config.pipelines)
        self._leaving = {name: at for name, at in self._leaving.items() if name not in self._config.pipelines}
        pictured = [name for name, one in self._config.pipelines.items() if one.snapshots is not None]
        gone = self._roster.adopt(self._config.pipelines, pictured)
        for name in self._roster.unpictured:
            self._bus.append(SnapshotMessage(device=self._origin.device, pipeline=name, time=now()))
        for name in gone:
            runs = self._ledger.account(name).last.state in AT_WORK
            self._leaving[name] = monotonic() + (LEAVING if runs else 0.0)  # its worker reports that it stops
        self._forget_removed_pipelines()

    def _forget_removed_pipelines(self) -> None:
        """Take pipelines as stopped whose workers do not report it."""
        for name in [name for name, at in self._leaving.items() if at <= monotonic()]:
            self._move(Transition(name, "stopped", "no longer configured"))

    # --- updates of models

    def _calls(self) -> Calls:
        """Return what updates have done here."""
        return Calls(
            select=self._want_selection,
            shadow=self._set_shadow,
            publish=self._publish_model,
            report=self._events.report,
            try_out=self._try_out,
            has_model=self._has_model,
        )

    def _try_out(self, pipeline: str, model: FoundModel) -> Assignment | None:
        return self._plan.try_out(pipeline, model)

    def _has_model(self, pipeline: str) -> bool:
        return self._plan.has_model(pipeline)

    def _want_selection(self) -> None:
        self._is_selected = False

    def _set_shadow(self, pipeline: str, shadow: ShadowAssignment | None) -> None:
        """Begin or end a shadow. The pipeline is left alone."""
        self._plan.shadow(pipeline, shadow)
        self._assign()
        if shadow is None:
            clean_shadow(self._config.folders, pipeline)

    def _publish_model(self, pipeline: str) -> None:
        account = self._ledger.account(pipeline)
        self._bus.append(model_reported(self._origin, account, now(), self._updates.report(pipeline)))

    def _tend_updates(self) -> None:
        """Take what came from outside about models, and do what is due."""
        for delivery in self._deliveries.take_states():
            if delivery.kind == "desired":
                self._updates.take(delivery)
            else:
                self._fleet.roots.take(delivery.payload)
        self._updates.take_chunks()
        self._updates.tend()
        self._select_models()

    # --- configuration

    def _assign(self) -> None:
        """Have the workers run what should run."""
        cells = self._plan.cells
        owners = {pipeline: name for name, cell in cells.items() for pipeline in cell.pipelines}
        self._ledger.assign(owners, monotonic())
        self._showing.keep(self._config.sources, self._ledger.accounts)
        self._fleet.assign(cells)

    def _report_plan(self) -> None:
        """Report pipelines that have no model, and those that do not run the one that they should."""
        for move in self._plan.failed:
            self._move(move)
            self._back_up(move.pipeline, move.reason)
        for news in self._plan.news:
            self._events.report(news.event, news.pipeline, news.reason)

    def _back_up(self, pipeline: str, reason: str) -> None:
        """Have the backup model of a pipeline take over, if it has one."""
        if self._plan.has_backup(pipeline):
            self._backups.failed(pipeline, reason, monotonic())

    def _tend_backups(self) -> None:
        """Have pipelines change to their backup models, and back."""
        self._backups.tend(monotonic())
        active = self._backups.active
        if active.keys() == self._plan.backups:
            return
        self._plan.back_up(active, self._fleet.in_use())
        for name, reason in active.items():
            if model := self._plan.desired.pipelines[name].model:
                self._ledger.account(name).backup = BackupModel(model.name, model.version, reason)
        self._assign()
        self._report_plan()

    def _govern(self) -> None:
        """Have pipelines step down or up their ladders if it is time to."""
        if not self._plan.deepest:
            self._next_look = 0.0
            return
        if monotonic() < self._next_look:
            return
        self._next_look = monotonic() + self._config.governor.interval
        if reason := self._governor.update(self._host.readings(), self._plan.deepest, monotonic()):
            self._plan.step(self._governor.level, reason, self._fleet.in_use())
            self._assign()
            self._report_plan()

    def _select_models(self) -> None:
        """Have what updates select examined, as far as it was not, and run. A reload that goes on comes first."""
        if self._is_selected or self._adoption is not None or (self._checking and self._checking.options):
            return
        self._is_selected = True
        known = Known(self._plan.failed_models, [*self._plan.known, *self._updates.examined])
        self._checking = self._fleet.check(self._updates.selected(self._config), known, options=False)

    def _look_again(self) -> None:
        """Have lower versions looked for of models that failed. A check or a reload that goes on comes first."""
        if self._checking is None and self._adoption is None:
            self._checking = self._fleet.check(self._config, Known(self._plan.failed_models), options=False)

    def _take_models(self, checking: Checking) -> None:
        """Take what was found of models that updates select, and in place of models that failed."""
        before, self._config = self._config.selected, checking.config
        self._backups.retry(name for name, one in checking.config.selected.items() if before.get(name) != one)
        self._plan.backups = frozenset(self._backups.active)
        self._plan.select(checking.config, checking.found, self._fleet.in_use())
        self._follow_plan(checking)

    def _begin_reload(self) -> None:
        """Read the configuration again, and have it checked. If another check still runs, it does not count."""
        self._checking = None
        try:
            wanted = self._updates.chosen(configuration.read(self._path), self._report_damage)
            if wanted.device != self._config.device:
                raise ConfigError(["device: changes here need a restart of the service"])  # noqa: TRY301
            self._checking = self._fleet.check(wanted, Known(self._plan.refused_models(wanted)))
        except Exception as error:  # noqa: BLE001 - a bug there must not end what runs
            self._refuse(error)

    def _adopt_reporters(self, checking: Checking) -> None:
        """Change the reporters to those of a configuration that was checked."""
        if checking.problems:
            self._refuse(ConfigError(checking.problems))
        else:
            self._adoption = Adoption(self._reporters, checking, self._wakeup.wake)

    def _finish_reload(self, adoption: Adoption) -> None:
        """Take a configuration whose reporters are open."""
        self._adoption = None
        if adoption.error is not None:
            self._refuse(adoption.error)
            return
        checking = adoption.checking
        log.info("configuration read again")
        self._config = checking.config
        self._governor.table = checking.config.governor
        self._updates.use(checking.config)
        self._backups.use(checking.config.pipelines)
        self._plan.backups = frozenset(self._backups.active)
        for name, account in self._ledger.accounts.items():
            account.backup = account.backup if self._backups.reason(name) else None
        self._plan.reload(checking.config, checking.found, self._fleet.in_use())
        self._follow_plan(checking)
        self._report_removed_pipelines()
        self._auditing.configured(self._path)
        self._fleet.roots.use(self._config, self)

    def _follow_plan(self, checking: Checking) -> None:
        """Have the workers run what should run after a check, and look below models that failed meanwhile."""
        self._assign()
        self._report_plan()
        if self._plan.failed_models - checking.failed:
            self._look_again()

    def _retry(self, pipeline: str) -> None:
        """Have the models of a pipeline that failed tried again."""
        self._backups.retry([pipeline])
        self._plan.backups = frozenset(self._backups.active)
        if self._plan.retry(pipeline, self._fleet.in_use()):
            self._assign()
            self._report_plan()

    def root_taken(self, version: int) -> None:
        """Examine all models again, as a new root of trust is in force."""
        self._events.report("root_taken", "", f"root {version} of trust is in force")
        self._auditing.rooted(version)
        self._updates.forget_examined()
        self._begin_reload()

    def root_refused(self, reason: str) -> None:
        """Report that a new root of trust was not taken."""
        self._events.report("root_refused", "", reason)
        self._auditing.rooted(self._fleet.roots.report.root, reason)

    def _report_damage(self, reason: str) -> None:
        self._events.report("state_damaged", "", reason)

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, ConfigError):
            reason = joined(placed(self._path, error).problems)
        else:
            log.error("the configuration is not taken", exc_info=error)
            reason = str(error)
        self._events.report("refused", "", f"configuration not taken: {reason}")
        self._auditing.configured(self._path, reason)
        self._is_selected = self._updates.selected(self._config).selected == self._config.selected
        if self._plan.failed_models:
            self._look_again()
