"""What is in a model file: its ops, sizes and quantization, for ``inspect`` and ``diff``."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from limpet.errors import ModelError, UnreadableError
from limpet.models import model_kind
from limpet.models.coreml import specification
from limpet.models.tflite import model_file
from limpet.untrusted import reading
from limpet_convert import foreign, runners
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import TensorSpec
    from limpet.models.model_kind import ModelKind
    from limpet.models.protobuf import ProtobufMessage

_ONNX_TYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string"}
_ONNX_TYPES |= {9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64"}
_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}
_TF_TYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    19: "float16",
}
_LARGEST_TEXT = 64 << 20


@dataclass(frozen=True)
class Facts:
    """``ops`` by how often they are used, ``dtypes`` of computed tensors, ``parameters`` and their bytes.

    A value that the format does not contain is empty or 0.
    """

    size: int
    ops: dict[str, int]
    dtypes: dict[str, int]
    parameters: int
    parameter_bytes: int
    inputs: list[str]
    outputs: list[str]


def read(path: Path) -> Facts:
    """Read a model of any kind, by our own readers where there are such.

    ``ConvertError`` or ``ModelError`` says what it is instead, or which package is missing.
    """
    kind = model_kind.of(path)
    if not kind.reader.endswith("inspect"):
        raise ConvertError(model_kind.refused(path, kind))
    try:
        with TemporaryDirectory() as folder:
            return _readers()[kind](path, Path(folder))
    except (ModelError, UnreadableError, ConvertError) as error:
        raise ConvertError(f"{error} ({path.name} is {kind.words})") from error


def _readers() -> dict[ModelKind, Callable[[Path, Path], Facts]]:
    return {
        model_kind.TFLITE: lambda path, folder: _tflite(model_kind.by_content(path, model_kind.TFLITE, folder)),
        model_kind.ONNX: lambda path, _: _onnx(path),
        model_kind.SAVED_MODEL: lambda path, _: _saved_model(path),
        model_kind.KERAS: lambda path, _: _keras(path),
        model_kind.MLMODEL: lambda path, _: _coreml(path),
        model_kind.MLPACKAGE: lambda path, _: _coreml(path),
        model_kind.EXPORTED: _exported,
    }


def _exported(path: Path, folder: Path) -> Facts:
    """Read by PyTorch, in the sandbox."""
    if path.suffix != ".pt2":
        copy = folder / "model.pt2"
        copy.write_bytes(path.read_bytes())
        path = copy
    model = runners.open_model(path)
    return Facts(
        size(path), {}, {}, 0, 0, [_spec(one) for one in model.inputs], [_spec(one) for one in model.outputs]
    )


def _spec(one: TensorSpec) -> str:
    return f"{one.name} {list(one.shape)} {one.dtype}"


def _onnx(path: Path) -> Facts:
    model = foreign.Onnx(path)
    graph = model.graph
    constants = graph.messages(5)
    held = {constant.text(8) for constant in constants}
    inputs = [value for value in graph.messages(11) if value.text(1) not in held]
    return Facts(
        size(path),
        dict(sorted(Counter(node.text(4) for node in model.nodes).items())),
        {},
        sum(prod(constant.numbers(1)) for constant in constants),
        sum(prod(constant.numbers(1)) * _BYTES.get(constant.number(2), 4) for constant in constants),
        [_onnx_value(value) for value in inputs],
        [_onnx_value(value) for value in graph.messages(12)],
    )


def _onnx_value(value: ProtobufMessage) -> str:
    tensor = value.message(2).message(1)
    sizes = [one.number(1) or -1 for one in tensor.message(2).messages(1)]
    return f"{value.text(1)} {sizes} {_ONNX_TYPES.get(tensor.number(1), 'unknown')}"


def _saved_model(path: Path) -> Facts:
    graphs = foreign.SavedModel(path).graphs
    nodes = [node for graph in graphs for node in (*graph.nodes, *chain.from_iterable(graph.functions.values()))]
    signatures = [(name, one) for graph in graphs for name, one in graph.signatures.items()]
    inputs = [f"{name}: {_tf_tensor(key, t)}" for name, one in signatures for key, t in one.inputs.items()]
    made = [f"{name}: {_tf_tensor(key, t)}" for name, one in signatures for key, t in one.outputs.items()]
    return Facts(size(path), dict(sorted(Counter(node.op for node in nodes).items())), {}, 0, 0, inputs, made)


def _tf_tensor(name: str, tensor: Any) -> str:
    return f"{name} {tensor.shape} {_TF_TYPES.get(tensor.dtype, 'unknown')}"


def _keras(path: Path) -> Facts:
    """Read the description of a Keras model, which is JSON."""
    foreign.refuse_bomb(path)
    with reading(f"{path}: config.json"), zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > _LARGEST_TEXT:
            raise UnreadableError(f"{path}: config.json is too large")
        config = json.loads(archive.read("config.json"))["config"]
        layers = config.get("layers", [])
        shapes = [layer["config"] for layer in layers if layer["class_name"] == "InputLayer"]
        inputs = [f"{one.get('name', '')} {one.get('batch_shape')} {one.get('dtype')}" for one in shapes]
        return Facts(
            size(path),
            dict(sorted(Counter(str(layer["class_name"]) for layer in layers).items())),
            {},
            0,
            0,
            inputs,
            [],
        )


def _coreml(path: Path) -> Facts:
    """Read by coremltools, in the sandbox where it is a program that can be run."""
    if path.is_dir():
        foreign.refuse(path)
        if path.suffix == ".mlpackage":
            model = runners.open_model(path)
            kinds = model.kinds if isinstance(model, runners.Jailed) else {}
            inputs, outputs = ([_spec(one) for one in specs] for specs in (model.inputs, model.outputs))
            return Facts(size(path), dict(sorted(kinds.items())), {}, 0, 0, inputs, outputs)
    found = specification.read(path)
    inputs, outputs = ([_spec(one.spec) for one in some] for some in (found.inputs, found.outputs))
    return Facts(size(path), {found.kind: 1}, {}, 0, 0, inputs, outputs)


def size(path: Path) -> int:
    """Return the bytes of a model's file, or of all files of its folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def _tflite(path: Path) -> Facts:
    model_file.read(path)  # Refuses damaged files: the schema's own reader does not check offsets.
    graph = Graph(path.read_bytes())
    names = {v: k.lower() for k, v in vars(graph.schema.TensorType).items() if not k.startswith("_")}
    tensors = graph.subgraph.tensors
    constants = [c for i in range(len(tensors)) if (c := graph.constant(i)) is not None]
    made = [i for op in graph.ops for i in op.outputs]
    return Facts(
        size=len(graph.data),
        ops=dict(sorted(Counter(op.kind for op in graph.ops).items())),
        dtypes=dict(sorted(Counter(names[tensors[i].type] for i in made).items())),
        parameters=sum(c.size for c in constants),
        parameter_bytes=sum(c.nbytes for c in constants),
        inputs=[_describe(graph, names, i) for i in graph.inputs],
        outputs=[_describe(graph, names, i) for i in graph.outputs],
    )


def _describe(graph: Graph, names: dict[int, str], index: int) -> str:
    tensor = graph.subgraph.tensors[index]
    shape = [] if tensor.shape is None else [int(n) for n in tensor.shape]
    text = f"{graph.names[index]} {shape} {names[tensor.type]}"
    quantization = tensor.quantization
    if quantization is not None and quantization.scale is not None and len(quantization.scale):
        text += f" scale {float(quantization.scale[0]):.6g} zero {int(quantization.zeroPoint[0])}"
    return text
