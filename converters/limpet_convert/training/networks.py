"""The networks that are tried, without a framework: their form, and how large and costly they are. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["cnn", "dscnn", "mlp", "autoencoder", "mahalanobis"]
Loss: TypeAlias = Literal["cross_entropy", "squared"]

_GRAPH = 4.5
"""KiB of a TFLite file that are no weights: tensors, ops, quantization."""
_KERNELS = (5, 3, 3)
"""Sizes of the convolutions."""
FIRST, DEPTHWISE = 5, 3
"""Sizes of the two-dimensional convolutions: the first one, and the depthwise ones."""


@dataclass(frozen=True)
class Block:
    """A depthwise convolution, then one of size 1 to ``outputs`` channels. ``stride``: of the first of the two."""

    inputs: int
    outputs: int
    stride: int


@dataclass(frozen=True)
class Network:
    """``shape`` is that of a window behind the transforms: (rows, channels).

    ``cnn``: convolutions along the rows, then the mean over the rows. ``dscnn``: a convolution over rows and bands
    with stride 2, blocks of separable ones, then the mean over both. ``mlp``: dense layers over all elements.
    ``autoencoder``: dense layers through a narrow one, back to all elements. ``mahalanobis``: one dense layer from
    all elements to all, see ``limpet_convert.training.mahalanobis``. ``width`` is that of the first layer.
    ``outputs``: classes, 1, or the elements of the window. With ``cross_entropy``, the outputs are probabilities.
    """

    kind: Kind
    shape: tuple[int, int]
    outputs: int
    width: int
    loss: Loss

    @property
    def elements(self) -> int:
        """Numbers of a window."""
        return self.shape[0] * self.shape[1]

    @property
    def convolutions(self) -> list[tuple[int, int, int]]:
        """Channels in, channels out and size of each convolution. After all but the last, the rows are halved."""
        widths = [self.shape[1], self.width, 2 * self.width, 2 * self.width]
        wanted = 3 if self.shape[0] >= 16 else 2
        return [(widths[n], widths[n + 1], _KERNELS[n]) for n in range(wanted)]

    @property
    def blocks(self) -> list[Block]:
        """The separable convolutions of a ``dscnn``.

        Source: Y. Zhang and others, Hello Edge: Keyword Spotting on Microcontrollers, 2017.
        """
        wide = 2 * self.width
        return [Block(self.width, wide, 1), Block(wide, wide, 2), Block(wide, wide, 1)]

    @property
    def dense(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each dense layer. All but the last are followed by a ReLU."""
        if self.kind == "cnn":
            sizes = [self.convolutions[-1][1], self.outputs]
        elif self.kind == "dscnn":
            sizes = [self.blocks[-1].outputs, self.outputs]
        elif self.kind == "mlp":
            sizes = [self.elements, self.width, max(4, self.width // 2), self.outputs]
        elif self.kind == "mahalanobis":
            sizes = [self.elements, self.outputs]
        else:
            sizes = [self.elements, self.width, max(2, self.width // 4), self.width, self.outputs]
        return list(pairwise(sizes))

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        found = 0
        if self.kind == "cnn":
            found = sum(a * b * size + b for a, b, size in self.convolutions)
        elif self.kind == "dscnn":
            found = self.width * (FIRST**2 + 1)
            for one in self.blocks:
                found += one.inputs * (DEPTHWISE**2 + 1) + one.outputs * (one.inputs + 1)
        return found + sum(a * b + b for a, b in self.dense)

    @property
    def operations(self) -> int:
        """Multiply-adds for one window."""
        rows, found = self.shape[0], 0
        for a, b, size in self.convolutions if self.kind == "cnn" else []:
            found += rows * a * b * size
            rows = max(1, rows // 2)
        if self.kind == "dscnn":
            found = self._separable()
        return found + sum(a * b for a, b in self.dense)

    def _separable(self) -> int:
        """Return the multiply-adds of a ``dscnn``'s convolutions."""
        rows, bands = (-(-size // 2) for size in self.shape)
        found = rows * bands * self.width * FIRST**2
        for one in self.blocks:
            rows, bands = -(-rows // one.stride), -(-bands // one.stride)
            found += rows * bands * one.inputs * (DEPTHWISE**2 + one.outputs)
        return found

    @property
    def kilobytes(self) -> float:
        """KiB of the int8 model, estimated before there is one."""
        return _GRAPH + self.parameters / 1024
