"""What a worker does for a command that came from outside, see ``limpet.supervision.commands``."""

from __future__ import annotations

import logging
import os
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.contracts.commands import LARGEST_OUTPUTS
from limpet.contracts.delegate import CPU
from limpet.contracts.messages import Tensor
from limpet.errors import ModelError
from limpet.inference import infer_request
from limpet.inference.admission import opened
from limpet.inference.inputs import complete
from limpet.wire.border import MOST_LISTS, cleaned, lists_of
from limpet.wire.records import (
    MOST_CAPTURED,
    MOST_DIMENSIONS,
    MOST_TENSORS,
    Answered,
    Ask,
    CapturedTensor,
    CapturedWindow,
    SetLogLevel,
    SetThreshold,
)
from limpet.worker.delegation import Delegation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.messages import Inferred
    from limpet.contracts.runtime import Model
    from limpet.inference.pipeline import Pipeline

SLICE = 0.005
"""Seconds for which guests run at a time; one window runs in any case."""
SHARE = 0.1
"""Share of the time that guests get where samples always wait."""


def answer(ask: Ask, pipelines: Mapping[str, Pipeline], send: Callable[[Answered], None]) -> None:
    """Do what is asked, and send the answer now or when it is known."""
    what = ask.what
    if isinstance(what, SetLogLevel):
        logging.getLogger().setLevel(what.level)
        send(Answered(ask.number))
    elif what.pipeline not in pipelines:
        send(Answered(ask.number, f"the pipeline {what.pipeline!r} does not run"))
    elif isinstance(what, SetThreshold):
        send(Answered(ask.number, _set_threshold(pipelines[what.pipeline], what)))
    else:
        _capture(pipelines[what.pipeline], ask.number, send)


def _set_threshold(pipeline: Pipeline, what: SetThreshold) -> str:
    """Return why it cannot be done, if it cannot."""
    decoder: Any = pipeline.decoder
    if not hasattr(decoder, "threshold"):
        return f"the decoder {pipeline.plan.decoder.kind!r} has no threshold"
    decoder.threshold = what.value
    return ""


def _capture(pipeline: Pipeline, number: int, send: Callable[[Answered], None]) -> None:
    """Have the next window's inputs sent. The decoder stays as it is, so that it can be asked meanwhile."""
    names = [tensor.name for tensor in pipeline.completed.inputs]
    pipeline.capture(lambda inputs: send(_captured(number, names, inputs)))


def _captured(number: int, names: Sequence[str], inputs: Sequence[Array]) -> Answered:
    size = sum(values.size for values in inputs)
    if len(inputs) > MOST_TENSORS or any(values.ndim > MOST_DIMENSIONS for values in inputs):
        return Answered(number, f"more than {MOST_TENSORS} inputs or {MOST_DIMENSIONS} dimensions are not sent")
    if size > MOST_CAPTURED or any(lists_of(values.shape) > MOST_LISTS for values in inputs):
        return Answered(number, f"the window has {size} numbers; at most {MOST_CAPTURED} are sent")
    tensors = [
        CapturedTensor(cleaned(name), list(values.shape), str(values.dtype), values.ravel().tolist())
        for name, values in zip(names, inputs, strict=True)
    ]
    return Answered(number, result=CapturedWindow(tensors))


@dataclass
class _Guest:
    """Windows that came with a command, on their way through the model of a pipeline; the last comes first."""

    number: int
    pipeline: Pipeline
    left: list[FloatArray]
    answers: infer_request.Answers
    model: Model | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def host(self) -> Model:
        """Return the model that they run on.

        It is the pipeline's own, unless that keeps state. Then it is another one on the CPU, so that neither
        sees the other's windows. ``ModelError`` if that cannot be opened.
        """
        plan = self.pipeline.plan
        if self.model is None and plan.state:
            model = self.stack.enter_context(opened(plan, CPU, self.pipeline.shapes))
            self.model = complete(model, plan.inputs, plan.state)
        return self.model or self.pipeline.completed


class Guests:
    """Windows that came with commands. They run between the pipelines' own, and are in none of their figures."""

    def __init__(self, send: Callable[[Answered], None]) -> None:
        self._send = send
        self._waiting: deque[_Guest] = deque()
        self._next = 0.0

    def __bool__(self) -> bool:
        """Whether there is something to run."""
        return bool(self._waiting)

    def take(self, number: int, pipeline: Pipeline | None, file: int) -> None:
        """Take in windows from an open file, or answer why not."""
        try:
            with os.fdopen(file, "rb") as opened:
                opened.seek(0)
                windows = infer_request.windows(msgspec.msgpack.decode(opened.read(), type=Tensor))
            if pipeline is None:
                raise ModelError("the pipeline does not run")  # noqa: TRY301
            infer_request.refuse(pipeline.completed, windows)
        except ModelError as error:
            self._send(Answered(number, str(error)))
        else:
            self._waiting.append(_Guest(number, pipeline, list(windows[::-1]), infer_request.Answers()))

    def turn(self, *, busy: bool) -> None:
        """Run for a moment, and answer what is done. ``busy``: samples wait, which go first."""
        begin = perf_counter()
        if not self._waiting or (busy and begin < self._next):
            return
        self._work(self._waiting[0])
        end = perf_counter()
        self._next = end + (end - begin) * (1 / SHARE - 1)

    def _work(self, guest: _Guest) -> None:
        try:
            result = _run(guest)
        except ModelError as error:
            self._dismiss(guest)
            self._send(Answered(guest.number, str(error)))
        else:
            if result is not None:
                self._dismiss(guest)
                self._send(Answered(guest.number, result=result))

    def _dismiss(self, guest: _Guest) -> None:
        self._waiting.popleft()
        guest.stack.close()


def _run(guest: _Guest) -> Inferred | None:
    """Run windows until it is time for others, or none is left and all can be told."""
    model, answers, until = guest.host(), guest.answers, perf_counter() + SLICE
    alone = guest.pipeline.plan.state and not guest.pipeline.plan.state.lasting
    while guest.left:
        if alone:
            model.reset()
        answers.add(model, guest.left.pop())
        if answers.size > LARGEST_OUTPUTS:
            raise ModelError(f"the outputs of {len(answers.run_us)} windows exceed {LARGEST_OUTPUTS} bytes")
        if perf_counter() > until and guest.left:
            return None
    own = guest.pipeline.model
    placed = own.placed if isinstance(own, Delegation) and own.delegate == model.delegate else None
    plan = guest.pipeline.plan
    found = infer_request.inferred(plan, model, answers, placed, infer_request.digest(plan, model.delegate))
    if len(found.outputs) > MOST_TENSORS or any(len(one.shape) > MOST_DIMENSIONS for one in found.outputs):
        raise ModelError(f"more than {MOST_TENSORS} outputs or {MOST_DIMENSIONS} dimensions are not sent")
    return found
