"""Commands that a worker carries out, see ``limpet.supervision.commands``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from limpet.contracts.messages import Enrolled
from limpet.wire.border import MOST_LISTS, cleaned, lists_of
from limpet.wire.records import (
    MOST_CAPTURED,
    MOST_DIMENSIONS,
    MOST_TENSORS,
    Answered,
    Ask,
    CapturedTensor,
    CapturedWindow,
    DrawPicture,
    EnrolLabel,
    ExplainWindow,
    ForgetLabel,
    SetLogLevel,
    SetThreshold,
    TakeSnapshot,
    UndoLabels,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from limpet.contracts.data import Array
    from limpet.contracts.decoder import Enrolling
    from limpet.inference.pipeline import Pipeline
    from limpet.worker.explanations import Explanations
    from limpet.worker.running import RunningPipeline
    from limpet.worker.snapshots import Snapshots


def answer(
    ask: Ask,
    running: Mapping[str, RunningPipeline],
    snapshots: Snapshots,
    explanations: Explanations,
    send: Callable[[Answered], None],
) -> None:
    """Carry out a command. Send the answer now, or when it is known."""
    what = ask.what
    if isinstance(what, SetLogLevel):
        logging.getLogger().setLevel(what.level)
        send(Answered(ask.number))
    elif what.pipeline not in running:
        send(Answered(ask.number, f"the pipeline {what.pipeline!r} does not run"))
    elif isinstance(what, SetThreshold):
        send(Answered(ask.number, _set_threshold(running[what.pipeline].pipeline, what)))
    elif isinstance(what, TakeSnapshot):
        snapshots.want(ask.number, what.pipeline, running[what.pipeline].options.snapshots)
    elif isinstance(what, DrawPicture):
        snapshots.show(ask.number, what.pipeline, running[what.pipeline].options.snapshots)
    elif isinstance(what, EnrolLabel | ForgetLabel | UndoLabels):
        _change_labels(running[what.pipeline].pipeline, ask.number, what, send)
    elif isinstance(what, ExplainWindow):
        explanations.want(ask.number, running[what.pipeline].pipeline, what.question)
    else:
        _capture(running[what.pipeline].pipeline, ask.number, send)


def _set_threshold(pipeline: Pipeline, what: SetThreshold) -> str:
    """Set the threshold of a decoder. Return why that is not possible, else an empty text."""
    decoder = pipeline.plan.decoder
    if not decoder.abilities.threshold:
        return f"the decoder {decoder.kind!r} has no threshold"
    try:
        pipeline.set_threshold(what.value)
    except ValueError as error:
        return f"the decoder {decoder.kind!r}: {error}"
    return ""


def _change_labels(
    pipeline: Pipeline, number: int, what: EnrolLabel | ForgetLabel | UndoLabels, send: Callable[[Answered], None]
) -> None:
    """Enrol a label, forget one, or undo that. The answer to the first comes with the last of its windows."""
    kind = pipeline.plan.decoder.kind
    if not pipeline.plan.decoder.abilities.enrols:
        send(Answered(number, f"the decoder {kind!r} does not learn labels; `embed` does"))
        return
    decoder = cast("Enrolling", pipeline.decoder)

    def done(problem: str) -> None:
        problem = f"the decoder {kind!r}: {problem}" if problem else ""
        send(Answered(number, cleaned(problem), None if problem else Enrolled(labels=decoder.labels)))

    try:
        if isinstance(what, EnrolLabel):
            decoder.enrol(what.label, what.windows, done)
            return
        if isinstance(what, ForgetLabel):
            decoder.forget(what.label)
        else:
            decoder.undo(what.count)
    except ValueError as error:
        done(str(error))
    except OSError as error:
        done(f"it cannot be kept: {error.strerror}")
    else:
        done("")


def _capture(pipeline: Pipeline, number: int, send: Callable[[Answered], None]) -> None:
    """Send the inputs of the next window that runs."""
    pipeline.capture(lambda specs, inputs: send(captured_answer(number, [spec.name for spec in specs], inputs)))


def captured_answer(number: int, names: Sequence[str], inputs: Sequence[Array]) -> Answered:
    """Return the answer with the inputs of a window, real values row by row. An error if they are too large."""
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
