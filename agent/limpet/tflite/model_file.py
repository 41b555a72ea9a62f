"""What a ``.tflite`` file says of itself, read without a runtime, and whether it is sound enough for one.

Slots and codes are those of TensorFlow Lite's ``schema.fbs``, version 3, and ``metadata_schema.fbs``.
No numpy here.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, TypeVar

import msgspec

from limpet.errors import ModelError
from limpet.tflite.flatbuffer import Buffer, DamagedError, Table, root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_DTYPES = (
    ("float32", 4), ("float16", 2), ("int32", 4), ("uint8", 1), ("int64", 8), ("string", 0), ("bool", 1),
    ("int16", 2), ("complex64", 8), ("int8", 1), ("float64", 8), ("complex128", 16), ("uint64", 8),
    ("resource", 0), ("variant", 0), ("uint32", 4), ("uint16", 2),
)  # fmt: skip
"""TensorType's names and sizes in bytes; 0 where that is not fixed. What follows in the schema is not checked."""
T = TypeVar("T")

_LARGEST = 1 << 29
"""Bytes: no tensor of a model for a device is larger; a damaged shape is."""
_CUSTOM = 32
_TENSOR_VALUE_LABELS = 3
_TENSOR_AXIS_LABELS = 2
_NORMALIZATION = 1


class Tensor(msgspec.Struct, frozen=True):
    """A tensor as the file has it. ``shape`` has -1 for a dimension that may vary."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()


class Signature(msgspec.Struct, frozen=True):
    """Names of a signature's inputs and outputs, each in order of the names, and its subgraph."""

    subgraph: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Description(msgspec.Struct, frozen=True):
    """What the embedded ``TFLITE_METADATA`` tells. ``mean`` and ``std`` normalise the first input."""

    name: str = ""
    text: str = ""
    version: str = ""
    author: str = ""
    licence: str = ""
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    label_file: str = ""


class TFLiteFile(msgspec.Struct, frozen=True):
    """A sound file. ``ops`` are those of the first graph: a custom op's name, or the number of a built-in one."""

    size: int
    text: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[str, ...]
    signatures: Mapping[str, Signature]
    min_runtime_version: str
    description: Description = msgspec.field(default_factory=Description)


def read(path: Path) -> TFLiteFile:
    """Read a model file and check what can be checked without running it.

    ``ModelError`` says that it is missing, not a TFLite model, cut short or damaged. A file that passes can
    still be wrong: only its SHA-256 shows a flipped weight.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _facts(data)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except DamagedError as error:
        raise ModelError(f"{path}: not a TFLite model, or damaged: {error}") from error
    except ValueError as error:  # An empty file cannot be mapped.
        raise ModelError(f"{path}: not a TFLite model: {error}") from error


def _facts(data: Buffer) -> TFLiteFile:
    model = root(data, b"TFL3")
    buffers = [_buffer(table, len(data)) for table in model.tables(4)]
    codes = [_op_code(table) for table in model.tables(1)]
    graphs = [_check_graph(graph, len(codes), buffers) for graph in model.tables(2)]
    if not graphs:
        raise DamagedError("there is no graph in it")
    metadata = {}
    for entry in model.tables(6):
        at, count = _item(buffers, entry.number(1, "I"), "metadata buffer")
        metadata[entry.text(0)] = data[at : at + count]
    ops = [operator.number(0, "I") for operator in model.tables(2)[0].tables(3)]
    return TFLiteFile(
        size=len(data),
        text=model.text(3),
        inputs=graphs[0][0],
        outputs=graphs[0][1],
        ops=tuple(codes[i] for i in ops),
        signatures=dict(_signatures(model, len(graphs))),
        min_runtime_version=_version(metadata.get("min_runtime_version", b"")),
        description=_description(metadata.get("TFLITE_METADATA", b"")),
    )


def _buffer(table: Table, size: int) -> tuple[int, int]:
    """Return where a buffer's content is: in its vector, or behind the flatbuffer in a large model."""
    at, count = table.number(1, "Q"), table.number(2, "Q")
    if at <= 1:
        return table.span(0)
    if at + count > size:
        raise DamagedError(f"a buffer is said to be at bytes {at} to {at + count} of {size}")
    return at, count


def _op_code(table: Table) -> str:
    code = max(table.number(0, "b"), table.number(3, "i"))
    return table.text(1) if code == _CUSTOM else f"builtin {code}"


def _check_graph(
    graph: Table, codes: int, buffers: list[tuple[int, int]]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Check that all that a graph refers to exists; return its inputs and outputs."""
    tensors = [_check_tensor(table, buffers) for table in graph.tables(0)]
    for operator in graph.tables(3):
        _item(range(codes), operator.number(0, "I"), "op code")
        operator.table(4)
        operator.table(12)
        for index in (*operator.numbers(1, "i"), *operator.numbers(2, "i"), *operator.numbers(8, "i")):
            if index != -1:
                _item(tensors, index, "tensor")
    inputs, outputs = (
        tuple(_item(tensors, index, "tensor") for index in graph.numbers(slot, "i")) for slot in (1, 2)
    )
    return inputs, outputs


def _check_tensor(table: Table, buffers: list[tuple[int, int]]) -> Tensor:
    code = table.number(1, "b")
    dtype, width = _DTYPES[code] if 0 <= code < len(_DTYPES) else (f"type {code}", 0)
    name = table.text(3)
    shape = table.numbers(0, "i")
    size = prod(shape) * width
    if any(n < 0 for n in shape) or size > _LARGEST:
        raise DamagedError(f"tensor {name!r} has shape {list(shape)}")
    _, count = _item(buffers, table.number(2, "I"), "buffer")
    if width and count and count != size and not table.table(6):
        raise DamagedError(f"tensor {name!r} needs {size} bytes, the file has {count} for it")
    quantization = table.table(4)
    scale = quantization.floats(2) if quantization else ()
    zero_point = quantization.numbers(3, "q") if quantization else ()
    return Tensor(name, table.numbers(7, "i") or shape, dtype, scale, zero_point)


def _signatures(model: Table, graphs: int) -> Iterator[tuple[str, Signature]]:
    for table in model.tables(7):
        _item(range(graphs), subgraph := table.number(4, "I"), "graph")
        inputs, outputs = (tuple(sorted(t.text(0) for t in table.tables(slot))) for slot in (0, 1))
        yield table.text(2), Signature(subgraph, inputs, outputs)


def _version(content: bytes) -> str:
    """Return the version if it is one: the converter also writes UNKNOWN."""
    text = content.rstrip(b"\0").decode("ascii", "replace")
    return text if re.fullmatch(r"\d+(\.\d+)*", text) else ""


def _description(content: bytes) -> Description:
    if not content:
        return Description()
    model = root(content, b"M001")
    graphs = model.tables(3)
    inputs = graphs[0].tables(2) if graphs else []
    outputs = graphs[0].tables(3) if graphs else []
    mean, std = _normalization(inputs)
    return Description(
        name=model.text(0),
        text=model.text(1),
        version=model.text(2),
        author=model.text(4),
        licence=model.text(5),
        input_names=tuple(table.text(0) for table in inputs),
        output_names=tuple(table.text(0) for table in outputs),
        mean=mean,
        std=std,
        label_file=next(_label_files(outputs), ""),
    )


def _normalization(inputs: list[Table]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for unit in inputs[0].tables(4) if inputs else []:
        options = unit.table(1)
        if unit.number(0, "B") == _NORMALIZATION and options:
            return options.floats(0), options.floats(1)
    return (), ()


def _label_files(outputs: list[Table]) -> Iterator[str]:
    for output in outputs:
        for file in output.tables(6):
            if file.number(2, "b") in {_TENSOR_AXIS_LABELS, _TENSOR_VALUE_LABELS}:
                yield file.text(0)


def _item(items: Sequence[T], index: int, what: str) -> T:
    if not 0 <= index < len(items):
        raise DamagedError(f"{what} {index} of {len(items)} is referred to")
    return items[index]
