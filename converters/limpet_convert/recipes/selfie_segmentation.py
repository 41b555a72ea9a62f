"""MediaPipe's selfie segmentation: which part of a picture shows a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet_convert.graph import Graph
from limpet_convert.recipes import Origin, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet_convert.graph import Op

_FILE = "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite"

_CUSTOM, _SAME = "Convolution2DTransposeBias", 1

RECIPE = Recipe(
    title="Which part of a picture shows a person (MediaPipe selfie segmentation)",
    task="segment",
    input="picture, 256 x 256",
    licence="Apache-2.0",
    author="Google, MediaPipe",
    origin=Origin(
        registry="pypi",
        package="mediapipe",
        version="0.10.21",
        archive="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
        members={_FILE: "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c"},
        url="https://ai.google.dev/edge/mediapipe/solutions/vision/image_segmenter",
    ),
    labels=("person",),
    transforms=(
        {"kind": "resize", "width": 256, "height": 256, "like": "opencv"},
        {"kind": "normalise", "mean": 0.0, "std": 255.0},
    ),
    decoder={"kind": "segment", "form": "rle"},
    purpose="Separates a person from the background.",
    limits="One or two persons within 2 m, facing the camera.",
    ships=True,
)


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the maker's model with TFLite's own transposed convolution in place of MediaPipe's.

    Not every runtime has MediaPipe's. The results are the same to the last bit.
    """
    graph = Graph(files[_FILE])
    schema = graph.schema
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TRANSPOSE_CONV
    code.version = 3
    graph.model.operatorCodes.append(code)
    for op in graph.ops:
        if op.kind == _CUSTOM:
            _replace(graph, op, len(graph.model.operatorCodes) - 1)
    return graph.pack()


def _replace(graph: Graph, op: Op, code: int) -> None:
    schema, found = graph.schema, graph.subgraph.operators[op.index]
    padding, across, down = np.frombuffer(bytes(found.customOptions), np.int32)[:3].tolist()
    options = schema.TransposeConvOptionsT()
    options.padding = schema.Padding.SAME if padding == _SAME else schema.Padding.VALID
    options.strideW, options.strideH = across, down
    source, weights, bias = op.inputs
    shape = np.asarray(graph.subgraph.tensors[op.outputs[0]].shape, np.int32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(shape.tobytes(), np.uint8)
    graph.model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.shape, tensor.type = np.array([4], np.int32), schema.TensorType.INT32
    tensor.buffer, tensor.name = len(graph.model.buffers) - 1, f"shape_{op.index}".encode()
    graph.subgraph.tensors.append(tensor)
    found.opcodeIndex, found.customOptions = code, None
    found.inputs = np.array([len(graph.subgraph.tensors) - 1, weights, source, bias], np.int32)
    found.builtinOptionsType = schema.BuiltinOptions.TransposeConvOptions
    found.builtinOptions = options
