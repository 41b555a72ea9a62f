"""A tensor of a ``.tflite`` file."""

from __future__ import annotations

import msgspec

from limpet.contracts.fields import TensorInfo


class FileTensor(msgspec.Struct, frozen=True):
    """A tensor as the file has it. ``shape`` has -1 for a dimension that may vary."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()

    @property
    def info(self) -> TensorInfo:
        """The same as a manifest has it."""
        return TensorInfo(
            name=self.name,
            shape=list(self.shape),
            dtype=self.dtype,
            scale=list(self.scale),
            zero_point=list(self.zero_point),
        )
