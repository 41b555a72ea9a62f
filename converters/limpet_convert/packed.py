"""Arrays and tensors between a jailed child and its parent, as msgpack. Neither side trusts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet.contracts.data import TensorSpec
from limpet.untrusted import reading
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.contracts.data import Array


class Packed(msgspec.Struct, array_like=True):
    """An array of numbers."""

    dtype: str
    shape: list[int]
    data: bytes


class Opened(msgspec.Struct):
    """A model that was opened: its tensors as name, shape and dtype; its ops by kind, if the format has them."""

    inputs: list[tuple[str, list[int], str]]
    outputs: list[tuple[str, list[int], str]]
    kinds: dict[str, int] = {}


def pack(values: Array) -> Packed:
    """Return an array as it is sent."""
    return Packed(values.dtype.str, list(values.shape), np.ascontiguousarray(values).tobytes())


def unpack(packed: Any) -> Array:
    """Return an array that was sent. ``UnreadableError`` if it is none of numbers."""
    with reading("an array"):
        found = msgspec.convert(packed, Packed)
        dtype = np.dtype(found.dtype)
        if dtype.kind not in "fiub":
            raise ConvertError(f"the model gives {dtype}, not numbers")
        return np.frombuffer(found.data, dtype).reshape(found.shape).copy()


def specs(tensors: list[tuple[str, list[int], str]]) -> list[TensorSpec]:
    """Return tensors as runners have them. ``UnreadableError`` if a dtype is none."""
    with reading("a tensor's dtype"):
        return [TensorSpec(name, tuple(shape), np.dtype(dtype)) for name, shape, dtype in tensors]


def plain(tensors: Iterable[TensorSpec]) -> list[tuple[str, list[int], str]]:
    """Return tensors as they are sent, for ``specs``."""
    return [(spec.name, list(spec.shape), spec.dtype.name) for spec in tensors]
