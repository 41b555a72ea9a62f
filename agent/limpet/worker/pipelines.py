"""The pipelines of a worker: opened, swapped for their successors, fed and closed as the supervisor assigns them.

``limpet.worker.swap`` decides; this does it.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from limpet.errors import LimpetError, ModelError, UnreadableError
from limpet.updates.answers import Pairs
from limpet.worker.delegation import DelegatedModel
from limpet.worker.running import RunningPipeline, Trial
from limpet.worker.shadows import Shadows
from limpet.worker.successor import Opening, Successor
from limpet.worker.swap import Changes, Phase, Seen, Step, changes, next_step, superseded
from limpet.worker.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import Samples, SampleSpec
    from limpet.contracts.messages import State
    from limpet.inference.pipeline import Pipeline
    from limpet.wire.records import Assign, Dismiss, NeedShadow, Result, ShadowFailed
    from limpet.worker.explanations import Explanations
    from limpet.worker.inference_requests import InferenceRequests
    from limpet.worker.keeping import Keeping
    from limpet.worker.reports import Reports
    from limpet.worker.result_sender import ResultSender, SupervisorChannel
    from limpet.worker.served_models import ServedModels
    from limpet.worker.snapshots import Snapshots

log = logging.getLogger(__name__)

MOST_ABANDONED = 2
"""Threads of a pipeline that still open a successor which is no longer wanted. They cannot be ended."""
_HANG = f"{MOST_ABANDONED} earlier successors still open; the command `restart` ends them"


@dataclass
class _Swap:
    """A swap at work."""

    successor: Successor
    phase: Phase = Phase.OPENING

    @property
    def revision(self) -> int:
        return self.successor.opening.revision

    @property
    def delegated(self) -> DelegatedModel | None:
        """The successor's model, while it is settling and if it may run on an accelerator."""
        pipeline = self.successor.pipeline if self.phase is Phase.SETTLING else None
        return pipeline.model if pipeline and isinstance(pipeline.model, DelegatedModel) else None

    def seen(self) -> Seen:
        """Look at the successor."""
        delegated = self.delegated
        if delegated is not None:
            delegated.poll()
        return Seen(
            self.successor.finished,
            self.successor.error,
            chosen=delegated is None or delegated.chosen,
            ready=delegated is None or delegated.ready,
            overdue=self.successor.overdue,
        )


class Pipelines:
    """The pipelines of a worker, by name."""

    def __init__(  # noqa: PLR0913 - each is a different thing
        self,
        supervisor: SupervisorChannel,
        spec: SampleSpec,
        *,
        reports: Reports,
        results: ResultSender,
        requests: InferenceRequests,
        explanations: Explanations,
        served: ServedModels,
        snapshots: Snapshots,
        keeping: Keeping,
    ) -> None:
        self.running: dict[str, RunningPipeline] = {}
        self._supervisor = supervisor
        self._spec = spec
        self._reports = reports
        self._results = results
        self._requests = requests
        self._explanations = explanations
        self._served = served
        self._snapshots = snapshots
        self._keeping = keeping
        self._shadows = Shadows(spec, self._send_of_shadow, self._report)
        self._tracing = Tracing(supervisor.send)
        self._swaps: dict[str, _Swap] = {}
        self._abandoned: list[Successor] = []
        self._failed: dict[str, int] = {}
        self._untrained: set[str] = set()
        """Pipelines whose model still learns."""

    @property
    def at_work(self) -> bool:
        """Whether any pipeline runs, or will as soon as it is open."""
        return bool(self.running or self._swaps)

    @property
    def by_name(self) -> dict[str, Pipeline]:
        """The pipelines that run windows."""
        return {name: running.pipeline for name, running in self.running.items()}

    def assign(self, assigned: Assign) -> None:
        """Close pipelines that are no longer assigned, open new ones, and begin to swap those that changed."""
        for name in superseded(self._successors(), assigned.revisions):
            self._cancel(name, self._swaps[name])
        todo = self._changes(assigned)
        for name in todo.close:
            self._close(name, "stopped", "no longer configured")
        for name in todo.open:
            self._open(self._opening(assigned, name), prove=name in assigned.prove)
        for name in todo.swap:
            self._begin(self._opening(assigned, name))
        options = {name: running.known.options for name, running in self.running.items()}
        self._shadows.assign(assigned.assignment.shadows, options)
        self._tracing.share = assigned.assignment.traces
        self._set_deadline()

    def to_open(self, assigned: Assign) -> list[str]:
        """Return the pipelines of an assignment that are not open in this revision, and will be opened."""
        todo = self._changes(assigned)
        return [*todo.open, *todo.swap]

    def advance(self) -> None:
        """Go on with every swap as far as it can."""
        for name, swap in list(self._swaps.items()):
            step = next_step(swap.phase, swap.seen())
            if step is Step.SETTLE:
                swap.phase = Phase.SETTLING
            elif step is Step.TAKE_OVER:
                self._take_over(name, swap)
            elif step is Step.FAIL:
                self._fail(name, swap, _why_not(swap))
        for successor in [one for one in self._abandoned if one.finished]:
            self._abandoned.remove(successor)
            successor.close()

    @property
    def wait_for_shadow(self) -> bool:
        """Whether a result waits for the answer of a shadow."""
        return self._shadows.hold

    def feed(self, samples: Samples, *, busy: bool = False) -> None:
        """Run the windows that a block of samples completes. ``busy``: more samples wait already."""
        for name in list(self.running):
            self._feed(name, samples, busy=busy)
        for running in self.running.values():
            if running.has_failed:
                running.failing = True
                self._reports.state(running, "failed", running.error)
        if self._untrained:
            self._look_at_learning()

    def idle(self) -> None:
        """Have stages forget what is too old, also while no window comes, and report what they found."""
        for running in self.running.values():
            if running.trial is None:
                running.pipeline.idle()
                self._reports.report_events(running)
                if running.monitoring is not None:
                    self._keeping.follow(running.name, running.monitoring.alarms)
        if self._shadows:
            self._shadows.poll()

    def tend_monitors(self) -> None:
        """Have monitors look at the windows that wait for them. No result should wait meanwhile."""
        for running in self.running.values():
            if running.monitoring is not None:
                running.monitoring.tend(monotonic_ns())

    def watch_delegates(self) -> None:
        """Report pipelines that have just started, and those that moved to another delegate."""
        for running in self.running.values():
            moved = running.delegated is not None and running.delegated.poll()
            settled = running.settled and self._reports.source_known()
            if running.trial is None and settled and (moved or not running.reported):
                running.reported = True
                self._reports.at_work(running)

    def connect_executor(self, number: int, fd: int) -> None:
        """Give the socket of an executor or a shadow to who requested it."""
        end = socket.socket(fileno=fd)
        if self._shadows.connect(number, end):
            return
        if not any(model.connect_executor(number, end) for model in self._delegated()):
            end.close()

    def leave_out(self, result: Result[Any], reason: str) -> None:
        """Count a result that cannot be sent."""
        if result.pipeline in self.running:
            self.running[result.pipeline].count_left_out(reason)

    def close_all(self, state: State) -> None:
        """Close all pipelines, as they are ``stopped`` or their source has ``finished``."""
        for name, swap in list(self._swaps.items()):
            self._cancel(name, swap)
        for name, running in list(self.running.items()):
            self._close(name, state, running.end_reason() if state == "finished" else "")

    # --- assignments

    def _revisions(self) -> dict[str, int]:
        """Return what runs, the old pipelines during trials."""
        return {name: running.known.revision for name, running in self.running.items()}

    def _successors(self) -> dict[str, int]:
        """Return the revisions of all successors."""
        return {name: swap.revision for name, swap in self._swaps.items()}

    def _changes(self, assigned: Assign) -> Changes:
        kept = self._successors().items() & assigned.revisions.items()
        return changes(self._revisions(), self._failed, {name for name, _ in kept}, assigned.revisions)

    def _opening(self, assigned: Assign, name: str) -> Opening:
        return Opening(assigned.of(name), name, assigned.revisions[name], self._supervisor.send)

    def _open(self, opening: Opening, *, prove: bool) -> None:
        """Open a pipeline that does not run."""
        self._reports.starting(opening.name, opening.revision)
        try:
            pipeline = opening.open(self._spec, prove=prove)
        except LimpetError as error:
            if isinstance(error, UnreadableError):
                log.error("pipeline %s: %s", opening.name, error, exc_info=error.__cause__)  # noqa: TRY400
            self._reports.not_opened(opening.name, opening.revision, error)
        else:
            self._run(opening, pipeline)
            self.watch_delegates()

    def _run(self, opening: Opening, pipeline: Pipeline) -> None:
        self.running[opening.name] = RunningPipeline(
            pipeline, opening.options, opening.revision, kept=opening.kept
        )
        self._keeping.watch(self.running[opening.name])
        self._warn(opening.name, pipeline)
        self._learn(opening.name, pipeline)

    def _learn(self, name: str, pipeline: Pipeline) -> None:
        if problem := pipeline.learn():
            self._reports.notice(name, "warning", problem)
        if pipeline.learned is not None and pipeline.learned < 1:
            self._untrained.add(name)

    def _look_at_learning(self) -> None:
        """Report the pipelines whose model has learned all that it is to learn."""
        for name in list(self._untrained):
            learned = self.running[name].pipeline.learned if name in self.running else None
            if learned is None or learned >= 1:
                self._untrained.remove(name)
            if learned is not None and learned >= 1:
                self._reports.learned(name)

    def _warn(self, name: str, pipeline: Pipeline) -> None:
        for warning in pipeline.plan.warnings:
            self._reports.notice(name, "warning", warning)

    def _set_deadline(self) -> None:
        """Have the heartbeats come often enough for the shortest deadline of all that run."""
        deadlines = [running.known.options.deadline for running in self.running.values()]
        self._reports.deadline = min(deadlines, default=self._reports.deadline)

    # --- swaps

    def _begin(self, opening: Opening) -> None:
        """Open a successor beside a pipeline that runs."""
        name = opening.name
        self._reports.swap(name, opening.revision, "begun")
        if [one.opening.name for one in self._abandoned].count(name) < MOST_ABANDONED:
            self._swaps[name] = _Swap(Successor(opening, self._spec))
        else:
            self._failed[name] = opening.revision
            self._reports.swap(name, opening.revision, "failed", _HANG)

    def _take_over(self, name: str, swap: _Swap) -> None:
        """Hand the successor the next samples. The old pipeline waits for it to run its first window."""
        opening, pipeline = swap.successor.opening, swap.successor.pipeline
        assert pipeline is not None
        old = self.running.get(name)
        if old is None:  # It failed meanwhile.
            del self._swaps[name]
            self._run(opening, pipeline)
            self._set_deadline()
            self._reports.swap(name, opening.revision, "done", _described(pipeline))
            return
        if old.delegated is not None:
            old.delegated.drop_candidate()
        old.pipeline.stop_learning()  # What it learned is kept: the successor may go on from there.
        self._shadows.release(name)
        pipeline.take_over(old.pipeline)
        self._learn(name, pipeline)
        swap.phase = Phase.TRIAL
        self.running[name] = RunningPipeline(
            pipeline, opening.options, opening.revision, Trial(old), reported=True, kept=opening.kept
        )

    def _commit(self, running: RunningPipeline) -> None:
        """Keep a successor, and free the old pipeline."""
        name = running.name
        self._results.flush()
        running.known.finish_monitoring()
        self._reports.heartbeat(self.running.values(), now=True)
        del self._swaps[name]
        self._free(running.end_trial())
        if running.options.snapshots is None:
            self._snapshots.forget(name)
        self._keeping.forget(name)
        self._keeping.watch(running)
        self._set_deadline()
        self._reports.at_work(running)
        self._reports.swap(name, running.revision, "done", _described(running.pipeline))
        self._warn(name, running.pipeline)

    def _fail(self, name: str, swap: _Swap, reason: str) -> None:
        """Go on with the old pipeline, and report why."""
        self._failed[name] = swap.revision
        self._cancel(name, swap)
        self._reports.swap(name, swap.revision, "failed", reason)

    def _cancel(self, name: str, swap: _Swap) -> None:
        """Give up a successor. The old pipeline goes on."""
        del self._swaps[name]
        if swap.phase is Phase.TRIAL:
            self._revert(name)
        else:
            self._abandoned.append(swap.successor)  # ``advance`` closes it as soon as its thread has ended.

    def _revert(self, name: str) -> None:
        """Have the old pipeline go on from where the successor took over: it gets all samples since then."""
        successor = self.running[name]
        trial = successor.trial
        assert trial is not None
        trial.old.pipeline.adopt_captures(successor.pipeline)
        self.running[name] = trial.old
        self._free(successor)
        self._learn(name, trial.old.pipeline)
        for samples in trial.samples:
            if name in self.running:
                self._feed(name, samples, busy=True)

    # --- while they run

    def _feed(self, name: str, samples: Samples, *, busy: bool) -> None:
        running = self.running[name]
        if running.trial is not None:
            running.trial.hold(samples)
        try:
            if (block := running.accept(samples)) is None:
                return
            self._reports.check_rate(running, block)
            self._run_windows(running, block, busy=busy)
        except (ModelError, UnreadableError) as error:
            if running.trial is not None:
                self._fail(name, self._swaps[name], str(error))
            else:
                self._close(name, "failed", str(error))
        else:
            if running.trial is not None and running.trial.full:
                self._commit(running)

    def _run_windows(self, running: RunningPipeline, block: Samples, *, busy: bool) -> None:
        """Run the windows that a block completes, and have the shadow run some of them, if there is one."""
        shadow = self._shadows.of(running.name) if self._shadows and running.trial is None else None
        if shadow is not None:
            self._report(shadow.follow(running.pipeline))
        for result in running.feed(block):
            if running.trial is not None:
                self._commit(running)
            running.count_result()
            if self._tracing.share:
                self._tracing.see(result, running.pipeline.latency)
            if shadow is None:
                self._results.add(result)
            else:
                self._report(shadow.see(result, running.pipeline.latency.last_us))
            event = self._reports.report_events(running)
            if running.options.snapshots is not None:
                self._snapshots.see(running.options.snapshots, running.snapshots, block, result, event=event)
            self._reports.heartbeat(self.running.values())
        if shadow is not None:
            self._report(shadow.feed(block, busy=busy))

    def _send_of_shadow(self, record: NeedShadow | Dismiss | Pairs | ShadowFailed) -> None:
        """Send a record of a shadow. Windows about which it disagrees may be worth keeping."""
        if isinstance(record, Pairs):
            self._keeping.compare(record)
        self._supervisor.send(record)

    def _report(self, results: list[Result[Any]]) -> None:
        for result in results:
            self._results.add(result)

    def _delegated(self) -> Iterator[DelegatedModel]:
        """Yield all models that may run on accelerators."""
        for running in self.running.values():
            for one in (running, running.known):
                if one.delegated is not None:
                    yield one.delegated
        for swap in self._swaps.values():
            if swap.delegated is not None:
                yield swap.delegated

    def _close(self, name: str, state: State, reason: str) -> None:
        """Send all that a pipeline has still to report, then close it."""
        self._shadows.end(name)
        self._keeping.forget(name)
        self._results.flush()
        self.running[name].finish_monitoring()
        self._reports.heartbeat(self.running.values(), now=True)
        self._reports.state(self.running[name], state, reason)
        self._free(self.running.pop(name))
        self._snapshots.forget(name)

    def _free(self, running: RunningPipeline) -> None:
        self._requests.cancel(running.pipeline)
        self._explanations.cancel(running.pipeline)
        self._served.cancel(running.pipeline)
        running.pipeline.close()


def _described(pipeline: Pipeline) -> str:
    """Say what took over."""
    manifest = pipeline.plan.bundle.manifest
    version = (
        f" {manifest.version}" if manifest.members else ""
    )  # a bare model has none; 0 is a version of a bundle
    return f"{manifest.name}{version} on {pipeline.model.delegate}"


def _why_not(swap: _Swap) -> str:
    """Say why a successor does not take over."""
    delegated = swap.delegated
    if swap.successor.error:
        return swap.successor.error
    if delegated is not None:
        return f"no delegate is left: {delegated.reason}"
    return f"it did not open within {swap.successor.opening.options.opening:g} s"
