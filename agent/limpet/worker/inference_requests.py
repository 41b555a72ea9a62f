"""Windows that came with commands and run on a pipeline's model, see ``limpet.inference.infer_request``."""

from __future__ import annotations

import os
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.commands import LARGEST_OUTPUTS
from limpet.contracts.delegate import CPU
from limpet.contracts.messages import Tensor
from limpet.errors import ModelError
from limpet.inference import infer_request
from limpet.inference.admission import opened
from limpet.inference.inputs import complete
from limpet.wire.records import MOST_DIMENSIONS, MOST_TENSORS, Answered
from limpet.worker.delegation import DelegatedModel
from limpet.worker.spare_time import SLICE, SpareTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import FloatArray
    from limpet.contracts.messages import Inferred
    from limpet.contracts.runtime import Model
    from limpet.inference.pipeline import Pipeline


@dataclass
class _Request:
    """The windows of one command. ``remaining`` is in reverse order, so that the next one is its last."""

    number: int
    pipeline: Pipeline
    remaining: list[FloatArray]
    answers: infer_request.Answers
    own_model: Model | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def model(self) -> Model:
        """Return the model that the windows run on.

        It is the pipeline's own, unless that keeps state. Then it is another one on the CPU, so that neither
        sees the other's windows. ``ModelError`` if that cannot be opened.
        """
        plan = self.pipeline.plan
        if self.own_model is None and plan.state:
            model = self.stack.enter_context(opened(plan, CPU, self.pipeline.shapes))
            self.own_model = complete(model, plan.inputs, plan.state)
        return self.own_model or self.pipeline.completed


class InferenceRequests:
    """A queue of requests. They run between the pipelines' own windows, and are in none of their figures."""

    def __init__(self, send: Callable[[Answered], None]) -> None:
        self._send = send
        self._queue: deque[_Request] = deque()
        self._time = SpareTime()

    def __bool__(self) -> bool:
        """Whether there is something to run."""
        return bool(self._queue)

    def accept(self, number: int, pipeline: Pipeline | None, file: int) -> None:
        """Read the windows of a request from an open file, or answer why that is not possible."""
        try:
            with os.fdopen(file, "rb") as opened_file:
                opened_file.seek(0)
                windows = infer_request.windows(msgspec.msgpack.decode(opened_file.read(), type=Tensor))
            if pipeline is None:
                raise ModelError("the pipeline does not run")  # noqa: TRY301
            infer_request.refuse(pipeline.completed, windows)
        except ModelError as error:
            self._send(Answered(number, str(error)))
        else:
            self._queue.append(_Request(number, pipeline, list(windows[::-1]), infer_request.Answers()))

    def cancel(self, pipeline: Pipeline) -> None:
        """Answer the requests for a pipeline that is about to be closed."""
        for request in [one for one in self._queue if one.pipeline is pipeline]:
            self._finish(request, Answered(request.number, "the pipeline was closed meanwhile; send it again"))

    def run_slice(self, *, busy: bool) -> None:
        """Run windows for a moment, and answer requests that are done. ``busy``: samples wait, which go first."""
        if not self._queue or not self._time.may_run(busy=busy):
            return
        begin = perf_counter()
        self._run(self._queue[0])
        self._time.spent(perf_counter() - begin)

    def _run(self, request: _Request) -> None:
        try:
            result = _run_windows(request)
        except ModelError as error:
            self._finish(request, Answered(request.number, str(error)))
        else:
            if result is not None:
                self._finish(request, Answered(request.number, result=result))

    def _finish(self, request: _Request, answered: Answered) -> None:
        self._queue.remove(request)
        request.stack.close()
        self._send(answered)


def _run_windows(request: _Request) -> Inferred | None:
    """Run windows until the slice is over. Return the answer if none is left, and its size is within limits."""
    model, answers, until = request.model(), request.answers, perf_counter() + SLICE
    alone = request.pipeline.plan.state and not request.pipeline.plan.state.lasting
    while request.remaining:
        if alone:
            model.reset()
        answers.add(model, request.remaining.pop())
        if answers.size > LARGEST_OUTPUTS:
            raise ModelError(f"the outputs of {len(answers.run_us)} windows exceed {LARGEST_OUTPUTS} bytes")
        if perf_counter() > until and request.remaining:
            return None
    return _answer(request, model)


def _answer(request: _Request, model: Model) -> Inferred:
    plan, own = request.pipeline.plan, request.pipeline.model
    placed = own.placed if isinstance(own, DelegatedModel) and own.delegate == model.delegate else None
    digest = infer_request.digest(plan, model.delegate)
    found = infer_request.inferred(plan, model, request.answers, placed, digest)
    if len(found.outputs) > MOST_TENSORS or any(len(one.shape) > MOST_DIMENSIONS for one in found.outputs):
        raise ModelError(f"more than {MOST_TENSORS} outputs or {MOST_DIMENSIONS} dimensions are not sent")
    return found
