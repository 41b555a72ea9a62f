"""The graph in a ``.tflite`` file: its ops, how many multiply-adds each takes, and models that are its beginning.

Slots and codes are those of TensorFlow Lite's ``schema.fbs`` (version 3). Read a file with ``model_file`` before:
it checks what is taken for granted here. No numpy here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from limpet.errors import ModelError
from limpet.models.tflite.flatbuffer import Buffer, DamagedError, Table, root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_CUSTOM = 32


@dataclass(frozen=True)
class GraphTensor:
    """A tensor. ``dtype`` is the code of schema.fbs. A ``variable`` one keeps its value between runs."""

    name: str
    shape: tuple[int, ...]
    dtype: int
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    quantized_dimension: int = 0
    constant: bool = False
    variable: bool = False


@dataclass(frozen=True)
class GraphOp:
    """An op. ``custom`` is the name of one that is not built in.

    ``macs`` is how many multiply-adds a run takes, counted for ops that consist of them: convolutions, matrix
    products, recurrent layers. Others have 0. ``None``: unknown, for a custom op.
    """

    code: int
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    macs: int | None


@dataclass(frozen=True)
class ModelGraph:
    """The first graph of a model, the one that is run. Inputs and outputs are indices of tensors."""

    tensors: tuple[GraphTensor, ...]
    ops: tuple[GraphOp, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def macs(self) -> int | None:
        """Multiply-adds of a run, ``None`` where a custom op hides some."""
        counts = [op.macs for op in self.ops]
        return None if None in counts else sum(count or 0 for count in counts)


def read(data: Buffer) -> ModelGraph:
    """Read the first graph. ``ModelError`` where the file is damaged."""
    try:
        model = root(data, b"TFL3")
        graph = model.tables(2)[0]
        full = {i for i, buffer in enumerate(model.tables(4)) if buffer.span(0)[1] or buffer.number(1, "Q") > 1}
        tensors = tuple(_tensor(table, full) for table in graph.tables(0))
        codes = [(max(t.number(0, "b"), t.number(3, "i")), t.text(1)) for t in model.tables(1)]
        ops = tuple(_op(table, codes, tensors) for table in graph.tables(3))
        return ModelGraph(tensors, ops, _indices(graph, 1), _indices(graph, 2))
    except (DamagedError, IndexError) as error:
        raise ModelError(f"not a TFLite model, or damaged: {error}") from error


def beginning(data: bytes, count: int, output: int) -> bytes:
    """Return a model of the first ``count`` ops, whose only output is the tensor ``output``.

    Only lengths of vectors are changed, in place: the file keeps its size, so weights stay aligned.
    """
    model = root(data, b"TFL3")
    graph = model.tables(2)[0]
    new = bytearray(data)
    outputs, _ = graph.span(2)
    struct.pack_into("<Ii", new, outputs - 4, 1, output)
    struct.pack_into("<I", new, graph.span(3)[0] - 4, count)
    signatures, there = model.span(7)
    if there:
        struct.pack_into("<I", new, signatures - 4, 0)
    return bytes(new)


def _indices(table: Table, slot: int) -> tuple[int, ...]:
    return table.numbers(slot, "i")


def _tensor(table: Table, full: set[int]) -> GraphTensor:
    quantization = table.table(4)
    return GraphTensor(
        table.text(3),
        _indices(table, 0),
        table.number(1, "b"),
        quantization.floats(2) if quantization else (),
        quantization.numbers(3, "q") if quantization else (),
        quantization.number(6, "i") if quantization else 0,
        table.number(2, "I") in full,
        bool(table.number(5, "b")),
    )


def _op(table: Table, codes: Sequence[tuple[int, str]], tensors: Sequence[GraphTensor]) -> GraphOp:
    code, custom = codes[table.number(0, "I")]
    inputs, outputs = _indices(table, 1), _indices(table, 2)
    work = _Work(
        [tensors[i] if i >= 0 else _ABSENT for i in inputs],
        tensors[outputs[0]].shape if outputs else (),
        table.table(4),
    )
    macs = None if code == _CUSTOM else _MACS[code](work) if code in _MACS and len(inputs) > 1 else 0
    return GraphOp(code, custom, inputs, outputs, macs)


_ABSENT = GraphTensor("", (), 0)


@dataclass(frozen=True)
class _Work:
    """What an op has to do: its inputs, the shape of its first output, its options."""

    inputs: Sequence[GraphTensor]
    output: tuple[int, ...]
    options: Table | None

    def each(self, first: int, last: int | None) -> int:
        """Each element of the output takes that part of the filter."""
        return prod(self.output) * prod(self.inputs[1].shape[first:last])

    def transposed(self) -> int:
        """Each element of the image is spread by the filter; the inputs are shape, filter and image."""
        return prod(self.inputs[2].shape) * prod(self.inputs[1].shape[:3])

    def product(self) -> int:
        """Each element of the output is as long a sum as the left matrix is wide, or high where it is turned."""
        turned = self.options is not None and bool(self.options.number(0, "b"))
        left = self.inputs[0].shape
        return prod(self.output) * (left[-2 if turned else -1] if len(left) > 1 else 0)

    def recurrent(self) -> int:
        """Each step of each sequence uses all matrices."""
        matrices = (tensor.shape for tensor in self.inputs if tensor.constant and len(tensor.shape) == 2)
        return prod(self.inputs[0].shape[:-1]) * sum(prod(shape) for shape in matrices)


# Filters are (out, height, width, in); depthwise (1, height, width, out); 3D (depth, height, width, in, out).
_MACS: Mapping[int, Callable[[_Work], int]] = {
    3: lambda work: work.each(1, None),  # CONV_2D
    4: lambda work: work.each(1, 3),  # DEPTHWISE_CONV_2D
    9: lambda work: work.each(1, None),  # FULLY_CONNECTED
    16: _Work.recurrent,  # LSTM
    24: _Work.recurrent,  # RNN
    27: _Work.recurrent,  # SVDF
    35: _Work.recurrent,  # UNIDIRECTIONAL_SEQUENCE_RNN
    44: _Work.recurrent,  # UNIDIRECTIONAL_SEQUENCE_LSTM
    46: _Work.recurrent,  # BIDIRECTIONAL_SEQUENCE_RNN
    52: _Work.recurrent,  # BIDIRECTIONAL_SEQUENCE_LSTM
    67: _Work.transposed,  # TRANSPOSE_CONV
    126: _Work.product,  # BATCH_MATMUL
    132: lambda work: work.each(0, 4),  # CONV_3D
}
