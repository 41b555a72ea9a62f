"""Writes the object tree of a ``.tflite`` model smaller than the quantizer does, and with the alignment it needs.

A quantized channel has a scale and a zero point of 8 bytes, once for the weight and once for the bias. The zero
points are all 0. Equal vectors are written once and shared, which any reader of flatbuffers accepts. On
MobileNetV2 that is 3 % of the float model. Constants are on 16 bytes, as the schema demands and generated Python
code does not do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np

if TYPE_CHECKING:
    from limpet.contracts.data import Array

IDENTIFIER = b"TFL3"
ALIGNMENT = 16
_OUTSIDE = 1
"""A buffer's offset above it points behind the flatbuffer, where large models keep their constants."""


class Builder(flatbuffers.Builder):  # type: ignore[misc]
    """A flatbuffers builder that writes equal vectors once and aligns bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802 - the name that the generated code calls
        """Return where the vector is, writing it unless its twin is there."""
        content = np.ascontiguousarray(x)
        key = content.dtype.str, content.tobytes()
        if key not in self._written:
            if content.dtype == np.uint8:
                self.StartVector(1, content.size, ALIGNMENT)
                self.head -= content.size
                self.Bytes[self.head : self.head + content.size] = key[1]
                self._written[key] = self.EndVector()
            else:
                self._written[key] = super().CreateNumpyVector(content)
        return self._written[key]


def gather(model: Any, data: bytes) -> None:
    """Bring constants that are behind the flatbuffer into the object tree."""
    for buffer in model.buffers:
        if buffer.offset > _OUTSIDE:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0


def pack(model: Any, size: int) -> bytes:
    """Return the model's bytes; ``size`` is about how many there will be."""
    builder = Builder(size)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
