"""A model and windows for it over a pair of pipes, and back what it made of them: what ``limpet tensors`` speaks.

Both ways begin with ``MAGIC``; then come frames, see ``limpet.wire.stream``. There is an ``Order``, the model's
bytes in parts, then tensors of windows, each answered by one ``Inferred`` or more. No frame has more than
``LARGEST`` bytes, and the device never holds more than one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TypeVar

import msgspec

from limpet.contracts.delegate import CPU
from limpet.contracts.messages import Tensor
from limpet.errors import TransportError, UnreadableError
from limpet.inference import admission, infer_request
from limpet.inference.input_fit import resized
from limpet.inference.single import plan_tensors
from limpet.sha256 import sha256
from limpet.wire import stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.contracts.data import FloatArray
    from limpet.contracts.messages import Placed
    from limpet.contracts.runtime import Model
    from limpet.inference.plan import PipelinePlan

MAGIC = b"limpet tensors 1\n"
LARGEST = 1 << 25
"""Bytes of a frame."""
LARGEST_MODEL = 1 << 31
"""Bytes of a model: a flatbuffer cannot be larger."""
CHUNK = 1 << 20
"""Bytes of the model in one frame."""

R = TypeVar("R")


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What is to come: a model file of so many bytes, and windows of this shape to be run on this delegate."""

    length: int
    sha256: str
    shape: list[int]
    windows: int
    delegate: str = "cpu"


class Chunk(msgspec.Struct, array_like=True):
    """Some of the model's bytes."""

    data: bytes


def read(file: stream.Readable, kind: type[R]) -> R:
    """Read a frame. ``EOFError`` if the stream ends early, ``UnreadableError`` if it is not such a frame."""
    return stream.read(file, kind, LARGEST)


def serve(source: IO[bytes], sink: IO[bytes], folder: Path) -> None:
    """Load the model that comes, which is put into ``folder``, and run the windows that follow it.

    ``UnreadableError``, ``TransportError`` or ``EOFError`` where the stream is not whole, ``ModelError`` or
    ``ConfigError`` where model or delegate cannot be used.
    """
    if stream.exactly(source, len(MAGIC)) != MAGIC:
        raise TransportError("this stream is not from a limpet-convert of the same version")
    order = read(source, Order)
    path = folder / "model.tflite"
    receive_model(source, order, path)
    plan = plan_tensors(path, tuple(order.shape), order.delegate, folder)
    with _loaded(plan, tuple(order.shape)) as (model, placed):
        sink.write(MAGIC)
        left = order.windows
        while left > 0:
            windows = infer_request.windows(read(source, Tensor))
            infer_request.refuse(model, windows)
            left -= len(windows)
            for answers in _answers(model, windows, alone=bool(plan.state) and not plan.state.lasting):
                stream.write(sink, infer_request.inferred(plan, model, answers, placed, order.sha256))
                sink.flush()


def receive_model(source: IO[bytes], order: Order, path: Path) -> None:
    """Write the model that an order announces to ``path``. ``UnreadableError``, ``TransportError``."""
    if not 0 < order.length <= LARGEST_MODEL:
        raise UnreadableError(
            f"the stream announces a model of {order.length} bytes; the limit is {LARGEST_MODEL}"
        )
    digest, left = sha256(order.length), order.length
    with path.open("wb") as file:
        while left > 0:
            data = read(source, Chunk).data
            left -= len(data) or left + 1  # nothing in it: it is not what was announced
            digest.update(data)
            file.write(data)
    if left or digest.hexdigest() != order.sha256:
        raise TransportError("the model was damaged on its way: its SHA-256 is another")


@contextmanager
def _loaded(plan: PipelinePlan, shape: tuple[int, ...]) -> Iterator[tuple[Model, Placed | None]]:
    """Load the model on the one delegate of the plan."""
    (choice,) = plan.delegates
    shapes = resized(plan, (1, *shape))
    if choice == CPU:
        with admission.opened(plan, choice, shapes) as model:
            yield model, None
    else:
        with admission.admitted(plan, choice, shapes) as proven:
            yield proven


def _answers(model: Model, windows: FloatArray, *, alone: bool) -> Iterator[infer_request.Answers]:
    """Run on each window; yield answers whenever there are enough for a frame.

    ``alone``: the model's state is cleared before each window.
    """
    answers = infer_request.Answers()
    for window in windows:
        if alone:
            model.reset()
        answers.add(model, window)
        if answers.size >= CHUNK:
            yield answers
            answers = infer_request.Answers()
    if answers.run_us:
        yield answers
