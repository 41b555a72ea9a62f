"""A ``.tflite`` model as a function of TensorFlow, from which Core ML can be made. Needs TensorFlow.

coremltools reads no ``.tflite`` file. Each op of one is an op of TensorFlow, or two. What is stored as integers or
in 16 bits becomes float32. Values between layers become float32 too: they are not rounded, but still limited to
what int8 can hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array

Compute: TypeAlias = "Callable[[Any, Any, Sequence[Any], Any], Any]"
"""Returns an op's output, or a list of them. It takes TensorFlow, the op's options in the file, its inputs, and
the file's tensor of its first output.
"""

_STATE = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}


def function(data: bytes) -> Any:
    """Return a model as a concrete function of TensorFlow: float inputs of the file's shapes, and its outputs.

    ``ConvertError`` names an op that has no translation, and refuses a model that keeps state.
    """
    tf = need("tensorflow", "convert-tensorflow")
    graph = Graph(data)
    _refuse(graph)
    tensors = graph.subgraph.tensors
    found = ((index, _constant(graph, index)) for index in range(len(tensors)))
    constants = {index: values for index, values in found if values is not None}

    def run(*given: Any) -> list[Any]:
        values: dict[int, Any] = {**constants, **dict(zip(graph.inputs, given, strict=True))}
        for op in graph.ops:
            arguments = [values[index] if index >= 0 else None for index in op.inputs]
            options = graph.subgraph.operators[op.index].builtinOptions
            made = _COMPUTE[op.kind](tf, options, arguments, tensors[op.outputs[0]])
            made = _saturated(tf, made, _range(graph, op.outputs[0]))
            values |= dict(zip(op.outputs, made if isinstance(made, list) else [made], strict=True))
        return [values[index] for index in graph.outputs]

    sides = [tf.TensorSpec(shape, tf.float32, f"input_{n}") for n, shape in enumerate(shapes(data))]
    return tf.function(run, autograph=False).get_concrete_function(*sides)


def shapes(data: bytes) -> list[tuple[int, ...]]:
    """Return the shapes of a model's inputs."""
    graph = Graph(data)
    return [_shape(graph, index) for index in graph.inputs]


def _refuse(graph: Graph) -> None:
    for op in graph.ops:
        if op.kind in _STATE:
            raise ConvertError(
                "the model keeps state in variables between runs; only models without state become Core ML here"
            )
        if op.kind not in _COMPUTE:
            raise ConvertError(
                f"Core ML cannot be made of the op {op.kind!r} of layer {graph.layer(op)!r}; give the model that "
                "the .tflite file was made from"
            )


def _shape(graph: Graph, index: int) -> tuple[int, ...]:
    found = graph.subgraph.tensors[index].shape
    return () if found is None else tuple(int(size) for size in found)


def _range(graph: Graph, index: int) -> tuple[float, float] | None:
    """Return what a tensor can hold if its integers stand for real values. Files leave a ReLU to that."""
    tensor = graph.subgraph.tensors[index]
    stored = {graph.schema.TensorType.INT8: np.iinfo(np.int8), graph.schema.TensorType.UINT8: np.iinfo(np.uint8)}
    found, limits = tensor.quantization, stored.get(tensor.type)
    if limits is None or found is None or found.scale is None or len(found.scale) != 1:
        return None
    low, high = ((limit - int(found.zeroPoint[0])) * float(found.scale[0]) for limit in (limits.min, limits.max))
    return low, high


def _saturated(tf: Any, made: Any, limits: tuple[float, float] | None) -> Any:
    return made if limits is None or isinstance(made, (list, np.ndarray)) else tf.clip_by_value(made, *limits)


def _constant(graph: Graph, index: int) -> Array | None:
    """Return a constant's real values; those of integers that stand for themselves as they are."""
    stored = graph.constant(index)
    if stored is None:
        return None
    stored = stored.reshape(_shape(graph, index))
    quantized = graph.subgraph.tensors[index].quantization
    if quantized is None or quantized.scale is None or not len(quantized.scale):
        return stored.astype(np.float32) if stored.dtype.kind == "f" else stored
    sizes = [1] * stored.ndim
    if len(quantized.scale) > 1:
        sizes[quantized.quantizedDimension] = -1
    scale = np.asarray(quantized.scale, np.float32).reshape(sizes if stored.ndim else ())
    zero = np.asarray(quantized.zeroPoint, np.float32).reshape(sizes if stored.ndim else ())
    return np.asarray((stored.astype(np.float32) - zero) * scale, np.float32)


# --- ops

_FLOAT32 = 0
_PADDING = ("SAME", "VALID")
_ACTIVATIONS = {1: "relu", 3: "relu6", 4: "tanh"}


def _activated(tf: Any, values: Any, options: Any) -> Any:
    """Apply the activation that is fused with an op."""
    kind = options.fusedActivationFunction
    if not kind:
        return values
    if kind not in _ACTIVATIONS:
        raise ConvertError(f"Core ML cannot be made of the fused activation {kind}")
    return getattr(tf.nn, _ACTIVATIONS[kind])(values)


def _biased(values: Any, inputs: Sequence[Any], place: int) -> Any:
    return values if len(inputs) <= place or inputs[place] is None else values + inputs[place]


def _conv(tf: Any, options: Any, inputs: Sequence[Any], _: Any) -> Any:
    dilations = [options.dilationHFactor, options.dilationWFactor]
    found = tf.nn.conv2d(
        inputs[0],
        np.transpose(inputs[1], (1, 2, 3, 0)),
        [options.strideH, options.strideW],
        _PADDING[options.padding],
        dilations=dilations,
    )
    return _activated(tf, _biased(found, inputs, 2), options)


def _depthwise(tf: Any, options: Any, inputs: Sequence[Any], _: Any) -> Any:
    height, width, count = inputs[1].shape[1:]
    weights = inputs[1].reshape(height, width, count // options.depthMultiplier, options.depthMultiplier)
    found = tf.nn.depthwise_conv2d(
        inputs[0],
        weights,
        [1, options.strideH, options.strideW, 1],
        _PADDING[options.padding],
        dilations=[options.dilationHFactor, options.dilationWFactor],
    )
    return _activated(tf, _biased(found, inputs, 2), options)


def _transposed(tf: Any, options: Any, inputs: Sequence[Any], output: Any) -> Any:
    strides = [options.strideH, options.strideW]
    weights = np.transpose(inputs[1], (1, 2, 0, 3))
    found = tf.nn.conv2d_transpose(inputs[2], weights, output.shape, strides, _PADDING[options.padding])
    return _activated(tf, _biased(found, inputs, 3), options)


def _dense(tf: Any, options: Any, inputs: Sequence[Any], output: Any) -> Any:
    rows = tf.reshape(inputs[0], [-1, inputs[1].shape[1]])
    found = _biased(tf.linalg.matmul(rows, np.transpose(inputs[1])), inputs, 2)
    return _activated(tf, tf.reshape(found, output.shape), options)


def _pooled(kind: str) -> Compute:
    def compute(tf: Any, options: Any, inputs: Sequence[Any], _: Any) -> Any:
        size, strides = [options.filterHeight, options.filterWidth], [options.strideH, options.strideW]
        return _activated(tf, getattr(tf.nn, kind)(inputs[0], size, strides, _PADDING[options.padding]), options)

    return compute


def _two(name: str) -> Compute:
    """Return an op of two inputs, which may have a fused activation."""

    def compute(tf: Any, options: Any, inputs: Sequence[Any], _: Any) -> Any:
        found = getattr(tf.math, name)(*inputs)
        return _activated(tf, found, options) if hasattr(options, "fusedActivationFunction") else found

    return compute


def _one(path: str) -> Compute:
    """Return an op of one input."""

    def compute(tf: Any, _: Any, inputs: Sequence[Any], __: Any) -> Any:
        found = tf
        for name in path.split("."):
            found = getattr(found, name)
        return found(inputs[0])

    return compute


def _reduced(name: str) -> Compute:
    def compute(tf: Any, options: Any, inputs: Sequence[Any], _: Any) -> Any:
        return getattr(tf.math, name)(inputs[0], np.atleast_1d(inputs[1]).tolist(), bool(options.keepDims))

    return compute


def _resized(name: str) -> Compute:
    def compute(tf: Any, options: Any, inputs: Sequence[Any], _: Any) -> Any:
        corners, half = bool(options.alignCorners), bool(options.halfPixelCenters)
        resize = getattr(tf.raw_ops, name)
        return resize(images=inputs[0], size=inputs[1], align_corners=corners, half_pixel_centers=half)

    return compute


def _same(_: Any, __: Any, inputs: Sequence[Any], ___: Any) -> Any:
    return inputs[0]


def _shaped(tf: Any, _: Any, inputs: Sequence[Any], output: Any) -> Any:
    return tf.reshape(inputs[0], output.shape)


def _joined(tf: Any, options: Any, inputs: Sequence[Any], _: Any) -> Any:
    return _activated(tf, tf.concat(list(inputs), options.axis), options)


def _cast(tf: Any, _: Any, inputs: Sequence[Any], output: Any) -> Any:
    return tf.cast(inputs[0], tf.float32 if output.type == _FLOAT32 else tf.int32)


def _strided(tf: Any, options: Any, inputs: Sequence[Any], _: Any) -> Any:
    masks = {
        "begin_mask": options.beginMask,
        "end_mask": options.endMask,
        "ellipsis_mask": options.ellipsisMask,
        "new_axis_mask": options.newAxisMask,
        "shrink_axis_mask": options.shrinkAxisMask,
    }
    return tf.strided_slice(*inputs, **masks)


_COMPUTE: dict[str, Compute] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _dense,
    "AVERAGE_POOL_2D": _pooled("avg_pool2d"),
    "MAX_POOL_2D": _pooled("max_pool2d"),
    "ADD": _two("add"),
    "SUB": _two("subtract"),
    "MUL": _two("multiply"),
    "DIV": _two("divide"),
    "MAXIMUM": _two("maximum"),
    "MINIMUM": _two("minimum"),
    "SQUARED_DIFFERENCE": _two("squared_difference"),
    "FLOOR_DIV": _two("floordiv"),
    "RELU": _one("nn.relu"),
    "RELU6": _one("nn.relu6"),
    "LOGISTIC": _one("math.sigmoid"),
    "TANH": _one("math.tanh"),
    "SQRT": _one("math.sqrt"),
    "EXP": _one("math.exp"),
    "NEG": _one("math.negative"),
    "HARD_SWISH": lambda tf, _, inputs, __: inputs[0] * tf.nn.relu6(inputs[0] + 3.0) * np.float32(1 / 6),
    "SOFTMAX": lambda tf, options, inputs, _: tf.nn.softmax(inputs[0] * np.float32(options.beta)),
    "PRELU": lambda tf, _, inputs, __: tf.nn.relu(inputs[0]) - inputs[1] * tf.nn.relu(-inputs[0]),
    "LEAKY_RELU": lambda tf, options, inputs, _: tf.nn.leaky_relu(inputs[0], options.alpha),
    "MEAN": _reduced("reduce_mean"),
    "SUM": _reduced("reduce_sum"),
    "REDUCE_MAX": _reduced("reduce_max"),
    "PAD": lambda tf, _, inputs, __: tf.pad(*inputs),
    "RESIZE_BILINEAR": _resized("ResizeBilinear"),
    "RESIZE_NEAREST_NEIGHBOR": _resized("ResizeNearestNeighbor"),
    "RESHAPE": _shaped,
    "SQUEEZE": _shaped,
    "EXPAND_DIMS": _shaped,
    "TRANSPOSE": lambda tf, _, inputs, __: tf.transpose(*inputs),
    "CONCATENATION": _joined,
    "TILE": lambda tf, _, inputs, __: tf.tile(*inputs),
    "PACK": lambda tf, options, inputs, _: tf.stack(list(inputs), options.axis),
    "UNPACK": lambda tf, options, inputs, _: tf.unstack(inputs[0], options.num, options.axis),
    "GATHER_ND": lambda tf, _, inputs, __: tf.gather_nd(*inputs),
    "ARG_MAX": lambda tf, _, inputs, __: tf.argmax(inputs[0], int(inputs[1]), tf.int32),
    "CAST": _cast,
    "STRIDED_SLICE": _strided,
    "SLICE": lambda tf, _, inputs, __: tf.slice(*inputs),
    "QUANTIZE": _same,
    "DEQUANTIZE": _same,
}
"""What each op of TFLite is in TensorFlow. Constants are arrays of numpy, also when they come out of ``_same``."""
