"""What the device learns in the field: feedback, accuracy, advice to train again, and adaptations.

The rules are in ``limpet.learning``. This keeps what they say in the state directory, and reports it.
"""

from __future__ import annotations

import logging
import math
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from limpet.audit.entry import What, Who
from limpet.contracts.messages import FeedbackTaken, Undone
from limpet.device import state_files
from limpet.learning import accuracy, adaptations, advice, changes
from limpet.learning.accuracy import Accuracy, Judged
from limpet.learning.adaptations import Adaptation
from limpet.learning.remembered import Known, Remembered
from limpet.learning.slices import slices
from limpet.learning.state import LARGEST, MOST_PIPELINES, NAME, AllLearned, Followed, Learned
from limpet.supervision.cell_pipelines import AT_WORK
from limpet.supervision.update_store import clock
from limpet.updates.answers import cut_label, is_right
from limpet.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from limpet.audit.journal import Journal
    from limpet.config import Config, PipelineConfig
    from limpet.contracts.adaptation import AdaptationKind, Correction, OffsetLimits
    from limpet.contracts.commands import Feedback
    from limpet.contracts.drift import DriftEvent
    from limpet.contracts.messages import Origin, ResultMessage
    from limpet.learning.expected import Expected
    from limpet.supervision.events import Events
    from limpet.supervision.ledger import Ledger

log = logging.getLogger(__name__)

PAUSE, LEVELS_PAUSE = 60.0, 900.0
"""Seconds after which counts, and levels of channels, are on the disk. Adaptations are written at once."""
INTERRUPTED = 3600.0
"""Seconds within which a new alarm of a monitor continues the one before: a swap of the pipeline ends alarms."""
LOOK = 60.0
"""Seconds between two looks at what may be adapted or advised."""


class Running(NamedTuple):
    """The model that a pipeline runs. ``compared``: a new model is compared with it, so nothing is adapted."""

    model: str
    version: int
    compared: bool


class Surroundings(NamedTuple):
    """What learning works with. ``changed`` has the workers run with other corrections.

    ``compared``: whether a new model is compared with that of a pipeline. ``captured`` finds the result of a
    capture by its id, or says why it cannot.
    """

    journal: Journal
    ledger: Ledger
    events: Events
    compared: Callable[[str], bool]
    changed: Callable[[], None]
    captured: Callable[[str], Known | str | None]


def read(state: Path, damaged: Callable[[str], object]) -> AllLearned:
    """Return what was learned before this start. ``damaged`` is called if the file had to be set aside."""
    then = "accuracy is counted from here, and no adaptation is in force"
    try:
        return state_files.read(state / NAME, AllLearned, LARGEST, damaged, then) or AllLearned()
    except OSError as error:
        damaged(f"{state / NAME}: {error.strerror}; {then}")
        return AllLearned()


class Learning:
    """Learns for all pipelines. Everything here runs on the supervisor's main thread."""

    def __init__(self, config: Config, origin: Origin, known: AllLearned, around: Surroundings) -> None:
        self._origin = origin
        self._around = around
        self._path = config.device.state / NAME
        self._known = dict(known.pipelines)
        self._write_at = math.inf
        """When what is not on the disk yet is written, on the monotonic clock."""
        self._look_at = 0.0
        self._remembered = Remembered()
        self._expected: dict[str, Expected] = {}
        self._drifts: dict[str, dict[str, float]] = {}
        self._over: dict[tuple[str, str], tuple[float, float]] = {}
        """When alarms that are over had begun, and until when a new one goes on from there."""
        self._faults: dict[str, set[str]] = {}
        """Monitors that report a fault of the sensor, by pipeline."""
        self._behind: dict[str, set[str]] = {}
        """Slices that were reported to be behind, by pipeline."""
        self.wants_results = "feedback" in config.device.commands
        self.use(config)

    def use(self, config: Config) -> None:
        """Take a configuration, at the start and after a reload."""
        self._config = config
        self._remembered.use(config.pipelines)
        self._known = {name: one for name, one in self._known.items() if name in config.pipelines}
        self._expected = {name: one for name, one in self._expected.items() if name in config.pipelines}
        for name, wanted in config.pipelines.items():
            known, allowed = self._of(name).adaptations, _kinds(wanted)
            if gone := [kind for kind in known.held if kind not in allowed]:
                self._change(name, adaptations=adaptations.released(known, gone))

    # --- feedback

    def take_results(self, accepted: list[ResultMessage]) -> None:
        """Remember results, so that feedback can name them."""
        self._remembered.take(accepted)

    def feedback(self, feedback: Feedback) -> FeedbackTaken:
        """Count whether a result was right. ``ValueError`` if the truth cannot be compared with it."""
        if isinstance(feedback.truth, float) and feedback.tolerance is None:
            raise ValueError("feedback.tolerance: missing; a number needs it: how far it may be off")
        device, pipeline, _, number = (*feedback.id.split("/"), "", "", "", "")[:4]
        if device != self._origin.device or feedback.id.count("/") != 3 or not number.isdecimal():
            return _unknown(f"no result of this device, {self._origin.device!r}, has such an id")
        wanted = self._config.pipelines.get(pipeline)
        if wanted is None:
            return _unknown(f"there is no pipeline {pipeline!r}")
        found = self._find(feedback.id, pipeline, int(number[:20]))
        if isinstance(found, str):
            return _unknown(found)
        right = is_right(found.short.answer, feedback.truth, feedback.tolerance or 0.0)
        if right is None:
            raise ValueError("feedback.truth: a number and a label cannot be compared; see `output` of the result")
        judged = _judged(feedback, found, _slices_of(wanted, feedback, found.time), right)
        self._count(pipeline, found, judged)
        return FeedbackTaken(
            known=True, was_right=judged.right, reason=self._strange(pipeline, found, judged.truth)
        )

    def _find(self, result: str, pipeline: str, number: int) -> Known | str:
        """Return a result that was captured, or is one of the last."""
        captured = self._around.captured(result)
        if isinstance(captured, Known):
            return captured
        if result.split("/")[2] != self._origin.boot:
            return captured or "the result is from before the daemon's last start, and was not captured"
        return self._remembered.find(pipeline, number)

    def _strange(self, pipeline: str, found: Known, truth: str) -> str:
        """Return in words that the model cannot give a label, empty if it can. It may be new, or misspelt."""
        expected = self._expectation(pipeline, found.model, found.version)
        if not truth or expected is None or not expected.priors or truth in expected.priors:
            return ""
        return f"{found.model} {found.version} has no label {truth!r}; it has {listed(list(expected.priors))}"

    def _count(self, pipeline: str, found: Known, judged: Judged) -> None:
        learned = self._of(pipeline)
        before = learned.of(found.model, found.version) or Accuracy(model=found.model, version=found.version)
        self._keep(pipeline, learned.with_accuracy(accuracy.take(before, judged)))
        self._report_slices(pipeline)
        self._look(pipeline)
        self.show(pipeline)

    # --- what workers report

    def expect(self, cell: str, record: Expected) -> None:
        """Take what the reference of a bundle says, from the cell that runs the pipeline now."""
        if record.pipeline in self._config.pipelines and not self._has_moved(cell, record.pipeline):
            self._expected[record.pipeline] = record

    def drifted(self, pipeline: str, event: DriftEvent) -> None:
        """Take note of an alarm of a monitor. A fault of a sensor is no reason for a training.

        What other monitors report meanwhile is no reason either: it may be the same fault. After it, they count
        from zero.
        """
        now = monotonic()
        # A worker that was taken over names its monitors as it likes.
        self._over = {name: one for name, one in self._over.items() if now < one[1]}
        alarms = self._drifts.setdefault(pipeline, {})
        faults = self._faults.setdefault(pipeline, set())
        if event.monitor in faults:
            faults.remove(event.monitor)
            alarms.update(dict.fromkeys(alarms, now))
        if event.type == "end":
            if (since := alarms.pop(event.monitor, None)) is not None:
                self._over[pipeline, event.monitor] = since, now + INTERRUPTED
        elif event.fault:
            faults.add(event.monitor)
        else:
            since = now - event.since_s
            before, _ = self._over.pop((pipeline, event.monitor), (since, 0.0))
            alarms.setdefault(event.monitor, min(before, since))

    def take_levels(self, cell: str, pipeline: str, levels: changes.Levels) -> None:
        """Take the channel means of some windows of a pipeline, from the cell that runs it now."""
        wanted = self._config.pipelines.get(pipeline)
        limits = wanted.adapt.offsets if wanted is not None and wanted.adapt is not None else None
        if limits is None or self._has_moved(cell, pipeline):
            return
        known = self._of(pipeline).followed or Followed()
        known = replace(known, present=known.present.plus(levels))
        if not known.base.windows and known.present.windows >= limits.windows:
            known = Followed(base=known.present, before=known.present, since=clock())
        self._keep(pipeline, replace(self._of(pipeline), followed=known), LEVELS_PAUSE)

    # --- adaptations

    def show(self, pipeline: str) -> None:
        """Have health report what is known of the model that a pipeline runs."""
        account, learned = self._around.ledger.account(pipeline), self._of(pipeline)
        model, version = account.last.model, account.last.version
        known = learned.of(model, version)
        expected = self._expectation(pipeline, model, version)
        account.accuracy = None if known is None else accuracy.health(known, expected)
        account.adaptations = adaptations.health(learned.adaptations, model, version)

    def correction(self, pipeline: str, model: str, version: int) -> Correction | None:
        """Return how a pipeline is to run a model, ``None`` if nothing is changed about it."""
        wanted, learned = self._config.pipelines.get(pipeline), self._known.get(pipeline)
        if wanted is None or learned is None:
            return None
        return adaptations.correction(learned.adaptations, model, version, wanted.adapt)

    def undo(self, pipeline: str, number: int | None, who: Who, because: str) -> Undone:
        """Undo an adaptation and all later ones.

        ``ValueError`` says why that is not possible. ``KeyError`` if there is no such pipeline.
        """
        if pipeline not in self._config.pipelines:
            raise KeyError(pipeline)
        left, undone = adaptations.undo(self._of(pipeline).adaptations, number, clock(), because)
        self._change(pipeline, adaptations=left)
        for one in undone:
            text = f"adaptation {one.number} ({one.kind}) is undone: {because}"
            self._around.events.report("adaptation_undone", pipeline, text)
            self._around.journal.record("adaptation_undone", _what(one, text), pipeline=pipeline, who=who)
        self._write()
        self.show(pipeline)
        self._around.changed()
        return Undone(
            numbers=[one.number for one in undone], labels=sum(one.kind == "prototype" for one in undone)
        )

    def taught(self, pipeline: str, label: str, *, forgotten: bool, who: Who) -> None:
        """Take note that a label was enrolled or forgotten: that is an adaptation, too."""
        running = self._running(pipeline)
        if running is not None:
            reason = f"The label {label!r} was {'forgotten' if forgotten else 'enrolled'} by command"
            made = Adaptation(
                number=0,
                kind="prototype",
                time=clock(),
                model=running.model,
                version=running.version,
                reason=reason,
                label=cut_label(label),
            )
            self._adapt(pipeline, made, who)

    def swap_failed(self, pipeline: str, reason: str) -> None:
        """Undo the newest correction of a pipeline, as the pipeline could not run with it."""
        running = self._running(pipeline)
        if running is None:
            return
        forces = adaptations.in_force(self._of(pipeline).adaptations, running.model, running.version)
        numbers = [one.number for kind, one in forces.items() if kind != "prototype"]
        if numbers:
            self.undo(pipeline, max(numbers), Who(), f"the pipeline could not run with it: {reason}")

    # --- what is due

    def next_due(self) -> float:
        """Return when something is to be done next, on the monotonic clock."""
        return min(self._look_at, self._write_at)

    def tend(self) -> None:
        """Look at what may be advised or adapted, and write what was counted."""
        now = monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK
            for pipeline in list(self._config.pipelines):
                self._look(pipeline)
        if now >= self._write_at:
            self._write()

    def close(self) -> None:
        """Write what was counted."""
        if self._write_at < math.inf:
            self._write()

    def _write(self) -> None:
        known = AllLearned(pipelines=dict(list(self._known.items())[:MOST_PIPELINES]))
        try:
            state_files.replace(self._path, msgspec.json.encode(known), 0o600)
        except OSError as error:
            log.warning("%s: %s; what was learned is in memory alone", self._path, error.strerror)
            self._write_at = monotonic() + PAUSE
        else:
            self._write_at = math.inf

    def _look(self, pipeline: str) -> None:
        """Advise and adapt what is due for a pipeline."""
        running = self._running(pipeline)
        if running is None:
            return
        self._advise(pipeline, running)
        time = clock()
        if time and not running.compared:
            self._adapt_what_is_due(pipeline, running, time)

    # --- advice

    def _report_slices(self, pipeline: str) -> None:
        """Report slices that have fallen behind since the last look."""
        running = self._running(pipeline)
        known = self._of(pipeline).of(running.model, running.version) if running is not None else None
        if running is None or known is None:
            return
        behind = advice.slices_behind(known, self._expectation(pipeline, running.model, running.version))
        for name in behind.keys() - self._behind.get(pipeline, set()):
            self._around.events.report("slice_behind", pipeline, behind[name])
        self._behind[pipeline] = set(behind)

    def _advise(self, pipeline: str, running: Running) -> None:
        """Publish that a training is advised, once for each new reason."""
        learned, options = self._of(pipeline), self._config.pipelines[pipeline].retraining
        known = learned.of(running.model, running.version)
        now = monotonic()
        alarms = {} if self._faults.get(pipeline) else self._drifts.get(pipeline, {})
        drifts = {name: now - since for name, since in alarms.items()}
        expected = self._expectation(pipeline, running.model, running.version)
        reasons = advice.reasons(known, expected, drifts, options)
        mark = f"{running.model} {running.version}"
        advised = learned.advised if learned.advised[:1] == (mark,) else (mark,)
        if not any(one.kind not in advised for one in reasons):
            return
        advised = (mark, *dict.fromkeys([*advised[1:], *(one.kind for one in reasons)]))
        self._change(pipeline, advised=advised[:300])
        self._around.events.report("retraining_advised", pipeline, " ".join(one.text for one in reasons))

    def _expectation(self, pipeline: str, model: str, version: int) -> Expected | None:
        expected = self._expected.get(pipeline)
        return (
            expected if expected is not None and (expected.model, expected.version) == (model, version) else None
        )

    # --- adapting

    def _adapt_what_is_due(self, pipeline: str, running: Running, time: float) -> None:
        wanted, learned = self._config.pipelines[pipeline], self._of(pipeline)
        if wanted.adapt is None:
            return
        if learned.adaptations.held and not self._is_held_for(learned, running):
            self._change(pipeline, adaptations=adaptations.released(learned.adaptations))
            learned = self._of(pipeline)
        forces = adaptations.in_force(learned.adaptations, running.model, running.version)
        for kind, hours in _kinds(wanted).items():
            # If the clock was set back, the last change may be far in the future.
            due = abs(time - learned.changed.get(kind, 0.0)) >= hours * 3600
            if due and kind not in learned.adaptations.held:
                self._try(pipeline, running, kind, forces)

    def _is_held_for(self, learned: Learned, running: Running) -> bool:
        """Whether what was undone last was undone for the model that runs now."""
        undone = [one for one in learned.adaptations.made if one.undone]
        return any((one.model, one.version) == (running.model, running.version) for one in undone)

    def _try(
        self, pipeline: str, running: Running, kind: AdaptationKind, forces: Mapping[AdaptationKind, Adaptation]
    ) -> None:
        """Adapt one kind, if its rule says so."""
        made = self._decide(pipeline, running, kind, forces.get(kind))
        if made is not None:
            self._change(pipeline, changed={**self._of(pipeline).changed, kind: clock()})
            self._adapt(pipeline, made, Who())

    def _decide(
        self, pipeline: str, running: Running, kind: AdaptationKind, now: Adaptation | None
    ) -> Adaptation | None:
        allowed, learned = self._config.pipelines[pipeline].adapt, self._of(pipeline)
        known = learned.of(running.model, running.version)
        expected = self._expectation(pipeline, running.model, running.version)
        blank = Adaptation(
            number=0, kind=kind, time=clock(), model=running.model, version=running.version, reason=""
        )
        if allowed is None:
            return None
        if kind == "threshold" and allowed.threshold is not None and known is not None:
            present = now.threshold if now is not None else expected.threshold if expected is not None else None
            step = changes.threshold(known.recent, present, allowed.threshold)
            return replace(blank, threshold=step.value, reason=step.reason) if step else None
        if kind == "priors" and allowed.priors is not None and known is not None and expected is not None:
            weights = now.weights if now is not None else {}
            prior = changes.priors(accuracy.truths(known), expected.priors, weights, allowed.priors)
            return replace(blank, weights=prior.weights, reason=prior.reason) if prior else None
        if kind == "coverage" and allowed.coverage is not None and known is not None:
            since = now.time if now is not None and now.time <= blank.time else 0.0
            aim = changes.aim(known.recent, now.aim if now is not None else None, since, allowed.coverage)
            return replace(blank, aim=aim.value, reason=aim.reason) if aim else None
        if kind == "offsets" and allowed.offsets is not None and learned.followed is not None:
            found = self._next_offsets(pipeline, learned.followed, now, allowed.offsets)
            return replace(blank, offsets=found.values, reason=found.reason) if found else None
        return None

    def _next_offsets(
        self, pipeline: str, followed: Followed, now: Adaptation | None, limits: OffsetLimits
    ) -> changes.Offsets | None:
        """Return the next offsets, and begin the next period."""
        if followed.present.windows < limits.windows or self._faults.get(pipeline):
            return None
        present = now.offsets if now is not None else []
        found = changes.offsets(followed.base, followed.before, followed.present, present, limits)
        later = replace(followed, before=followed.present, present=changes.Levels(), since=clock())
        self._change(pipeline, followed=later)
        return found

    def _adapt(self, pipeline: str, made: Adaptation, who: Who) -> None:
        """Keep an adaptation, explain it, and have the pipeline run with it."""
        self._change(pipeline, adaptations=adaptations.add(self._of(pipeline).adaptations, made))
        number = self._of(pipeline).adaptations.last
        text = f"adaptation {number} ({made.kind}): {made.reason}"
        self._around.journal.record("adapted", _what(made, text), pipeline=pipeline, who=who, durable=True)
        self._write()
        self._around.events.report("adapted", pipeline, text)
        self.show(pipeline)
        self._around.changed()

    # --- state

    def _running(self, pipeline: str) -> Running | None:
        """Return what a pipeline runs, ``None`` if it does not."""
        last = self._around.ledger.account(pipeline).last
        if last.state not in AT_WORK or not last.model:
            return None
        return Running(last.model, last.version, self._around.compared(pipeline))

    def _has_moved(self, cell: str, pipeline: str) -> bool:
        """Whether another cell runs a pipeline now. A former worker may still send, and may not teach."""
        return self._around.ledger.has_moved(cell, pipeline)

    def _of(self, pipeline: str) -> Learned:
        return self._known.get(pipeline) or Learned()

    def _change(self, pipeline: str, **fields: object) -> None:
        self._keep(pipeline, replace(self._of(pipeline), **fields))

    def _keep(self, pipeline: str, learned: Learned, within: float = PAUSE) -> None:
        """Take what is known of a pipeline now. It is on the disk within so many seconds."""
        self._known[pipeline] = learned
        self._write_at = min(self._write_at, monotonic() + within)


def _kinds(wanted: PipelineConfig) -> dict[AdaptationKind, float]:
    """Return the kinds that may be adapted, each with the hours between two changes."""
    allowed = wanted.adapt
    if allowed is None:
        return {}
    tables = {
        "threshold": allowed.threshold,
        "priors": allowed.priors,
        "offsets": allowed.offsets,
        "coverage": allowed.coverage,
    }
    return {kind: table.hours for kind, table in tables.items() if table is not None}  # type: ignore[misc]


def _judged(feedback: Feedback, found: Known, slices_: list[str], right: bool) -> Judged:  # noqa: FBT001
    truth = cut_label(feedback.truth) if isinstance(feedback.truth, str) else ""
    undecided = found.short.abstained and found.short.answer.value is None
    return Judged(
        feedback.id,
        None if undecided else right,
        truth,
        found.short.best,
        found.short.score,
        tuple(slices_),
        found.chosen,
        found.short.holds(feedback.truth),
        max(found.time.timestamp(), 0.0),
    )


def _slices_of(wanted: PipelineConfig, feedback: Feedback, time: datetime) -> list[str]:
    """Return the slices of a result. The groups of feedback come before those of the configuration."""
    groups = {**wanted.groups, **feedback.groups}
    return slices(groups, time.astimezone())


def _what(made: Adaptation, text: str) -> What:
    return What(model=made.model, version=made.version, reason=text)


def _unknown(reason: str) -> FeedbackTaken:
    return FeedbackTaken(known=False, reason=reason)
