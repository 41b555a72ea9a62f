"""Explains windows for commands, between the windows of the pipelines. It counts in none of their figures."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from limpet.contracts.explanation import Explained
from limpet.errors import LimpetError, ModelError
from limpet.explanation.explaining import explain
from limpet.inference.probe import Probe, Stretch
from limpet.untrusted import reading
from limpet.wire.border import cleaned_explanation
from limpet.wire.records import Answered
from limpet.worker.spare_time import SLICE, SpareTime

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from limpet.contracts.data import Array, Window
    from limpet.contracts.explanation import Explanation, Question
    from limpet.explanation.answers import Decoded
    from limpet.explanation.explaining import Asking
    from limpet.inference.pipeline import Pipeline
    from limpet.inference.probe import Taken
    from limpet.wire.records import Result

LONGEST = 25.0
"""Seconds after which a command is answered in any case: its sender waits no longer than a few more."""


@dataclass(eq=False)
class _Request:
    """One command: first it waits for the next windows of its pipeline, then changed ones are run."""

    number: int
    pipeline: Pipeline
    question: Question
    until: float
    stretch: Stretch
    window: Taken | None = None
    problem: str = ""
    probe: Probe | None = None
    asking: Asking[Explanation] | None = None
    next: Array | None = None
    invokes: int = 0
    stack: ExitStack = field(default_factory=ExitStack)

    def see(self, window: Window, result: Result[Any]) -> None:
        """Keep the first windows that are shown, as many as are needed."""
        if self.window is None and not self.problem:
            try:
                self.stretch.see(window, result)
            except ModelError as error:
                self.problem = str(error)
            else:
                self.window = self.stretch.taken() if self.stretch.full else None


class Explanations:
    """A queue of commands. ``send`` takes the answers."""

    def __init__(self, send: Callable[[Answered], None]) -> None:
        self._send = send
        self._queue: deque[_Request] = deque()
        self._time = SpareTime()

    def __bool__(self) -> bool:
        """Whether there is something to run now."""
        return any(request.window is not None for request in self._queue)

    def want(self, number: int, pipeline: Pipeline, question: Question) -> None:
        """Explain the next window of a pipeline, and answer under this number."""
        request = _Request(number, pipeline, question, monotonic() + LONGEST, Stretch(pipeline))
        pipeline.observe(request.see)
        request.stack.callback(pipeline.stop_observing, request.see)
        self._queue.append(request)

    def cancel(self, pipeline: Pipeline) -> None:
        """Answer the commands for a pipeline that is about to be closed."""
        for request in [one for one in self._queue if one.pipeline is pipeline]:
            self._finish(request, Answered(request.number, "the pipeline was closed meanwhile; send it again"))

    def run_slice(self, *, busy: bool) -> None:
        """Run changed windows for a moment, and answer commands that are done. ``busy``: samples wait."""
        if not self._queue or not self._time.may_run(busy=busy):
            return
        begin = perf_counter()
        for request in list(self._queue):
            if answered := _refusal(request):
                self._finish(request, answered)
        ready = next((one for one in self._queue if one.window is not None), None)
        if ready is not None:
            self._run(ready)
            self._time.spent(perf_counter() - begin)

    def _run(self, request: _Request) -> None:
        try:
            explained = _run_windows(request)
        except (LimpetError, ValueError) as error:
            self._finish(request, Answered(request.number, f"the window cannot be explained: {error}"))
        else:
            if explained is not None:
                self._finish(request, Answered(request.number, result=explained))

    def _finish(self, request: _Request, answered: Answered) -> None:
        self._queue.remove(request)
        request.stack.close()
        self._send(answered)


def _refusal(request: _Request) -> Answered | None:
    """Return the answer to a command that has failed or takes too long."""
    if request.problem:
        return Answered(request.number, request.problem)
    if monotonic() < request.until:
        return None
    if request.window is None:
        return Answered(request.number, f"the pipeline has run no window within {LONGEST:g} s")
    done, wanted = request.invokes, request.question.invokes
    text = f"only {done} of up to {wanted} invokes ran within {LONGEST:g} s; set `invokes` to {max(2, done // 2)}"
    return Answered(request.number, text)


def _run_windows(request: _Request) -> Explained | None:
    """Run changed windows until the slice is over. Return the answer if none is left."""
    until = perf_counter() + SLICE
    if request.probe is None:
        assert request.window is not None
        with reading("the window"):  # a stage of another package may raise anything
            request.probe = request.stack.enter_context(Probe(request.pipeline, request.window))
        request.asking = explain(request.probe.subject, request.question)
        request.next = next(request.asking)
    assert request.asking is not None
    assert request.next is not None
    try:
        while True:
            with reading("what the model makes of a changed window"):
                decoded: Decoded = request.probe(request.next)
            request.invokes += 1
            request.next = request.asking.send(decoded)
            if perf_counter() > until:
                return None
    except StopIteration as done:
        return _explained(request, done.value)


def _explained(request: _Request, explanation: Explanation) -> Explained:
    assert request.probe is not None
    assert request.window is not None
    request.probe.see_answer(explanation.answer)
    explanation.notes += request.probe.notes
    result = request.window.result
    return Explained(
        model=result.model,
        version=result.version,
        time=datetime.fromtimestamp(result.wall_ns / 1e9, timezone.utc),
        sample=result.sample,
        explanation=cleaned_explanation(explanation),
    )
