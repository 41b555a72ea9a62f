"""TFLite files written field by field, so that a test makes the model it needs without TensorFlow.

Slots are the field numbers of TensorFlow Lite's ``schema.fbs``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TYPES = {
    "float32": 0,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "string": 5,
    "bool": 6,
    "int16": 7,
    "int8": 9,
    "resource": 13,
}


class Reference(int):
    """Where something that was written stands."""

    __slots__ = ()


class Writer:
    """Writes from the inside out: what a table refers to is written before it."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)
        self._prepend = {
            "i8": self._builder.PrependInt8,
            "u8": self._builder.PrependUint8,
            "bool": self._builder.PrependBool,
            "i32": self._builder.PrependInt32,
            "u32": self._builder.PrependUint32,
            "at": self._builder.PrependUOffsetTRelative,
        }

    def string(self, text: str) -> Reference:
        return Reference(self._builder.CreateString(text))

    def array(self, values: Any, dtype: str = "int32") -> Reference:
        return Reference(self._builder.CreateNumpyVector(np.asarray(values, dtype)))

    def data(self, content: bytes) -> Reference:
        """Write the bytes of a buffer, aligned as the runtimes want them."""
        self._builder.StartVector(1, len(content), 16)
        self._builder.head = self._builder.Head() - len(content)
        head = self._builder.Head()
        self._builder.Bytes[head : head + len(content)] = content
        return Reference(self._builder.EndVector())

    def vector(self, references: Sequence[Reference]) -> Reference:
        self._builder.StartVector(4, len(references), 4)
        for reference in reversed(references):
            self._builder.PrependUOffsetTRelative(reference)
        return Reference(self._builder.EndVector())

    def table(self, **fields: Any) -> Reference:
        """Write a table: ``i8_0=9`` is a byte 9 in slot 0, ``at_1`` refers to what was written before."""
        self._builder.StartObject(20)
        for name, value in fields.items():
            kind, _, slot = name.partition("_")
            self._prepend[kind](value)
            self._builder.Slot(int(slot))
        return Reference(self._builder.EndObject())

    def finish(self, root: Reference, identity: bytes) -> bytes:
        self._builder.Finish(root, file_identifier=identity)
        return bytes(self._builder.Output())


@dataclass
class Tensor:
    """``shape`` with -1 where it may vary; ``values`` make it a constant; a scale makes it quantized.

    A ``variable`` tensor keeps its value between runs.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    values: Any = None
    scale: Sequence[float] = ()
    zero_point: Sequence[int] = ()
    axis: int = 0
    variable: bool = False


@dataclass
class Op:
    """``options`` are the type of the options' table in the schema's union, and its fields."""

    code: int
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: tuple[int, Mapping[str, Any]] | None = None
    custom: str = ""
    version: int = 1


@dataclass
class Graph:
    """A signature's key maps to the tensors that its names of inputs and of outputs stand for."""

    tensors: Sequence[Tensor]
    ops: Sequence[Op]
    inputs: Sequence[int]
    outputs: Sequence[int]
    signatures: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]] = field(default_factory=dict)


def write(graphs: Sequence[Graph], metadata: Mapping[str, bytes] | None = None) -> bytes:
    """Return the file of a model; the first graph is the one that runs."""
    writer = Writer()
    metadata = metadata or {}
    constants = [_constant(tensor) for graph in graphs for tensor in graph.tensors]
    root = writer.table(
        u32_0=3,
        at_1=writer.vector([_code(writer, op) for graph in graphs for op in graph.ops]),
        at_2=writer.vector(_subgraphs(writer, graphs)),
        at_3=writer.string("made by Limpet's tests"),
        at_4=writer.vector([_buffer(writer, content) for content in (b"", *constants, *metadata.values())]),
        at_6=writer.vector(_metadata(writer, metadata, 1 + len(constants))),
        at_7=writer.vector(
            [
                _signature(writer, i, key, names)
                for i, g in enumerate(graphs)
                for key, names in g.signatures.items()
            ]
        ),
    )
    return writer.finish(root, b"TFL3")


def _subgraphs(writer: Writer, graphs: Sequence[Graph]) -> list[Reference]:
    buffers, codes = count(1), count()
    return [
        writer.table(
            at_0=writer.vector([_tensor(writer, tensor, next(buffers)) for tensor in graph.tensors]),
            at_1=writer.array(graph.inputs),
            at_2=writer.array(graph.outputs),
            at_3=writer.vector([_op(writer, op, next(codes)) for op in graph.ops]),
        )
        for graph in graphs
    ]


def _metadata(writer: Writer, metadata: Mapping[str, bytes], buffer: int) -> list[Reference]:
    return [writer.table(at_0=writer.string(name), u32_1=buffer + i) for i, name in enumerate(metadata)]


def _signature(
    writer: Writer, graph: int, key: str, tensors: tuple[Mapping[str, int], Mapping[str, int]]
) -> Reference:
    inputs, outputs = tensors
    return writer.table(
        at_0=_named(writer, inputs), at_1=_named(writer, outputs), at_2=writer.string(key), u32_4=graph
    )


def _constant(tensor: Tensor) -> bytes:
    return b"" if tensor.values is None else np.ascontiguousarray(tensor.values, tensor.dtype).tobytes()


def _buffer(writer: Writer, content: bytes) -> Reference:
    return writer.table(at_0=writer.data(content)) if content else writer.table()


def _tensor(writer: Writer, tensor: Tensor, buffer: int) -> Reference:
    fields = {
        "at_0": writer.array([max(n, 1) for n in tensor.shape]),
        "i8_1": TYPES[tensor.dtype],
        "u32_2": buffer,
        "at_3": writer.string(tensor.name),
        "bool_8": True,
        **({"bool_5": True} if tensor.variable else {}),
    }
    if -1 in tensor.shape:
        fields["at_7"] = writer.array(tensor.shape)
    if tensor.scale:
        fields["at_4"] = writer.table(
            at_2=writer.array(tensor.scale, "float32"),
            at_3=writer.array(tensor.zero_point, "int64"),
            i32_6=tensor.axis,
        )
    return writer.table(**fields)


def _code(writer: Writer, op: Op) -> Reference:
    fields = {"at_1": writer.string(op.custom)} if op.custom else {}
    return writer.table(i8_0=min(op.code, 127), i32_2=op.version, i32_3=op.code, **fields)


def _op(writer: Writer, op: Op, code: int) -> Reference:
    fields: dict[str, Any] = {"u32_0": code, "at_1": writer.array(op.inputs), "at_2": writer.array(op.outputs)}
    if op.options:
        kind, options = op.options
        texts = {k: writer.string(v) for k, v in options.items() if isinstance(v, str)}
        fields |= {"u8_3": kind, "at_4": writer.table(**{**options, **texts})}
    return writer.table(**fields)


def _named(writer: Writer, tensors: Mapping[str, int]) -> Reference:
    return writer.vector([writer.table(at_0=writer.string(name), u32_1=i) for name, i in tensors.items()])
