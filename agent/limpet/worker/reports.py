"""What a worker reports to the supervisor besides results: states, notices and heartbeats."""

from __future__ import annotations

import logging
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.detected_events import LONGEST_LABEL, DetectedEvent
from limpet.wire.border import cleaned, cleaned_placed, folded
from limpet.wire.records import (
    EventDetected,
    Figures,
    Heartbeat,
    Notice,
    SwapReport,
    SwapStep,
    Transition,
    WorkerEvent,
)
from limpet.worker.expectation import expectation
from limpet.worker.intake import Gaps
from limpet.worker.live_inputs import LiveInputs

if TYPE_CHECKING:
    from collections.abc import Collection

    from limpet.contracts.data import Samples, SampleSpec
    from limpet.contracts.messages import State
    from limpet.worker.intake import Intake
    from limpet.worker.result_sender import SupervisorChannel
    from limpet.worker.running import RunningPipeline

log = logging.getLogger(__name__)

HEARTBEAT = 1.0
"""Seconds between heartbeats, a quarter of the deadline if that is less."""
PROGRESS = 0.5
"""Seconds between two looks at whether samples complete windows."""
GAP_NOTICES = 10.0
"""Seconds between two notices of gaps in the samples."""


class Reports:
    """Sends them. ``sandbox``: what this process has given up. ``deadline``: seconds, see ``PipelineConfig``."""

    def __init__(
        self, supervisor: SupervisorChannel, source: str, spec: SampleSpec, intake: Intake, sandbox: list[str]
    ) -> None:
        self.deadline = 10.0
        self._supervisor = supervisor
        self._source = source
        self._intake = intake
        self._sandbox = sandbox
        self._source_away: str | None = None
        self._remark = ""
        self._reported_remark: dict[str, str] = {}
        self._gaps = Gaps()
        self._inputs = LiveInputs(spec)
        self._counted: Counter[str] = Counter()
        self._next_heartbeat = 0.0
        self._next_look = 0.0

    # --- states

    def starting(self, name: str, revision: int) -> None:
        """Report that a pipeline is being opened."""
        self._supervisor.send(Transition(name, "starting", revision=revision))

    def not_opened(self, name: str, revision: int, error: Exception) -> None:
        """Report that a pipeline could not be opened."""
        self._supervisor.send(Transition(name, "failed", cleaned(str(error)), revision=revision))

    def swap(self, name: str, revision: int, step: SwapStep, reason: str = "") -> None:
        """Report how far a swap is."""
        self._supervisor.send(SwapReport(name, revision, step, cleaned(reason)))

    def at_work(self, running: RunningPipeline) -> None:
        """Report that a pipeline runs and on which delegate, or what it waits for. In a trial: the old one."""
        running = running.known
        if running.failing:
            return  # that is reported already, and holds until a window works or another model takes over
        delegated, rate = running.delegated, running.pipeline.rate
        self._expect(running)
        reasons = [delegated.reason if delegated else "", rate.reason if rate else "", self._intake.reader.remark]
        if (away := self._intake.reader.away) is not None:
            self.state(running, "waiting", away)
        elif running.ready and (no_window := running.progress.reason):
            self.state(running, "waiting", no_window)
        else:
            self.state(running, "running" if running.ready else "waiting", "; ".join(filter(None, reasons)))

    def _expect(self, running: RunningPipeline) -> None:
        """Report what is expected of the model of a pipeline, once."""
        if not running.expected:
            running.expected = True
            if (expected := expectation(running.pipeline.plan, running.options)) is not None:
                self._supervisor.send(expected)

    def state(self, running: RunningPipeline, state: State, reason: str = "") -> None:
        """Report the state of a pipeline that was opened."""
        pipeline, delegated = running.pipeline, running.delegated
        manifest, model = pipeline.plan.bundle.manifest, pipeline.model
        self._supervisor.send(
            Transition(
                running.name,
                state,
                cleaned(reason),
                manifest.name,
                manifest.version,
                model.delegate,
                model.delegate_share,
                pipeline.degraded,
                cleaned_placed(delegated.placed) if delegated and delegated.placed else None,
                self._sandbox,
                running.revision,
            )
        )

    def source_changed(self) -> bool:
        """Whether the source went away, came back or has another remark since this was called last.

        ``at_work`` says so then.
        """
        before, remark = (self._source_away, self._remark), self._intake.reader.remark
        self._source_away, self._remark = self._intake.reader.away, remark
        return before != (self._source_away, remark)

    def source_known(self) -> bool:
        """Whether it is known if the source is there, so that a pipeline is not reported as running too early."""
        return self._intake.tried

    # --- notices

    def notice(self, name: str, event: WorkerEvent, reason: str) -> None:
        """Report an event that changes no state, and log it."""
        log.warning("pipeline %s: %s", name, reason)
        self._supervisor.send(Notice(name, event, cleaned(reason)))

    def remark(self, name: str) -> None:
        """Report what the source says is wrong with its samples, or that it says so no more, if that is news."""
        if self._remark != self._reported_remark.get(name, ""):
            self.notice(name, "warning", self._remark or "the samples are in order again")
            self._reported_remark[name] = self._remark

    def learned(self, name: str) -> None:
        """Report that a model has learned all that it is to learn, and stays as it is."""
        self._supervisor.send(Notice(name, "learned", "its model has learned what is normal, and stays as it is"))

    def check_rate(self, running: RunningPipeline, samples: Samples) -> None:
        """Report if samples no longer come at the rate that the model was made for, or do so again."""
        watched = running.pipeline.rate
        if watched is not None and watched.see(samples):
            self.notice(running.name, "rate", watched.reason or "samples come at the model's rate again")
            self.at_work(running)

    def check_progress(self, pipelines: Collection[RunningPipeline]) -> None:
        """Report if samples come and complete no window for long, or do so again."""
        if (now := monotonic()) < self._next_look:
            return
        self._next_look = now + PROGRESS
        for running in pipelines:
            known = running.known
            if self._intake.reader.away is not None:
                known.progress.pause()
            elif known.watch_progress(now):
                self.at_work(known)

    def see(self, samples: Samples) -> None:
        """Look at a block before it goes to the pipelines. ``heartbeat`` reports gaps and some of the values."""
        self._gaps.see(samples)
        self._inputs.see(samples)

    def report_events(self, running: RunningPipeline) -> bool:
        """Report the events that the stages of a pipeline detected since the last call.

        Return whether anything came or went: an object, or one in a zone or over a line.
        """
        events = running.pipeline.take_events()
        for wall_ns, event in events:
            try:  # A stage of another package may have made anything, and the supervisor would end this worker.
                sound = msgspec.convert(msgspec.to_builtins(event), DetectedEvent)
            except Exception as error:  # noqa: BLE001 - a stage of another package made what is encoded
                running.count_left_out(f"an event cannot be sent: {error}")
            else:
                sound.label = cleaned(sound.label, LONGEST_LABEL)
                self._supervisor.send(EventDetected(running.name, sound, wall_ns))
        return any(event.type != "update" for _, event in events)

    # --- heartbeats

    def heartbeat(self, pipelines: Collection[RunningPipeline], *, now: bool = False) -> None:
        """Send a heartbeat if one is due, unless the source hangs: then silence has this worker restarted."""
        time = monotonic()
        if (time < self._next_heartbeat and not now) or self._intake.hangs(self.deadline):
            return
        self._next_heartbeat = time + min(HEARTBEAT, self.deadline / 4)
        figures = {running.name: self._figures(running.known) for running in pipelines}
        self._supervisor.send(Heartbeat(figures, self._newly_dropped(), self._inputs.take()))
        if self._gaps.count and time >= self._gaps.next_notice:
            self._report_gaps(pipelines, time)

    def _figures(self, running: RunningPipeline) -> Figures:
        pipeline = running.pipeline
        clipping = pipeline.clipping
        errors, running.errors = running.errors, 0
        snapshots = dict(running.snapshots)
        running.snapshots.clear()
        figures = Figures(errors, pipeline.discarded(), *clipping.take(), pipeline.latency.take(), snapshots)
        figures.savings = pipeline.take_savings()
        for news in running.economy.see(figures.savings):
            self.notice(running.name, "warning", news)
        figures.uncertainty = pipeline.certainty.take()
        if (monitoring := running.monitoring) is not None:
            figures.monitors = monitoring.figures()
            for news in monitoring.notices():
                self.notice(running.name, "warning", news)
        figures.lost = dict(running.lost)
        running.lost.clear()
        figures.levels = running.levels.take() if running.levels is not None else None
        if news := clipping.news():
            self.notice(running.name, "clipped", news)
        if news := pipeline.forms.news():
            self.notice(running.name, "frames", news)
        return figures

    def _newly_dropped(self) -> dict[str, int]:
        total = Counter(dict(self._intake.dropped))
        total["queue"] = self._intake.mailbox.dropped
        new = total - self._counted
        self._counted = total
        return folded(new)

    def _report_gaps(self, pipelines: Collection[RunningPipeline], time: float) -> None:
        reason = self._gaps.sentence(self._source)
        for running in pipelines:
            self._supervisor.send(Notice(running.name, "gap", cleaned(reason)))
        self._gaps = Gaps(next_notice=time + GAP_NOTICES, expected=self._gaps.expected)
