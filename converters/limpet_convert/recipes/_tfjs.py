"""Graph models of TensorFlow.js (``model.json`` and its weights) to float TFLite. Needs TensorFlow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.libraries import need

if TYPE_CHECKING:
    from limpet.contracts.data import Array


def load(topology: bytes, weights: bytes, source: str, result: str) -> Any:
    """Return the model as a function of TensorFlow, from one tensor to a list of one.

    ``source`` and ``result``: names of the input and the output, as ``input:0``.
    """
    tf = need("tensorflow", "convert-tensorflow")
    described = json.loads(topology)
    graph = _graph(tf, described, _weights(described["weightsManifest"], weights))
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    inside = wrapped.graph.get_tensor_by_name
    return wrapped.prune([inside(source)], [inside(result)])


def tflite(original: Any) -> bytes:
    """Return a loaded model as TFLite with weights in float16. Its input is float32, whatever type it had."""
    tf = need("tensorflow", "convert-tensorflow")
    (tensor,) = original.inputs

    run = tf.function(
        lambda image: original(tf.cast(image, tensor.dtype))[0],
        input_signature=[tf.TensorSpec(tensor.shape, tf.float32, name="image")],
    )
    concrete = run.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], run)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    made: bytes = converter.convert()
    return made


def _weights(manifest: Any, data: bytes) -> dict[str, Array]:
    found, at = {}, 0
    for weight in (one for group in manifest for one in group["weights"]):
        stored = weight.get("quantization", weight)
        kind = np.dtype(stored["dtype"])
        count = int(np.prod(weight["shape"], dtype=int))
        values = np.frombuffer(data, kind, count, at).reshape(weight["shape"])
        found[weight["name"]] = values.astype(weight["dtype"])
        at += count * kind.itemsize
    return found


def _graph(tf: Any, described: Any, weights: dict[str, Array]) -> Any:
    """Return TensorFlow's own graph: constants have their values, and fused ops are split again."""
    from google.protobuf import json_format

    topology = {key: described["modelTopology"][key] for key in ("node", "versions")}
    for node in topology["node"]:
        if node["op"] == "Const":
            node["attr"] = {"dtype": node["attr"]["dtype"]}
    read = tf.compat.v1.GraphDef()
    json_format.ParseDict(topology, read, ignore_unknown_fields=True)
    graph = tf.compat.v1.GraphDef()
    graph.versions.CopyFrom(read.versions)
    for node in read.node:
        if node.op in _FUSED:
            _split(node, graph)
            continue
        copy = graph.node.add()
        copy.CopyFrom(node)
        if node.op == "Const":
            copy.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights[node.name]))
            copy.attr["dtype"].type = copy.attr["value"].tensor.dtype
    return graph


_FUSED = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
_KEPT = ("T", "strides", "padding", "dilations", "data_format")


def _split(node: Any, graph: Any) -> None:
    """Add a convolution, and after it each op that TensorFlow.js has fused with it."""
    convolution = graph.node.add(op=_FUSED[node.op], name=f"{node.name}/convolution", input=node.input[:2])
    for key in _KEPT:
        convolution.attr[key].CopyFrom(node.attr[key])
    before, fused = convolution.name, [name.decode() for name in node.attr["fused_ops"].list.s]
    for number, kind in enumerate(fused, 1):
        last = number == len(fused)
        one = graph.node.add(op=kind, name=node.name if last else f"{node.name}/{number}", input=[before])
        one.attr["T"].CopyFrom(node.attr["T"])
        if kind == "BiasAdd":
            one.input.append(node.input[2])
        before = one.name
