"""A pipeline at work in a worker, and what is counted of it."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.contracts.assignment import PipelineOptions
from limpet.contracts.captures import Loss
from limpet.contracts.data import Samples
from limpet.contracts.fields import WindowSpec
from limpet.errors import ModelError
from limpet.inference.adapted import channels
from limpet.inference.economy import Economy
from limpet.inference.monitoring import Monitoring, watch
from limpet.inference.pipeline import Pipeline
from limpet.untrusted import reading
from limpet.wire.records import SnapshotStep
from limpet.worker import no_result
from limpet.worker.delegation import DelegatedModel
from limpet.worker.levels import ChannelLevels
from limpet.worker.progress import Counts, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.wire.records import Result

log = logging.getLogger(__name__)

ERRORS_IN_A_ROW = 10
"""Failed windows after which a pipeline is failed."""
LARGEST_HELD = 32 << 20
"""Bytes of samples that a trial keeps for the old pipeline. With more, the successor is taken to work."""


class RunningPipeline(msgspec.Struct):
    """A pipeline, the revision of its assignment and its options, and its counters.

    ``kept``: it stays open when it has failed, until another model takes over. It can recover meanwhile.
    ``errors`` counts since the last heartbeat; ``samples``, ``results`` and ``failures`` since it was opened.
    """

    pipeline: Pipeline
    options: PipelineOptions
    revision: int
    trial: Trial | None = None
    """The pipeline that it has taken over from, until it has run its first window."""
    errors: int = 0
    errors_in_a_row: int = 0
    error: str = ""
    """Why it has failed."""
    samples: int = 0
    results: int = 0
    failures: int = 0
    reported: bool = False
    """Whether the supervisor knows that it runs."""
    kept: bool = False
    failing: bool = False
    """Whether it is kept, and was reported as failed."""
    skipped: bool = False
    """Whether samples passed while no delegate was ready. A gap follows."""
    left_out: bool = False
    """Whether the log says already that a result could not be sent."""
    snapshots: Counter[SnapshotStep] = msgspec.field(default_factory=Counter)
    """What became of its pictures since the last heartbeat."""
    economy: Economy = msgspec.field(default_factory=Economy)
    """Whether what is to save runs of its model does."""
    lost: Counter[Loss] = msgspec.field(default_factory=Counter)
    """Windows that were not kept since the last heartbeat, by cause."""
    expected: bool = False
    """Whether the supervisor knows what is expected of its model."""
    levels: ChannelLevels | None = None
    """Means of its channels, if it follows slow drift."""
    progress: Progress = msgspec.field(default_factory=lambda: Progress(WindowSpec(size=1), 1))
    """Whether its samples complete windows."""
    monitoring: Monitoring | None = None

    def __post_init__(self) -> None:
        plan = self.pipeline.plan
        rounds = plan.savings.early_exit.windows if plan.savings and plan.savings.early_exit else 1
        self.progress = Progress(plan.window, plan.every * rounds)
        self.monitoring = watch(self.pipeline)
        if self.options.adapt is not None and self.options.adapt.offsets is not None:
            self.levels = ChannelLevels(channels(plan.spec))
            self.pipeline.observe(self.levels.see)

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.pipeline.plan.name

    @property
    def known(self) -> RunningPipeline:
        """The pipeline that the supervisor knows of: the old one during a trial."""
        return self.trial.old if self.trial else self

    @property
    def delegated(self) -> DelegatedModel | None:
        """Its model, if that may run on an accelerator."""
        model = self.pipeline.model
        return model if isinstance(model, DelegatedModel) else None

    @property
    def ready(self) -> bool:
        """Whether windows can be run."""
        return self.delegated is None or self.delegated.ready

    @property
    def settled(self) -> bool:
        """Whether its first delegate is chosen, or has taken too long to open."""
        return self.delegated is None or self.delegated.settled

    def accept(self, samples: Samples) -> Samples | None:
        """Count a block of samples and return it, marked if there is a gap before it. ``None`` if not ready.

        ``ModelError`` if a trial ends so.
        """
        if not self.ready:
            if self.trial is not None:
                raise ModelError("no delegate is left")
            self.skipped = True
            return None
        block = msgspec.structs.replace(samples, gap=True) if self.skipped else samples
        self.skipped = False
        self.samples += len(block)
        return block

    def feed(self, block: Samples) -> Iterator[Result[Any]]:
        """Return a result for each window. ``ModelError`` after too many failed windows in a row.

        In a trial, whatever goes wrong with the first window is a ``LimpetError``.
        """
        results = self.pipeline.feed(block, self._count_error)
        return results if self.trial is None else _tried(results)

    def count_result(self) -> None:
        """Count a window with a result."""
        self.errors_in_a_row = 0
        if self.failing:
            self.failing = self.reported = False
        self.results += 1

    def _count_error(self, error: ModelError) -> None:
        """Count a window without a result. Raise ``error`` if that makes too many, which in a trial is one."""
        if self.trial is not None:
            raise error
        self.errors += 1
        self.failures += 1
        self.errors_in_a_row += 1
        if self.errors_in_a_row == 1:
            log.warning("pipeline %s: %s", self.name, error)
        if self.errors_in_a_row >= ERRORS_IN_A_ROW:
            self.error = str(error)
            if not self.kept:
                raise error

    @property
    def has_failed(self) -> bool:
        """Whether it is kept, and has failed since it was reported."""
        return self.kept and not self.failing and self.errors_in_a_row >= ERRORS_IN_A_ROW

    def watch_progress(self, now: float) -> bool:
        """Look whether samples complete windows. Return whether ``progress.reason`` is another one now."""
        counted = Counts(self.samples, self.results + self.failures, self.pipeline.in_no_window)
        return self.progress.look(now, counted)

    def count_left_out(self, reason: str) -> None:
        """Count a result that cannot be sent. The first one is logged."""
        self.errors += 1
        if not self.left_out:
            self.left_out = True
            log.error("pipeline %s: %s. The result is not reported", self.name, reason)

    def finish_monitoring(self) -> None:
        """Have the next heartbeat report all that monitors saw, as no window follows."""
        if self.monitoring is not None:
            self.monitoring.finish()

    def end_trial(self) -> RunningPipeline:
        """Keep this pipeline, and count on from the old one. Return the old pipeline."""
        assert self.trial is not None
        old, self.trial = self.trial.old, None
        self.samples += old.samples
        self.results += old.results
        self.failures += old.failures
        self.pipeline.adopt_captures(old.pipeline)
        if self.monitoring is not None and old.monitoring is not None:
            self.monitoring.adopt(old.monitoring)
        return old

    def end_reason(self) -> str:
        """Return what to report when the source has ended: also why there was no result, if there was none."""
        if self.results:
            return "its source came to an end"
        pipeline = self.pipeline
        why = no_result.reason(pipeline.plan, self.samples, pipeline.in_no_window, self.failures)
        log.warning("pipeline %s: its source came to an end after %s", self.name, why)
        return f"its source came to an end after {why}"


class Trial(msgspec.Struct):
    """The old pipeline, and the samples since its successor took over: it gets them if the successor fails."""

    old: RunningPipeline
    samples: list[Samples] = []
    size: int = 0

    def hold(self, samples: Samples) -> None:
        """Keep a block. Its memory stays as it is for that long, see ``Samples``."""
        self.samples.append(samples)
        self.size += samples.nbytes

    @property
    def full(self) -> bool:
        """Whether no more samples are to be kept."""
        return self.size > LARGEST_HELD


def _tried(results: Iterator[Result[Any]]) -> Iterator[Result[Any]]:
    """Return the results of a trial. Whatever goes wrong with the first window is a ``LimpetError``."""
    with reading("its first window"):
        first = next(results, None)
    if first is not None:
        yield first
        yield from results
