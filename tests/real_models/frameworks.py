"""A model in the framework that it comes from, without any of Limpet's code: its answers, and the names in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

FORMATS = {
    ".onnx": "ONNX",
    ".pt2": "PyTorch",
    ".tflite": "TFLite",
    ".keras": "Keras",
    ".h5": "Keras",
    "": "SavedModel",
}


def answers(file: Path, inputs: NDArray[Any], *, first: bool) -> list[NDArray[np.float32]]:
    """Return each output ``(n, ...)``. ``first``: ONNX and PyTorch models have the channels first."""
    moved = np.ascontiguousarray(np.moveaxis(inputs, -1, 1)) if first and inputs.ndim > 2 else inputs
    run = {".onnx": _onnx, ".pt2": _torch, ".tflite": _tflite, ".keras": _keras, ".h5": _keras, "": _saved_model}
    given = moved if file.suffix in {".onnx", ".pt2"} else inputs
    rows = list(run[file.suffix](file, given))
    return [np.stack([np.asarray(row[n], np.float32) for row in rows]) for n in range(len(rows[0]))]


def _dropped(outputs: Any) -> list[NDArray[Any]]:
    """Return outputs without the batch of 1."""
    arrays = [np.asarray(one) for one in outputs]
    return [one[0] if one.ndim > 1 and len(one) == 1 else one for one in arrays]


def _onnx(file: Path, inputs: NDArray[Any]) -> Iterator[list[NDArray[Any]]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    for one in inputs:
        batch = np.broadcast_to(one, (_batch(taken.shape), *one.shape))
        outputs = session.run(None, {taken.name: np.ascontiguousarray(batch)})
        yield [output[0] for output in outputs] if len(batch) > 1 else _dropped(outputs)


def _batch(shape: list[Any]) -> int:
    """Return how many windows an ONNX model always takes."""
    return shape[0] if isinstance(shape[0], int) and shape[0] > 0 else 1


def _torch(file: Path, inputs: NDArray[Any]) -> Iterator[list[NDArray[Any]]]:
    import torch

    network = torch.export.load(file).module()
    with torch.no_grad():
        for one in inputs:
            found = network(torch.from_numpy(one[None]))
            yield _dropped(found if isinstance(found, tuple | list) else [found])


def _keras(file: Path, inputs: NDArray[Any]) -> Iterator[list[NDArray[Any]]]:
    import keras

    network = keras.models.load_model(file, compile=False)
    for one in inputs:
        found = network(one[None], training=False)
        yield _dropped(found if isinstance(found, list) else [found])


def _saved_model(file: Path, inputs: NDArray[Any]) -> Iterator[list[NDArray[Any]]]:
    """Run the signature in a session: TensorFlow's newer loader refuses optimizers of older Keras."""
    import tensorflow as tf

    old = tf.compat.v1
    with tf.Graph().as_default(), old.Session() as session:
        signature = old.saved_model.loader.load(session, ["serve"], str(file)).signature_def["serving_default"]
        ((_, taken),) = signature.inputs.items()
        given = [signature.outputs[key].name for key in sorted(signature.outputs)]
        for one in inputs:
            yield _dropped(session.run(given, {taken.name: one[None]}))


def _tflite(file: Path, inputs: NDArray[Any]) -> Iterator[list[NDArray[Any]]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    for one in inputs:
        interpreter.set_tensor(taken["index"], one[None].astype(taken["dtype"]).reshape(taken["shape"]))
        interpreter.invoke()
        yield _dropped([interpreter.get_tensor(given["index"]) for given in interpreter.get_output_details()])


def names(file: Path) -> set[str]:
    """Return what a clear refusal can name: inputs, outputs, layers, nodes, ops."""
    return {name for name in _NAMES.get(file.suffix, lambda _: iter(()))(file) if len(name) > 1}


def _onnx_names(file: Path) -> Iterator[str]:
    import onnx

    graphs = [onnx.load(file).graph]
    for graph in graphs:
        yield from (one.name for one in (*graph.input, *graph.output))
        for node in graph.node:
            yield from (node.name, node.op_type, *node.output)
            graphs += [one.g for one in node.attribute if one.HasField("g")]


def _tflite_names(file: Path) -> Iterator[str]:
    from ai_edge_litert.interpreter import Interpreter

    for op in Interpreter(str(file))._get_ops_details():  # noqa: SLF001 - the names of ops are nowhere else
        yield op["op_name"]


def _keras_names(file: Path) -> Iterator[str]:
    import keras

    for layer in keras.models.load_model(file, compile=False)._flatten_layers():  # noqa: SLF001 - those within others, too
        yield from (layer.name, type(layer).__name__)


def _torch_names(file: Path) -> Iterator[str]:
    import torch

    for node in torch.export.load(file).graph.nodes:
        yield from (node.name, str(node.target))
        yield from (path for path, _ in node.meta.get("nn_module_stack", {}).values())


_NAMES = {
    ".onnx": _onnx_names,
    ".tflite": _tflite_names,
    ".keras": _keras_names,
    ".h5": _keras_names,
    ".pt2": _torch_names,
}
