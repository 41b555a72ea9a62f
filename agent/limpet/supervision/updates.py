"""Updates of models: what happens is passed on to the rules, and what they say is done.

``limpet.updates.machine`` has the rules. A new state is on the disk before anything is done about it. If it cannot
be written, nothing is done, and what happened is passed on again later.
"""

from __future__ import annotations

import logging
import signal
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from limpet.audit.entry import What, Who
from limpet.contracts.updates import ModelName
from limpet.device.clock import boot_id
from limpet.isolation.child import describe
from limpet.models import deployed, pins
from limpet.supervision.forks import FORK_SERVER_GONE
from limpet.supervision.update_files import UpdateFiles, delete_admissions
from limpet.supervision.update_store import UpdateStore, local_time
from limpet.updates import instructions, stimuli
from limpet.updates.reports import report
from limpet.updates.state import Update, Updates, left_of, rests, without_candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.audit.journal import Journal
    from limpet.config import Config
    from limpet.contracts.assignment import FoundModel
    from limpet.contracts.deliveries import Delivery
    from limpet.contracts.updates import UpdateReport
    from limpet.delivery.deliveries import DeliveryInbox
    from limpet.device.host import Host
    from limpet.models.deployed import Kept
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.update_calls import Calls
    from limpet.supervision.update_requests import UpdateRequests
    from limpet.supervision.update_tasks import UpdateTasks
    from limpet.updates.comparison import Comparisons
    from limpet.updates.facts import Facts
    from limpet.updates.instructions import Instruction
    from limpet.updates.stimuli import Ordered, Stimulus
    from limpet.wire.records import Incident, RawResults, ShadowFailed, Transition

log = logging.getLogger(__name__)

MOST_POSTPONED = 1000
PROGRESS = 1.0
"""Seconds between two reports of a progress."""
_REPLACED = "The pipeline runs another model, as this one is damaged or failed. Request it again."
COUNTED = 1 << 20
"""Bytes from the network after which what was spent is written to the disk, while a download goes on."""


class Surroundings(NamedTuple):
    """What updates work with."""

    fleet: Fleet
    inbox: DeliveryInbox
    host: Host
    journal: Journal
    comparisons: Comparisons


class Updater:
    """The updates of all pipelines. Everything here runs on the supervisor's main thread."""

    def __init__(self, config: Config, kept: Kept, device: Surroundings) -> None:
        self._config = config
        self._device = device
        self._calls: Calls
        state = config.device.state
        self._files = UpdateFiles(state)
        updates, self._pins, self._intact = kept
        self._store = UpdateStore(state, updates)
        self._made_tasks: UpdateTasks | None = None
        self._made_requests: UpdateRequests | None = None
        self._happened: deque[tuple[str, Stimulus]] = deque()
        self._busy = False
        self._begun = False
        self._backlog: list[Callable[[], None]] = []
        self._postponed: deque[tuple[str, Stimulus]] = deque(maxlen=MOST_POSTPONED)
        self._is_reported = False
        """Whether it was reported already that the state cannot be written."""
        self._is_uncounted = False
        """Whether this start of the daemon could not be counted. No model is on trial then."""
        self._ticks: dict[str, float] = {}
        self._progress: dict[str, float] = {}
        """When a progress is reported next, by pipeline."""
        self._spent = 0
        """Bytes from the network that are not in the state yet."""
        self.on_trial: dict[str, tuple[str, int]] = {}
        """The models that are on trial, by pipeline. Empty mostly: then results are none of our business."""

    # Most daemons never need these in memory, nor the rules.

    @property
    def _tasks(self) -> UpdateTasks:
        if self._made_tasks is None:
            from limpet.supervision.update_fetches import Fetches
            from limpet.supervision.update_tasks import UpdateTasks

            fleet, inbox, journal = self._device.fleet, self._device.inbox, self._device.journal
            fetches = Fetches(self._files, fleet, inbox, self.feed, self._count_received, self._progressed)
            self._made_tasks = UpdateTasks(
                self._store, self._files, fleet, journal, fetches, self._calls, self.feed
            )
        return self._made_tasks

    @property
    def _requests(self) -> UpdateRequests:
        if self._made_requests is None:
            from limpet.supervision.update_requests import UpdateRequests

            calls = self.feed, self._obey_local, self._calls.report, self._needs_local_bundle
            self._made_requests = UpdateRequests(self._files, self._device.fleet.helpers, *calls)
        return self._made_requests

    # --- start, reload

    def boot(self) -> Config:
        """Take note that the daemon has started. Return the configuration as pins and updates change it."""
        machine = self._store.updates.machine != boot_id()
        for name, update in list(self._store.updates.pipelines.items()):
            if not rests(update):
                self.feed(name, stimuli.Booted(machine=machine))
        self._is_uncounted = bool(self._postponed)
        return self.selected(pins.applied(self._config, self._pins))

    def begin(self, calls: Calls) -> None:
        """Begin to work, once the pipelines have been assigned what to run."""
        self._calls = calls
        self._begun = True
        if self._intact:
            self._clean_up_orphans()
        backlog, self._backlog = self._backlog, []
        for call in backlog:
            call()
        self.use(self._config)
        self.take_requests()

    def use(self, config: Config) -> None:
        """Take a configuration, at the start and after a reload."""
        self._config = config
        kept = left_of(self._store.updates.pipelines, config.pipelines)
        gone = [name for name, update in self._store.updates.pipelines.items() if kept.get(name) != update]
        if gone and self._write(replace(self._store.updates, pipelines=kept)):
            for name in gone:
                self._forget(name)
                log.info("the update of pipeline %s is forgotten: it is not configured any more", name)
        self._device.inbox.expect(config.pipelines if config.updates else (), trust=config.trust is not None)

    def _forget(self, name: str) -> None:
        """Forget the update of a pipeline. If the pipeline comes back, it is a new one."""
        self._tasks.stop(name)
        self._device.comparisons.end(name)
        for known in (self.on_trial, self._ticks, self._progress):
            known.pop(name, None)
        self._calls.shadow(name, None)
        self._tasks.clean_up(name)

    def chosen(self, wanted: Config, damaged: Callable[[str], object]) -> Config:
        """Return a configuration as pins and updates change it. Pins are read again, see ``pins.read``."""
        self._pins = pins.read(wanted.device.state, damaged)
        return self.selected(pins.applied(wanted, self._pins))

    def selected(self, config: Config) -> Config:
        """Return a configuration with what updates select now."""
        state = without_candidates(self._store.updates) if self._is_uncounted else self._store.updates
        return deployed.applied(config, state, self._pins)

    @property
    def examined(self) -> list[FoundModel]:
        """Deployed bundles that were examined since the daemon started."""
        return list(self._made_tasks.examined.values()) if self._made_tasks else []

    def forget_examined(self) -> None:
        """Have all deployed bundles examined again, as other keys are trusted now."""
        if self._made_tasks:
            self._made_tasks.forget_examined()

    # --- what comes from outside

    def take_requests(self) -> None:
        """Take the requests that a person on this device wrote."""
        if self._files.requests():
            self._requests.take_local(self._config, self._store.updates)

    def take(self, delivery: Delivery) -> None:
        """Take a desired state as it came over the network."""
        self._requests.take(delivery, self._config, self._store.updates)

    def take_chunks(self) -> None:
        """Pass on the chunks that came to the deployers that want them."""
        while chunk := self._device.inbox.take_chunk():
            self._device.fleet.deployers.chunk(chunk.name, chunk.index, chunk.payload)

    def order(self, pipeline: str, order: Ordered) -> str:
        """Obey an operator's command. Return why not, if so. ``KeyError`` if there is no such pipeline."""
        if pipeline not in self._config.pipelines:
            raise KeyError(pipeline)
        refused: list[str] = []
        if not self._feed(pipeline, order, refused):
            return "the device cannot write its state now, so it changes nothing"
        return refused[0] if refused else ""

    def _obey_local(self, pipeline: str, order: str, by: str, meant: Stimulus) -> bool:
        """Obey a person on this device. Return whether what follows is on the disk."""
        refused = [meant.reason] if isinstance(meant, stimuli.Refused) else []
        written = self._feed(pipeline, meant, refused)
        if written:
            what = What(command=order, reason=f"refused: {refused[0]}" if refused else "obeyed")
            self._device.journal.record("command", what, pipeline=pipeline, who=Who(user=by))
        if refused and isinstance(meant, stimuli.Ordered):
            self._calls.report("update_refused", pipeline, refused[0])
        return written

    # --- what pipelines report

    def moved(self, move: Transition, sha256: str) -> None:
        """Take note of a transition. ``sha256``: identity of the model that runs, empty if it is unknown."""
        if rests(self._store.update(move.pipeline)):
            return
        if move.state == "running" and sha256:
            self.feed(move.pipeline, stimuli.TookOver(sha256))
        elif move.state == "failed" and move.pipeline in self.on_trial:
            self.feed(move.pipeline, stimuli.NotTakenOver(_sentence(move.reason)))

    def had_incident(self, incident: Incident) -> None:
        """Take note of a crash, or of a model that did not take over."""
        name = incident.pipeline
        if name not in self.on_trial:
            return
        candidate = self._store.updates.pipelines[name].candidate
        if incident.event == "crashed":
            self.feed(name, _ended(incident.reason))
        elif incident.sha256 and candidate and incident.sha256 == candidate.sha256:
            self.feed(name, _ended(incident.why))

    def shadow_failed(self, record: ShadowFailed) -> None:
        """Take note that a model failed beside the one at work. If it is the candidate, that ends its update."""
        update = self._store.update(record.pipeline)
        if update.stage != "shadow" or update.candidate is None:
            return
        if (update.candidate.model, update.candidate.version) == (record.shadow, record.shadow_version):
            self.feed(record.pipeline, _ended(record.reason))

    def accepted(self, record: RawResults) -> None:
        """Count accepted results of models that are on trial."""
        for name, (model, version) in list(self.on_trial.items()):
            count = sum((one.pipeline, one.model, one.version) == (name, model, version) for one in record.items)
            if count:
                self.feed(name, stimuli.Accepted(model, version, count))
                self._progressed(name)

    # --- time

    def next_due(self) -> float | None:
        """Return when ``tend`` has something to do, on the monotonic clock; ``None`` if nothing is expected."""
        others = [self._store.again_at] if self._store.again_at else []
        if (figures := self._device.comparisons.next_due()) is not None:
            others.append(figures)
        if self._made_requests and (request := self._made_requests.next_due()) is not None:
            others.append(request)
        return min([*self._ticks.values(), *self._progress.values(), *others], default=None)

    def tend(self) -> None:
        """Do what is due."""
        if not self._begun or (due := self.next_due()) is None or due > monotonic():
            return
        if 0 < self._store.again_at <= monotonic():
            self._pass_on_again()
        if self._made_requests:
            self._made_requests.tend(self._config, self._store.updates)
        for name, figures in self._device.comparisons.news(monotonic()):
            self.feed(name, stimuli.Compared(figures))
            self._progressed(name)
        for name in [name for name, due in self._ticks.items() if due <= monotonic()]:
            del self._ticks[name]
            self.feed(name, stimuli.Tick())
        for name in [name for name, due in self._progress.items() if due <= monotonic()]:
            del self._progress[name]
            self._calls.publish(name)

    def report(self, pipeline: str) -> UpdateReport | None:
        """Return how far the update of a pipeline is, ``None`` if there was none."""
        update = self._store.updates.pipelines.get(pipeline)
        if update is None or update == Update(pipeline=pipeline, serial=update.serial):
            return None
        found = report(update, self._made_tasks.fetches.progress(pipeline) if self._made_tasks else None)
        if update.stage == "good" and update.good and self._begun and not self._calls.has_first(pipeline):
            return replace(found, reason=_REPLACED)
        return found

    # --- one step

    def feed(self, pipeline: str, stimulus: Stimulus) -> bool:
        """Pass on what happened, after the step at work. Return whether what follows is on the disk."""
        return self._feed(pipeline, stimulus, [])

    def _feed(self, pipeline: str, stimulus: Stimulus, refused: list[str]) -> bool:
        self._happened.append((pipeline, stimulus))
        if self._busy:
            return True
        self._busy = True
        written = True
        try:
            while self._happened:
                written = self._step(*self._happened.popleft(), refused) and written
        finally:
            self._busy = False
        return written

    def _step(self, pipeline: str, stimulus: Stimulus, refused: list[str]) -> bool:
        if pipeline not in self._config.pipelines:
            return True
        from limpet.updates import machine

        before = self._store.updates.pipelines.get(pipeline)
        applied = machine.apply(self._store.updates, pipeline, stimulus, self._facts(pipeline))
        if applied.refused:
            refused.append(applied.refused)
        if before is None and applied.updates.pipelines[pipeline] == Update(pipeline=pipeline):
            return True  # Nothing happened to a pipeline without an update.
        if not self._write(applied.updates):
            is_file = isinstance(stimulus, stimuli.Wanted) and stimulus.local
            if not (is_file or isinstance(stimulus, stimuli.Ordered)):
                self._postponed.append((pipeline, stimulus))
            return False  # A command is refused, and a file with a request stays: it is read again.
        after = self._store.updates.pipelines[pipeline]
        self._note_candidate(after)
        self._ticks.pop(pipeline, None)
        if (wait := machine.due(after, self._facts(pipeline))) is not None:
            self._ticks[pipeline] = monotonic() + wait
        self._report_stage(before, after, applied.instructions)
        for instruction in applied.instructions:
            self._when_begun(partial(self._follow, pipeline, instruction))
        if before is None or _shown(before) != _shown(after):
            self._when_begun(lambda: self._calls.publish(pipeline))
        return True

    def _follow(self, pipeline: str, instruction: Instruction) -> None:
        self._tasks.follow(self._config, pipeline, instruction)

    def _when_begun(self, call: Callable[[], None]) -> None:
        """Do something now, or once pipelines run and reporters are open."""
        if self._begun:
            call()
        else:
            self._backlog.append(call)

    def _write(self, updates: Updates) -> bool:
        """Take a state, if the disk has it. Otherwise report once why it cannot be written."""
        if self._store.write(updates):
            return True
        if not self._is_reported:
            self._is_reported = True
            reason = f"{self._store.problem}; updates wait, what runs goes on"
            self._when_begun(lambda: self._calls.report("update_waits", "", reason))
        return False

    def _pass_on_again(self) -> None:
        """Try again what could not be written."""
        self._store.again_at = 0.0
        postponed, self._postponed = self._postponed, deque(maxlen=MOST_POSTPONED)
        while postponed and not self._store.again_at:
            self.feed(*postponed.popleft())
        self._postponed.extend(postponed)
        if not self._store.again_at:
            self.take_requests()
        if not self._store.again_at:
            self._is_reported = False
            if self._is_uncounted:
                self._is_uncounted = False
                self._calls.select()

    def _note_candidate(self, update: Update) -> None:
        """Have the candidate of a shadow or a trial compared, and the results of a trial counted."""
        name, candidate = update.pipeline, update.candidate
        self.on_trial.pop(name, None)
        if candidate is None or update.stage not in ("shadow", "trial"):
            self._device.comparisons.end(name)
            return
        on_trial = update.stage == "trial"
        self._device.comparisons.begin(name, ModelName(candidate.model, candidate.version), trial=on_trial)
        if on_trial:
            self.on_trial[name] = candidate.model, candidate.version

    def _report_stage(self, before: Update | None, after: Update, following: Sequence[Instruction]) -> None:
        """Report a new stage as an event, unless a note of the rules does."""
        from limpet.updates import moves

        noted = any(isinstance(one, instructions.Note) for one in following)
        if after.stage != (before.stage if before else "idle") and not noted:
            text = after.reason or moves.wanted_name(after)
            self._when_begun(lambda: self._calls.report(f"update_{after.stage}", after.pipeline, text))

    def _facts(self, pipeline: str) -> Facts:
        from limpet.supervision.update_facts import facts

        return facts(
            self._config,
            self._store,
            self._device.host,
            pipeline,
            received=self._spent,
            pinned=pipeline in self._pins.pipelines,
            has_model=not self._begun or self._calls.has_model(pipeline),
            has_good=not self._begun or self._calls.has_first(pipeline),
            own=self._own_model(pipeline) if self._begun else None,
        )

    def _own_model(self, pipeline: str) -> ModelName | None:
        """Return the model of the configuration, if that is what a pipeline runs."""
        update = self._store.update(pipeline)
        return self._calls.model(pipeline) if update.good is None and update.stage != "trial" else None

    def _clean_up_orphans(self) -> None:
        """Delete what an end of the daemon left behind."""
        pipelines = self._store.updates.pipelines
        at_work = [name for name, one in pipelines.items() if one.stage in ("downloading", "verifying")]
        self._files.delete_other_downloads(at_work)
        delete_admissions(self._config.folders)
        self._files.prune(self._store.updates.deployed)

    def _needs_local_bundle(self, name: str) -> bool:
        """Whether the bundle beside a request of this device is still to be taken."""
        update = self._store.update(name)
        return update.stage == "downloading" or update.pending is not None

    def _progressed(self, name: str) -> None:
        self._progress.setdefault(name, monotonic() + PROGRESS)

    def _count_received(self, count: int) -> None:
        """Count bytes that came over the network, for the budget of a metered link."""
        from limpet.updates import schedule

        self._spent += count
        if self._spent >= COUNTED or not count:
            spent = schedule.spend(self._store.updates.spent, local_time(), self._spent)
            if self._write(replace(self._store.updates, spent=spent)):
                self._spent = 0


def _shown(update: Update) -> UpdateReport:
    """Return what is reported of an update, but for its progress and figures."""
    return report(replace(update, live=None))


def _ended(reason: str) -> Stimulus:
    """Return that a candidate failed. A process that was killed from outside says little about its model."""
    outside = reason.endswith((describe(-signal.SIGKILL), FORK_SERVER_GONE))
    return stimuli.NotTakenOver(_sentence(reason), outside=outside)


def _sentence(reason: str) -> str:
    """Return a reason as a sentence."""
    text = reason[:1].upper() + reason[1:]
    return text if text.endswith(".") else f"{text}."
