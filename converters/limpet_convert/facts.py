"""What is in a model file: its ops, sizes and quantization, for ``inspect`` and ``diff``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limpet.tflite import model_file
from limpet_convert import runners
from limpet_convert.errors import need
from limpet_convert.graph import Graph

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Facts:
    """``ops`` by how often they are used, ``dtypes`` of computed tensors, ``parameters`` and their bytes.

    Empty or 0 is what a format does not tell.
    """

    size: int
    ops: dict[str, int]
    dtypes: dict[str, int]
    parameters: int
    parameter_bytes: int
    inputs: list[str]
    outputs: list[str]


def read(path: Path) -> Facts:
    """Read a model file of any format that runs here. ``ConvertError`` or ``ModelError`` where it is none."""
    return _tflite(path) if path.suffix == ".tflite" else _other(path)


def _other(path: Path) -> Facts:
    model = runners.open_model(path)
    inputs = [f"{one.name} {list(one.shape)} {one.dtype}" for one in model.inputs]
    outputs = [f"{one.name} {list(one.shape)} {one.dtype}" for one in model.outputs]
    return Facts(size(path), dict(sorted(_kinds(path, model).items())), {}, 0, 0, inputs, outputs)


def _kinds(path: Path, model: runners.Runner) -> dict[str, int]:
    if path.suffix == ".onnx":
        return Counter(node.op_type for node in need("onnx", "convert-onnx").load(path).graph.node)
    if path.suffix == ".mlpackage":
        program: Any = model
        return Counter(program.kinds())
    return {}


def size(path: Path) -> int:
    """Return the bytes of a model's file, or of all files of its folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def _tflite(path: Path) -> Facts:
    model_file.read(path)  # Refuses what is damaged: the schema's own reader takes all offsets for good.
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
