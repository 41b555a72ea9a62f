"""What is in a ``.tflite`` file: its ops, sizes and quantization, for ``inspect`` and ``diff``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limpet_convert.graph import Graph

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Facts:
    """``ops`` by how often they are used, ``dtypes`` of computed tensors, ``parameters`` and their bytes."""

    size: int
    ops: dict[str, int]
    dtypes: dict[str, int]
    parameters: int
    parameter_bytes: int
    inputs: list[str]
    outputs: list[str]


def read(path: Path) -> Facts:
    """Read a model file. ``ConvertError`` where it is none."""
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
