"""The networks that are tried, without a framework: their form, and how large and costly they are. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["cnn", "mlp", "autoencoder", "mahalanobis"]
Loss: TypeAlias = Literal["cross_entropy", "squared"]

_GRAPH = 4.5
"""KiB of a TFLite file that are no weights: tensors, ops, quantization."""
_KERNELS = (5, 3, 3)
"""Sizes of the convolutions."""


@dataclass(frozen=True)
class Network:
    """``shape`` is that of a window behind the transforms: (rows, channels).

    ``cnn``: convolutions along the rows, then the mean over the rows. ``mlp``: dense layers over all elements.
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
    def dense(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each dense layer. All but the last are followed by a ReLU."""
        if self.kind == "cnn":
            sizes = [self.convolutions[-1][1], self.outputs]
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
        of_convolutions = sum(a * b * size + b for a, b, size in self.convolutions) if self.kind == "cnn" else 0
        return of_convolutions + sum(a * b + b for a, b in self.dense)

    @property
    def operations(self) -> int:
        """Multiply-adds for one window."""
        rows, found = self.shape[0], 0
        for a, b, size in self.convolutions if self.kind == "cnn" else []:
            found += rows * a * b * size
            rows = max(1, rows // 2)
        return found + sum(a * b for a, b in self.dense)

    @property
    def kilobytes(self) -> float:
        """KiB of the int8 model, estimated before there is one."""
        return _GRAPH + self.parameters / 1024
