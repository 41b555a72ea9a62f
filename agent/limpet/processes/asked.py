"""What a worker does for a command that came from outside, see ``limpet.remote``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from limpet.records import Answered, Ask, SetLogLevel, SetThreshold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from limpet.inference.pipeline import Pipeline
    from limpet.plugin import Decoder
    from limpet.types import FloatArray

LARGEST = 65_536
"""Numbers in a captured window at most: an answer is one message."""


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
        return f"the decoder {pipeline.plan.decoder.plugin.__name__.rpartition('.')[2]!r} has no threshold"
    decoder.threshold = what.value
    return ""


def _capture(pipeline: Pipeline, number: int, send: Callable[[Answered], None]) -> None:
    """Stand in for the decoder once, which sees the model's inputs: nothing is paid for it otherwise."""
    decoder = pipeline.decoder
    names = [tensor.name for tensor in pipeline.model.inputs]

    def capture(outputs: Sequence[FloatArray], inputs: Sequence[FloatArray]) -> Any:
        pipeline.decoder = decoder
        send(_captured(number, names, inputs))
        return decoder(outputs, inputs)

    stand_in: Decoder = capture
    pipeline.decoder = stand_in


def _captured(number: int, names: Sequence[str], inputs: Sequence[FloatArray]) -> Answered:
    size = sum(values.size for values in inputs)
    if size > LARGEST:
        return Answered(number, f"the window has {size} numbers; at most {LARGEST} are sent")
    tensors = [
        {"name": name, "shape": list(values.shape), "dtype": str(values.dtype), "values": values.tolist()}
        for name, values in zip(names, inputs, strict=True)
    ]
    return Answered(number, result={"inputs": tensors})
