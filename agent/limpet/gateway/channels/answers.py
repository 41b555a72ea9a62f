"""What a model's process answers, and whether it may answer that. Decides, without I/O."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from limpet.errors import UnreadableError
from limpet.gateway.errors import RequestError
from limpet.wire.border import cleaned
from limpet.wire.guest_records import REAL

if TYPE_CHECKING:
    from limpet.gateway.channels.spans import Span
    from limpet.wire.guest_records import Inferred, Serving


class NotRunError(RequestError):
    """The model's process had no time for a request. It has not begun with it."""


def succeeded(inferred: Inferred) -> Inferred:
    """Return an answer that has outputs. ``RequestError`` if it has none."""
    if inferred.problem:
        kind = NotRunError if inferred.busy else RequestError
        raise kind("busy" if inferred.busy else "failed", cleaned(inferred.problem))
    return inferred


def check(inferred: Inferred, serving: Serving, within: Span) -> None:
    """See that outputs are those of the model, and within the request's memory. ``UnreadableError``."""
    if len(inferred.outputs) != len(serving.outputs):
        raise UnreadableError(f"it sent {len(inferred.outputs)} outputs; the model has {len(serving.outputs)}")
    total = 0
    for placed, facts in zip(inferred.outputs, serving.outputs, strict=True):
        if placed.dtype != facts.dtype and not (facts.scale and placed.dtype == REAL):
            raise UnreadableError(f"it sent an output of {placed.dtype}; the model has {facts.dtype}")
        size = prod(placed.shape) * item_size(placed.dtype)
        total += size
        if not (within.offset <= placed.offset and placed.offset + size <= within.offset + within.size):
            raise UnreadableError("it put an output where it may not")
    if total > within.size:  # They overlap, and the copies of them would take many times the memory.
        raise UnreadableError("it put outputs into each other")


def item_size(dtype: str) -> int:
    """Return the bytes of an element."""
    return int(dtype[2:])
