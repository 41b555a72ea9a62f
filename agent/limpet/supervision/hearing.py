"""What workers report, one record at a time: it is counted, and passed on to what decides about it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from limpet.learning.expected import Expected
from limpet.supervision.health import now
from limpet.supervision.shadows import failure as shadow_failure
from limpet.updates.answers import Pairs
from limpet.wire.records import (
    EventDetected,
    Heartbeat,
    Incident,
    KeptFile,
    LeftOut,
    Notice,
    RawResults,
    ShadowFailed,
    Snapshot,
    ToSupervisor,
    Transition,
    WindowTimes,
)

if TYPE_CHECKING:
    from limpet.contracts.drift import MonitorFigures
    from limpet.supervision.captures import Captures
    from limpet.supervision.commands import Commands
    from limpet.supervision.learning import Learning
    from limpet.supervision.local_api import LocalApi
    from limpet.supervision.pipeline_reports import Outputs
    from limpet.supervision.planner import Planner
    from limpet.supervision.showing import Showing
    from limpet.supervision.updates import Updater
    from limpet.updates.comparison import Comparisons
    from limpet.wire.records import RawAnswered


class Hearing:
    """Takes the records of all workers, and those about them."""

    def __init__(  # noqa: PLR0913, PLR0917 - each kind of record goes to another one
        self,
        outputs: Outputs,
        planner: Planner,
        updates: Updater,
        comparisons: Comparisons,
        showing: Showing,
        commands: Commands,
        api: LocalApi,
        captures: Captures,
        learning: Learning,
    ) -> None:
        self._ledger = outputs.ledger
        self._events = outputs.events
        self._planner = planner
        self._updates = updates
        self._comparisons = comparisons
        self._showing = showing
        self._commands = commands
        self._learning = learning
        self._recent = api.recent
        self._pictures = api.pictures
        self._tracing = api.tracing
        self._captures = captures

    def hear(self, cell: str, record: ToSupervisor) -> None:
        """Take a record of a cell's worker, or about it. ``UnreadableError`` if the worker may not say that."""
        if isinstance(record, RawResults):
            self._accept(cell, record)
        elif isinstance(record, Heartbeat):
            self._count(cell, record)
        elif isinstance(record, Transition):
            self._move(cell, record)
        elif isinstance(record, Incident | Notice):
            self._note(record)
        elif isinstance(record, Pairs | ShadowFailed):
            if not self._ledger.has_moved(cell, record.pipeline):
                self._hear_of_shadow(record)
        elif isinstance(record, Expected):
            self._learning.expect(cell, record)
        elif isinstance(record, Snapshot | KeptFile | WindowTimes | EventDetected | LeftOut):
            self._hear_of_window(cell, record)
        else:
            self._take_answer(record)

    def _take_answer(self, record: RawAnswered) -> None:
        if not self._pictures.answered(record):
            self._commands.answered(record)

    def _hear_of_window(
        self, cell: str, record: Snapshot | KeptFile | WindowTimes | EventDetected | LeftOut
    ) -> None:
        """Take what comes with a result."""
        if isinstance(record, Snapshot):
            self._ledger.accept_snapshot(cell, record, monotonic())
        elif isinstance(record, KeptFile):
            self._captures.hear(cell, record)
        elif isinstance(record, WindowTimes):
            self._tracing.expect(record)
        elif isinstance(record, EventDetected):
            self._events.report_detected(record)
        else:
            self._ledger.account(record.pipeline).events_left_out += 1

    def _accept(self, cell: str, record: RawResults) -> None:
        accepted = self._ledger.accept(cell, record.items, monotonic())
        if self._learning.wants_results:
            self._learning.take_results(accepted)
        if self._recent.wanted:
            self._recent.take(accepted)
        if self._tracing.waits:
            self._tracing.accepted(accepted)
        if self._comparisons.at_work:
            self._comparisons.take_results(accepted)
        if self._updates.on_trial:
            self._updates.accepted(record)
        if self._captures.at_work:
            self._captures.accepted(accepted)

    def _count(self, cell: str, record: Heartbeat) -> None:
        self._ledger.add(cell, record, monotonic())
        for pipeline, figures in record.pipelines.items():
            if self._ledger.has_moved(cell, pipeline):
                continue
            self._hear_of_monitors(pipeline, figures.monitors)
            self._comparisons.take_errors(pipeline, figures.errors)
            if figures.levels is not None:
                self._learning.take_levels(cell, pipeline, figures.levels)
        if self._planner.backups.watched:
            self._watch_latencies(record)
        if cell in self._planner.plan.cells:
            self._showing.show_inputs(cell, record)

    def _hear_of_monitors(self, pipeline: str, figures: MonitorFigures | None) -> None:
        """Report alarms that begin or end, and the pipeline's health with them."""
        account = self._ledger.account(pipeline)
        model = account.last.model, account.last.version
        events = account.monitors.take(figures, model, now(), monotonic())
        for event in events:
            self._events.report_drift(pipeline, event)
            self._learning.drifted(pipeline, event)
        if events:
            self._planner.report_health(pipeline)

    def _watch_latencies(self, record: Heartbeat) -> None:
        """Have the backup models of pipelines take over whose main ones are too slow."""
        for pipeline in record.pipelines:
            if pipeline in self._updates.on_trial:
                continue
            latency = self._ledger.account(pipeline).latency.get("invoke", {})
            if reason := self._planner.backups.slow(pipeline, latency):
                self._planner.back_up(pipeline, reason)

    def _move(self, cell: str, record: Transition) -> None:
        if self._planner.plan.runs(record.pipeline) and not self._ledger.has_moved(cell, record.pipeline):
            on_trial = record.pipeline in self._updates.on_trial
            self._planner.move(record)
            self._planner.hear_move(record, on_trial=on_trial)

    def _note(self, record: Incident | Notice) -> None:
        self._ledger.account(record.pipeline).restarts += record.event == "crashed"
        self._events.report(record.event, record.pipeline, record.reason)
        if isinstance(record, Incident):
            self._planner.hear_incident(record, on_trial=record.pipeline in self._updates.on_trial)
            self._updates.had_incident(record)

    def _hear_of_shadow(self, record: Pairs | ShadowFailed) -> None:
        if isinstance(record, Pairs):
            self._comparisons.take_pairs(record)
        else:
            self._events.report("shadow_failed", record.pipeline, shadow_failure(record))
            self._updates.shadow_failed(record)
