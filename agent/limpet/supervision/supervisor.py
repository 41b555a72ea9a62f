"""The supervisor's loop: what workers made goes to the ledger, and from there on the bus to the reporters.

One thread and one selector. It imports no numpy, opens no model and parses nothing that came from a sensor.
``hearing`` takes the records of workers, ``planner`` decides what they run, ``reloads`` reads the configuration
again, and ``pipeline_reports`` and ``device_reports`` say how things are.
"""

from __future__ import annotations

import logging
import selectors
import signal
from contextlib import ExitStack, contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from limpet.delivery.bus import Bus
from limpet.delivery.deliveries import DeliveryInbox
from limpet.delivery.reporters import Reporters, inspect
from limpet.device import directories, host
from limpet.errors import ConfigError
from limpet.supervision import undo_orders
from limpet.supervision.auditing import Auditing
from limpet.supervision.captures import Captures
from limpet.supervision.commands import Commands
from limpet.supervision.device_reports import DeviceReports
from limpet.supervision.ending import Ending
from limpet.supervision.events import Events
from limpet.supervision.fleet import Fleet
from limpet.supervision.hearing import Hearing
from limpet.supervision.learning import Learning
from limpet.supervision.learning import Surroundings as AroundLearning
from limpet.supervision.ledger import Ledger
from limpet.supervision.local_api import LocalApi, Parts
from limpet.supervision.pipeline_reports import Outputs, PipelineReports
from limpet.supervision.planner import Planner
from limpet.supervision.reloads import Reloads
from limpet.supervision.service_manager import ServiceManager
from limpet.supervision.showing import Showing
from limpet.supervision.update_calls import Calls
from limpet.supervision.updates import Surroundings, Updater
from limpet.updates.comparison import Comparisons
from limpet.wakeup import Wakeup
from limpet.wire.records import ForgetLabel, KeepWindows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from limpet.audit.entry import Who
    from limpet.audit.journal import Journal
    from limpet.config import Config
    from limpet.contracts.commands import Feedback, Undo
    from limpet.contracts.messages import DeviceHealth, FeedbackTaken, Origin, State, Undone
    from limpet.delivery.monitor import Monitor
    from limpet.fork.launch import ForkServerProcess
    from limpet.learning.remembered import Known
    from limpet.learning.state import AllLearned
    from limpet.models.deployed import Kept
    from limpet.models.history import History
    from limpet.supervision.checking import Checking
    from limpet.supervision.roster import Roster
    from limpet.updates.stimuli import Ordered
    from limpet.wire.records import Ask, EnrolLabel, ToSupervisor

log = logging.getLogger(__name__)

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
    learned: AllLearned


def _count_feedback(comparisons: Comparisons, learning: Learning, feedback: Feedback) -> FeedbackTaken:
    """Count whether a result was right, and which of two models was while they are compared.

    ``ValueError`` if the truth cannot be compared with answers.
    """
    compared = comparisons.feedback(feedback.id, feedback.truth, feedback.tolerance)
    counted = learning.feedback(feedback)
    if compared.known:
        return replace(compared, was_right=counted.was_right, reason=counted.reason)
    if counted.known and comparisons.at_work:
        return replace(counted, reason=compared.reason or counted.reason)
    return counted


class _Workers:
    """The workers, as commands use them: ``restart`` also tries the models again that failed."""

    def __init__(  # noqa: PLR0913, PLR0917 - what commands need of the daemon
        self,
        fleet: Fleet,
        planner: Planner,
        updates: Updater,
        learning: Learning,
        captures: Captures,
        feedback: Callable[[Feedback], FeedbackTaken],
    ) -> None:
        self._learning = learning
        self._captures = captures
        self._feedback = feedback
        self._fleet = fleet
        self._planner = planner
        self._updates = updates

    def restart(self, pipeline: str) -> None:
        """End a pipeline's worker so that it is started again. ``KeyError`` if it has none."""
        self._fleet.restart(pipeline)
        self._planner.retry(pipeline)

    def order(self, pipeline: str, ordered: Ordered) -> str:
        """Obey an order about the model of a pipeline. Return why not, if so. ``KeyError`` if there is none."""
        return self._updates.order(pipeline, ordered)

    def feedback(self, feedback: Feedback) -> FeedbackTaken:
        """Count whether a result was right. ``ValueError`` if the truth cannot be compared with answers."""
        return self._feedback(feedback)

    def undo(self, undo: Undo, who: Who) -> Undone:
        """Undo adaptations. ``ValueError`` says why not, ``KeyError`` if there is no such pipeline."""
        return self._learning.undo(undo.pipeline, undo.number, who, f"by {who.user or who.reporter}")

    def taught(self, taught: EnrolLabel | ForgetLabel, who: Who) -> None:
        """Take note that a worker has enrolled or forgotten a label."""
        self._learning.taught(taught.pipeline, taught.label, forgotten=isinstance(taught, ForgetLabel), who=who)

    def ask(self, pipeline: str, ask: Ask, fds: tuple[int, ...] = ()) -> None:
        """Have a pipeline's worker answer. ``KeyError`` if it has none."""
        self._fleet.ask(pipeline, ask, fds)
        if isinstance(ask.what, KeepWindows):
            self._captures.command(pipeline, ask.what.windows)

    def ask_all(self, ask: Ask) -> None:
        """Have every worker answer."""
        self._fleet.ask_all(ask)


class Supervisor:
    """The event loop. It makes all parts, and has each do what is due."""

    def __init__(
        self, path: Path, wanted: Config, origin: Origin, launched: ForkServerProcess, memory: Memory
    ) -> None:
        self._journal = memory.journal
        # Not epoll: what it may watch is limited for all processes of a user, and a worker could use that up.
        self._selector = selectors.PollSelector()
        self._wakeup = Wakeup()
        self._signals: set[int] = set()
        self._service_manager = ServiceManager()
        self._ending = Ending(())
        self._view = ExitStack()
        self._over = False
        self._next_health = 0.0
        self._fleet = Fleet(self._selector, launched, self._hear)
        self._host = host.Host(wanted.device.sysroot)
        self._deliveries = DeliveryInbox(self._wakeup.wake)
        bus = Bus()
        self._showing = Showing(origin, bus, directories.monitor(wanted.device.state), self._selector)
        self._outputs = outputs = self._make_outputs(origin, bus, memory)
        comparisons = Comparisons(origin.device, origin.boot)
        surroundings = Surroundings(self._fleet, self._deliveries, self._host, self._journal, comparisons)
        self._updates = Updater(wanted, memory.updates, surroundings)
        self._reports = PipelineReports(outputs, self._updates)
        around = self._around_learning(comparisons)
        self._learning = Learning(wanted, origin, memory.learned, around)
        self._planner = Planner(
            self._updates.boot(),
            self._fleet,
            self._updates,
            outputs,
            self._reports,
            self._showing,
            self._learning,
        )
        feedback = partial(_count_feedback, comparisons, self._learning)
        self._captures = Captures(
            origin, wanted.device.state, outputs.ledger, outputs.events, self._wakeup.wake, feedback=feedback
        )
        self._commands = self._make_commands(wanted, feedback)
        self._api = self._make_api(directories.api(wanted.device.state))
        self._device = DeviceReports(
            outputs, self._journal, self._fleet, self._host, wanted.device.state, self._api.gateway
        )
        obey = self._commands.take if wanted.device.commands else None
        self._reporters = Reporters(origin, wanted.device.state, bus, obey, self._deliveries)
        self._reloads = Reloads(
            path,
            self._fleet,
            self._updates,
            outputs,
            self._reports,
            self._planner,
            self._reporters,
            self._api,
            self._learning,
            self._wakeup.wake,
        )
        self._hearing = Hearing(
            outputs,
            self._planner,
            self._updates,
            comparisons,
            self._showing,
            self._commands,
            self._api,
            self._captures,
            self._learning,
        )

    def _around_learning(self, comparisons: Comparisons) -> AroundLearning:
        return AroundLearning(
            self._journal,
            self._outputs.ledger,
            self._outputs.events,
            compared=lambda pipeline: comparisons.figures(pipeline) is not None,
            changed=self._correct,
            captured=self._find_captured,
        )

    def _correct(self) -> None:
        self._planner.correct()

    def _find_captured(self, result: str) -> Known | str | None:
        return self._captures.results.find(result)

    def _make_outputs(self, origin: Origin, bus: Bus, memory: Memory) -> Outputs:
        ledger, events = Ledger(origin, bus.extend), Events(origin, self._showing.monitor.append)
        return Outputs(origin, bus, ledger, events, memory.history, memory.roster, Auditing(memory.journal))

    def _make_api(self, path: Path) -> LocalApi:
        parts = Parts(
            self._outputs,
            self._reports,
            self._fleet,
            self._host,
            self._showing,
            self._selector,
            self._commands.take,
            lambda: self._device.figures(self._reporters),
        )
        return LocalApi(parts, path)

    def _make_commands(self, wanted: Config, feedback: Callable[[Feedback], FeedbackTaken]) -> Commands:
        return Commands(
            self._outputs.origin,
            wanted.device.commands,
            _Workers(self._fleet, self._planner, self._updates, self._learning, self._captures, feedback),
            self._publish_health,
            self._wakeup.wake,
            self._outputs.auditing.commanded,
        )

    def run(self, attendance: Attendance, damaged: Sequence[str] = ()) -> dict[str, str]:
        """Work until SIGTERM or SIGINT, or the end. Return the reasons of pipelines that have failed.

        ``damaged`` says what was wrong with the state directory. ``ConfigError`` if the options of plugins cannot
        be used.
        """
        self._ending = Ending(attendance.ends)
        try:
            with self._signal_handlers():
                checking = self._fleet.check(self._planner.config)
                problems, denied = inspect(self._planner.config)  # imports the reporters while the checker works
                if not self._wait_for(checking):
                    return {}
                if problems := [*problems, *denied, *checking.problems]:
                    raise ConfigError(problems)
                self._begin(checking, attendance, damaged)
                while not self._stopping():
                    self._turn()
                self._service_manager.stopping()
                failed = self._failed()
                self._fleet.stop()
                self._captures.close()
                self._publish_health()
                return failed
        finally:
            self._close()

    def _begin(self, checking: Checking, attendance: Attendance, damaged: Sequence[str]) -> None:
        """Have the workers run what should run, once the configuration was checked."""
        self._showing.open()
        if view := attendance.open(self._showing.monitor, self._end):
            self._view.enter_context(view)
        self._planner.start(checking)
        self._reporters.adopt(self._planner.config)
        self._planner.report_plan()
        self._reloads.taken()
        self._take_undo_orders()
        for reason in damaged:
            self._reloads.report_damage(reason)
        self._updates.begin(
            Calls(
                select=self._planner.want_selection,
                shadow=self._planner.set_shadow,
                publish=self._reports.publish_model,
                report=self._outputs.events.report,
                try_out=self._planner.try_out,
                has_model=self._planner.has_model,
                model=self._planner.model,
                has_first=self._planner.has_first,
            )
        )

    def _close(self) -> None:
        self._reloads.close()
        self._view.close()
        self._api.close()
        self._reporters.close()
        self._captures.close()
        self._showing.close()
        self._fleet.close()
        self._learning.close()
        self._journal.close()
        self._selector.close()
        self._wakeup.close()

    def _hear(self, cell: str, record: ToSupervisor) -> None:
        self._hearing.hear(cell, record)

    def _publish_health(self) -> DeviceHealth:
        """Publish all health, and return the device's."""
        self._reports.publish_health()
        return self._device.publish_health(self._reporters)

    # --- the end

    def _stopping(self) -> bool:
        return self._over or bool(self._signals & {signal.SIGTERM, signal.SIGINT})

    def _end(self) -> None:
        """End the daemon. From any thread."""
        self._over = True
        self._wakeup.wake()

    def _states(self) -> list[State]:
        """Return the states of all pipelines."""
        return [self._outputs.ledger.account(name).last.state for name in self._planner.config.pipelines]

    def _failed(self) -> dict[str, str]:
        """Return the reasons of pipelines that have failed."""
        last = {name: self._outputs.ledger.account(name).last for name in self._planner.config.pipelines}
        return {name: one.reason for name, one in last.items() if one.state == "failed"}

    def _end_if_over(self) -> None:
        """End the daemon if all pipelines are over, nothing is tried again, and the reporters have sent it all."""
        if not (self._ending.is_over(self._states()) and self._planner.checks.rests and self._fleet.rests()):
            return
        if not self._ending.begun:
            log.info("all pipelines are over; the daemon ends once their results are delivered")
        undelivered, connected = self._reporters.undelivered(), self._reporters.connected()
        if self._ending.is_delivered(undelivered, connected=connected, now=monotonic()):
            self._over = True

    # --- the loop

    def _wait_for(self, checking: Checking) -> bool:
        """Do nothing else until a check is done. Return ``False`` if the daemon is to stop before that."""
        while not checking.done and not self._stopping():
            self._select(self._fleet.next_due())
            self._fleet.tend()
        return checking.done

    def _select(self, due: float) -> None:
        for key, _ in self._selector.select(max(0.0, due - monotonic())):
            key.data()

    def _due(self) -> float:
        """Return when something is to be done next, on the monotonic clock."""
        others = [
            self._planner.next_due(),
            self._updates.next_due(),
            self._api.next_due(),
            self._learning.next_due(),
        ]
        if self._ending.begun:
            others.append(monotonic() + DELIVERY_LOOK)
        return min(self._fleet.next_due(), self._next_health, *[due for due in others if due is not None])

    def _turn(self) -> None:
        self._select(self._due())
        if signal.SIGHUP in self._signals:
            self._signals.discard(signal.SIGHUP)
            self._updates.take_requests()
            self._take_undo_orders()
            self._planner.select_models()  # Before a reload, as a person may want to go back at once.
            self._reloads.begin()
        self._reloads.tend()
        self._tend_updates()
        self._commands.tend()
        self._fleet.tend()
        self._captures.tend(self._planner.config)
        self._reports.tend()
        if self._planner.checks.adoption is None:
            self._reporters.tend()
        self._service_manager.update(self._states(), progresses=self._fleet.progresses())
        self._outputs.events.watch_clock()
        self._planner.govern(self._host)
        self._planner.tend_backups()
        self._learning.tend()
        self._showing.tend(self._outputs.ledger.current)
        self._device.tend()
        self._api.tend()
        self._end_if_over()
        if monotonic() >= self._next_health or self._device.is_connection_news(self._reporters):
            self._next_health = monotonic() + self._planner.config.device.health_interval
            self._publish_health()

    def _take_undo_orders(self) -> None:
        """Undo adaptations as a person on this device wants."""
        undo_orders.take(self._planner.config.device.state, self._commands.take_local, self._reloads.report_damage)

    def _tend_updates(self) -> None:
        """Take what came from outside about models, and do what is due."""
        for delivery in self._deliveries.take_states():
            if delivery.kind == "desired":
                self._updates.take(delivery)
            else:
                self._fleet.roots.take(delivery.payload)
        self._updates.take_chunks()
        self._updates.tend()
        self._planner.select_models()

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
