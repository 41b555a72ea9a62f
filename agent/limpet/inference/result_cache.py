"""Outputs of a model by its inputs: what comes again needs no run."""

from __future__ import annotations

from _blake2 import blake2b  # by way of hashlib it would bring OpenSSL, 3 MB
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from limpet.runtimes.litert.tensors import InputWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, TensorSpec
    from limpet.contracts.savings import CacheOptions

T = TypeVar("T")
_DIGEST = 16
"""Bytes of a key. Two inputs with the same one do not happen, also not on purpose."""


class ResultCache(Generic[T]):
    """The answers for the inputs that came last, bounded in number and in bytes.

    Two inputs are the same if a model stores the same integers for them. If it takes floats, or without
    ``tensors``, all their bits count, or their multiples of ``step``.
    """

    def __init__(self, options: CacheOptions, tensors: Sequence[TensorSpec]) -> None:
        self._options = options
        self._tensors = tensors
        self._stored: dict[int, tuple[Array, InputWriter]] = {}
        self._answers: OrderedDict[bytes, tuple[T, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def nbytes(self) -> int:
        """Bytes of the answers that are kept, and of their keys."""
        return self._bytes

    def key(self, inputs: Sequence[Array]) -> bytes:
        """Return what identifies inputs."""
        digest = blake2b(digest_size=_DIGEST)
        for place, values in enumerate(inputs):
            known = self._known(place, values)
            digest.update(repr((known.shape, known.dtype.str)).encode())
            digest.update(np.ascontiguousarray(known).data)
        return digest.digest()

    def find(self, key: bytes) -> T | None:
        """Return the answer for inputs, ``None`` if it is not kept."""
        found = self._answers.get(key)
        if found is None:
            return None
        self._answers.move_to_end(key)
        return found[0]

    def keep(self, key: bytes, answer: T, nbytes: int) -> None:
        """Keep an answer of so many bytes, and drop the ones that were not needed for longest."""
        size = nbytes + _DIGEST
        if size > self._options.bytes:
            return
        if key in self._answers:
            self._bytes -= self._answers.pop(key)[1]
        self._answers[key] = answer, size
        self._bytes += size
        while len(self._answers) > self._options.entries or self._bytes > self._options.bytes:
            _, (_, dropped) = self._answers.popitem(last=False)
            self._bytes -= dropped

    def forget(self) -> None:
        """Keep nothing of what there is."""
        self._answers.clear()
        self._bytes = 0

    def _known(self, place: int, values: Array) -> Array:
        """Return the numbers of an input that count."""
        if self._options.step and values.dtype.kind == "f":
            # Adding 0 makes 0 of -0, which is another one in bits.
            steps: Array = np.rint(values / np.float64(self._options.step)) + 0.0
            return steps
        tensor = self._tensors[place] if self._tensors else None
        if tensor is None or not tensor.quantized or values.dtype.kind != "f":
            return values
        kept = self._stored.get(place)
        if kept is None or kept[0].shape != values.shape:
            target = np.empty(values.shape, tensor.dtype)
            kept = self._stored[place] = target, InputWriter(target, tensor)
        kept[1](values)
        return kept[0]
