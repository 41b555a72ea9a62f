"""The description in a ``.tflite`` file, read without a runtime, and whether a runtime can take the file.

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
from limpet.models.tflite import carried_state
from limpet.models.tflite.carried_state import GraphParts, GraphState, Op
from limpet.models.tflite.flatbuffer import Buffer, DamagedError, Table, root
from limpet.models.tflite.tensor import FileTensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_DTYPES = (
    ("float32", 4), ("float16", 2), ("int32", 4), ("uint8", 1), ("int64", 8), ("string", 0), ("bool", 1),
    ("int16", 2), ("complex64", 8), ("int8", 1), ("float64", 8), ("complex128", 16), ("uint64", 8),
    ("resource", 0), ("variant", 0), ("uint32", 4), ("uint16", 2),
)  # fmt: skip
"""TensorType's names and sizes in bytes; 0 where that is not fixed. What follows in the schema is not checked."""
T = TypeVar("T")

_MOST_DIMENSIONS = 16
"""The runtimes' own kernels take at most 8."""
_LARGEST = 1 << 29
"""Bytes: no tensor of a model for a device is larger; a damaged shape is."""
_CUSTOM = 32
_RUNTIME_HAS = {"TFLite_Detection_PostProcess", "AudioSpectrogram", "Mfcc", "NumericVerify"}
"""Custom ops that come with either runtime."""
_CALLS = {31: (0,), 118: (0, 1), 119: (0, 1)}
"""CALL, IF and WHILE: the slots of the options that name the graphs which they run."""
_NEWER_CALLS = {176: (0, 1), 206: (1,)}
"""STABLEHLO_WHILE and STABLEHLO_COMPOSITE, whose options are in another slot of the op."""
_RUNTIME_VERSION, _METADATA = "min_runtime_version", "TFLITE_METADATA"
_TENSOR_VALUE_LABELS = 3
_TENSOR_AXIS_LABELS = 2
_NORMALIZATION = 1


class Port(msgspec.Struct, frozen=True):
    """What a run takes and gives, in the runtime's order: that of the graph, or of a signature's names."""

    inputs: tuple[FileTensor, ...]
    outputs: tuple[FileTensor, ...]
    state: GraphState


class Signature(msgspec.Struct, frozen=True):
    """Names of a signature's inputs and outputs, each in order of the names, and its subgraph."""

    subgraph: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class FileMetadata(msgspec.Struct, frozen=True):
    """What the embedded ``TFLITE_METADATA`` says. ``mean`` and ``std`` normalise the first input.

    ``problem`` says why it cannot be read. The model runs all the same.
    """

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
    problem: str = ""


class TFLiteFile(msgspec.Struct, frozen=True):
    """A sound file. ``ops`` are those of the first graph: a custom op's name, or the number of a built-in one.

    ``custom_ops`` are names of all graphs' custom ops, each once. ``ports``: what a run of the first graph
    (key ``""``) or of a signature takes and gives. ``aliases``: the tensors that names in signatures of the first
    graph mean.
    """

    size: int
    text: str
    inputs: tuple[FileTensor, ...]
    outputs: tuple[FileTensor, ...]
    ops: tuple[str, ...]
    signatures: Mapping[str, Signature]
    min_runtime_version: str
    description: FileMetadata
    custom_ops: tuple[str, ...]
    ports: Mapping[str, Port]
    aliases: Mapping[str, str]

    @property
    def missing_ops(self) -> tuple[str, ...]:
        """Names of custom ops that no runtime has by itself."""
        return tuple(name for name in self.custom_ops if name not in _RUNTIME_HAS)


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
    graphs = [_graph(graph, codes, buffers) for graph in model.tables(2)]
    if not graphs:
        raise DamagedError("there is no graph in it")
    first = graphs[0]
    signatures = list(_signatures(model, graphs))
    metadata = _metadata(model, buffers, data)
    return TFLiteFile(
        size=len(data),
        text=model.text(3),
        inputs=_of(first, first.inputs),
        outputs=_of(first, first.outputs),
        ops=tuple(op.name for op in first.parts.ops),
        signatures={s.key: Signature(s.graph, tuple(s.inputs), tuple(s.outputs)) for s in signatures},
        min_runtime_version=_version(metadata.get(_RUNTIME_VERSION, b"")),
        description=_description(metadata.get(_METADATA, b"")),
        custom_ops=_custom_ops(graphs),
        ports=_ports(graphs, signatures),
        aliases=_aliases(first, signatures),
    )


def _metadata(model: Table, buffers: Sequence[tuple[int, int]], data: Buffer) -> dict[str, bytes]:
    """Return what of the metadata is used here. No runtime reads it, so damage does not refuse the model."""
    found: dict[str, bytes] = {}
    for entry in model.tables(6):
        name, number = entry.text(0), entry.number(1, "I")
        if name in {_RUNTIME_VERSION, _METADATA} and name not in found and number < len(buffers):
            at, count = buffers[number]
            found[name] = data[at : at + count]
    return found


def _buffer(table: Table, size: int) -> tuple[int, int]:
    """Return where a buffer's content is: in its vector, or behind the flatbuffer in a large model."""
    at, count = table.number(1, "Q"), table.number(2, "Q")
    if at <= 1:
        return table.span(0)
    if at + count > size:
        raise DamagedError(f"a buffer has the bytes {at} to {at + count} of {size}")
    return at, count


def _op_code(table: Table) -> tuple[int, str]:
    code = max(table.number(0, "b"), table.number(3, "i"))
    return code, table.text(1) if code == _CUSTOM else f"builtin {code}"


class _Graph(msgspec.Struct, frozen=True):
    """A graph whose indices are all in range."""

    parts: GraphParts
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def _of(graph: _Graph, indices: Iterable[int]) -> tuple[FileTensor, ...]:
    return tuple(graph.parts.tensors[index] for index in indices)


def _graph(graph: Table, codes: Sequence[tuple[int, str]], buffers: Sequence[tuple[int, int]]) -> _Graph:
    """Check that all that a graph refers to exists."""
    tables = graph.tables(0)
    tensors = [_check_tensor(table, buffers) for table in tables]
    variable = frozenset(i for i, table in enumerate(tables) if table.number(5, "b"))
    ops = [_op(table, codes, tensors) for table in graph.tables(3)]
    inputs, outputs = graph.numbers(1, "i"), graph.numbers(2, "i")
    for index in (*inputs, *outputs):
        _item(tensors, index, "tensor")
    return _Graph(GraphParts(tensors, ops, variable), inputs, outputs)


def _op(table: Table, codes: Sequence[tuple[int, str]], tensors: Sequence[FileTensor]) -> Op:
    code, name = _item(codes, table.number(0, "I"), "op code")
    options, newer = table.table(4), table.table(12)
    inputs = table.numbers(1, "i")
    for index in (*inputs, *table.numbers(2, "i"), *table.numbers(8, "i")):
        if index != -1:
            _item(tensors, index, "tensor")
    called = [options.number(slot, "i") for slot in _CALLS.get(code, ()) if options]
    called += [newer.number(slot, "i") for slot in _NEWER_CALLS.get(code, ()) if newer]
    slot = carried_state.time_major_slot(code)
    time_major = bool(options and slot is not None and options.number(slot, "b"))
    return Op(code, name, inputs, tuple(called), time_major)


def _custom_ops(graphs: Sequence[_Graph]) -> tuple[str, ...]:
    names = (op.name for graph in graphs for op in graph.parts.ops if op.code == _CUSTOM)
    return tuple(dict.fromkeys(names))


def _check_tensor(table: Table, buffers: Sequence[tuple[int, int]]) -> FileTensor:
    code = table.number(1, "b")
    dtype, width = _DTYPES[code] if 0 <= code < len(_DTYPES) else (f"type {code}", 0)
    name = table.text(3)
    shape = table.numbers(0, "i")
    size = prod(shape) * width if len(shape) <= _MOST_DIMENSIONS else _LARGEST + 1
    if any(n < 0 for n in shape) or size > _LARGEST:
        raise DamagedError(f"tensor {name!r} has shape {list(shape)[:_MOST_DIMENSIONS]}")
    number = table.number(2, "I")
    # Buffer 0 means "no content" to the runtimes, whether or not the table has it.
    _, count = _item(buffers, number, "buffer") if number else (0, 0)
    if width and count and count != size and not table.table(6):
        raise DamagedError(f"tensor {name!r} needs {size} bytes, the file has {count} for it")
    quantization = table.table(4)
    scale = quantization.floats(2) if quantization else ()
    zero_point = quantization.numbers(3, "q") if quantization else ()
    return FileTensor(name, table.numbers(7, "i") or shape, dtype, scale, zero_point)


class _Signature(msgspec.Struct, frozen=True):
    """A signature's graph, and the indices of its inputs and outputs by name, in order of the names."""

    key: str
    graph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


def _signatures(model: Table, graphs: Sequence[_Graph]) -> Iterator[_Signature]:
    for table in model.tables(7):
        graph = _item(graphs, number := table.number(4, "I"), "graph")
        inputs, outputs = (
            dict(sorted((t.text(0), t.number(1, "I")) for t in table.tables(slot))) for slot in (0, 1)
        )
        for index in (*inputs.values(), *outputs.values()):
            _item(graph.parts.tensors, index, "tensor")
        yield _Signature(table.text(2), number, inputs, outputs)


def _ports(graphs: Sequence[_Graph], signatures: Sequence[_Signature]) -> dict[str, Port]:
    """Return what each way to run the model takes and gives."""
    parts = [graph.parts for graph in graphs]
    states: dict[int, GraphState] = {}
    for number in {0, *(signature.graph for signature in signatures)}:
        states[number] = carried_state.find(parts, number)
    first = graphs[0]
    ports = {"": Port(_of(first, first.inputs), _of(first, first.outputs), states[0])}
    for signature in signatures:
        tensors = graphs[signature.graph].parts.tensors
        ports.setdefault(
            signature.key,
            Port(
                _renamed(tensors, signature.inputs), _renamed(tensors, signature.outputs), states[signature.graph]
            ),
        )
    return ports


def _renamed(tensors: Sequence[FileTensor], indices: Mapping[str, int]) -> tuple[FileTensor, ...]:
    return tuple(msgspec.structs.replace(tensors[index], name=name) for name, index in indices.items())


def _aliases(first: _Graph, signatures: Sequence[_Signature]) -> dict[str, str]:
    """Return the tensor that each name in signatures of the first graph means. The first signature decides."""
    found: dict[str, str] = {}
    for signature in signatures:
        if not signature.graph:
            for name, index in (*signature.inputs.items(), *signature.outputs.items()):
                found.setdefault(name, first.parts.tensors[index].name)
    return found


def _version(content: bytes) -> str:
    """Return the version if it is one: the converter also writes UNKNOWN."""
    text = content.rstrip(b"\0").decode("ascii", "replace")
    return text if re.fullmatch(r"\d+(\.\d+)*", text) else ""


def _description(content: bytes) -> FileMetadata:
    """Return what the metadata says. What cannot be read becomes a problem in it."""
    if not content:
        return FileMetadata()
    try:
        return _described(content)
    except DamagedError as error:
        return FileMetadata(problem=f"its {_METADATA} cannot be read: {error}")


def _described(content: bytes) -> FileMetadata:
    model = root(content, b"M001")
    graphs = model.tables(3)
    inputs = graphs[0].tables(2) if graphs else []
    outputs = graphs[0].tables(3) if graphs else []
    mean, std = _normalization(inputs)
    return FileMetadata(
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
