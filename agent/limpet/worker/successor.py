"""How a worker opens a pipeline: in the main thread, or in a thread beside the pipeline that it will replace."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.delegate import CPU
from limpet.errors import LimpetError, UnreadableError
from limpet.inference.admission import judge, load
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.inference.proving import check_golden_vectors, run_one_window
from limpet.inference.savings_plan import with_savings
from limpet.untrusted import reading
from limpet.worker.delegation import DelegatedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from limpet.contracts.assignment import Assignment
    from limpet.contracts.data import SampleSpec
    from limpet.contracts.runtime import Model
    from limpet.inference.plan import PipelinePlan
    from limpet.wire.records import Dismiss, Need

log = logging.getLogger(__name__)


class Opening:
    """What a pipeline is opened with. ``send`` requests executors; it is called in the main thread alone."""

    def __init__(
        self, assignment: Assignment, name: str, revision: int, send: Callable[[Need | Dismiss], None]
    ) -> None:
        self.name = name
        self.revision = revision
        self.options = assignment.pipelines[name].options
        self.kept = assignment.pipelines[name].backed_up
        self._assignment = assignment
        self._send = send

    def open(self, spec: SampleSpec, *, prove: bool) -> Pipeline:
        """Open the pipeline on samples that are ``spec``. ``LimpetError`` says why that is not possible.

        With ``prove``, the model must give the golden outputs of its bundle on the CPU, and run one window.
        """
        # A model comes from elsewhere: whatever goes wrong with it fails its pipeline alone.
        with reading(f"the model of pipeline {self.name}"):
            plan = plan_pipeline(self._assignment, self.name, spec)
            plan = with_savings(self._assignment, self.name, plan)
            pipeline = Pipeline(plan, lambda plan, shapes: self._load(plan, shapes, prove=prove))
            if isinstance(pipeline.model, DelegatedModel):
                pipeline.model.on_lost_state(pipeline.graph.output_stages.reset)
            if prove and CPU in plan.delegates:
                self._run_one_window(pipeline)
            return pipeline

    @contextmanager
    def _load(
        self, plan: PipelinePlan, shapes: Sequence[tuple[int, ...]] | None, *, prove: bool
    ) -> Iterator[Model]:
        """Load the model on the CPU, and let it move to executors if it has accelerators."""
        with (judge if plan.accelerators else load)(plan, shapes) as cpu:
            if prove:
                check_golden_vectors(plan, cpu)
            if not plan.accelerators:
                yield cpu
                return
            model = DelegatedModel(plan, cpu, self.options, self.revision, self._send)
            try:
                yield model
            finally:
                model.close()

    def _run_one_window(self, pipeline: Pipeline) -> None:
        try:
            run_one_window(pipeline)
        except BaseException:
            pipeline.close()
            raise


class Successor:
    """Opens and proves a pipeline in a thread.

    A thread cannot be ended. To give up a successor, wait until it has ``finished``, and ``close`` it.
    """

    def __init__(self, opening: Opening, spec: SampleSpec) -> None:
        self.opening = opening
        self.pipeline: Pipeline | None = None
        """What was opened, once the thread has ``finished`` without an ``error``."""
        self.error = ""
        self._deadline = monotonic() + opening.options.opening
        self._spec = spec
        self._thread = threading.Thread(target=self._open, name=f"open {opening.name}", daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    @property
    def overdue(self) -> bool:
        """Whether the thread works for longer than it may."""
        return not self.finished and monotonic() > self._deadline

    def close(self) -> None:
        """Close what was opened, once the thread has ``finished``."""
        if self.pipeline is not None:
            self.pipeline.close()

    def _open(self) -> None:
        np.seterr(all="ignore")  # This is a thread's own. What a sensor sends may overflow.
        try:
            self.pipeline = self.opening.open(self._spec, prove=True)
        except LimpetError as error:
            if isinstance(error, UnreadableError):
                log.error("pipeline %s: %s", self.opening.name, error, exc_info=error.__cause__)  # noqa: TRY400
            self.error = str(error)
