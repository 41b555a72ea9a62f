"""Small models for tests. What each computes can be said in a line, and the same call writes the same bytes."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from support.flatfile import Graph, Op, Tensor, Writer, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Numbers of BuiltinOperator and of the union BuiltinOptions in schema.fbs.
ADD, CONCATENATION, CONV_2D, FULLY_CONNECTED, MUL, RESHAPE, CUSTOM, WHERE, QUANTIZE = (
    0,
    2,
    3,
    9,
    18,
    22,
    32,
    109,
    114,
)
SVDF, _SVDF = 27, 6
WHILE, _WHILE = 119, 93
CAST, _CAST = 53, 37
ADD_N, _ADD_N = 106, 82
GATHER, _GATHER = 36, 23
REDUCE_MAX, _REDUCE = 82, 27
CALL_ONCE, VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE = 129, 142, 143, 144
_CONV, _DENSE, _CONCATENATION, _ADD, _RESHAPE, _MUL, _WHERE, _ONCE, _HANDLE, _READ, _ASSIGN = (
    1,
    8,
    10,
    11,
    17,
    21,
    85,
    103,
    111,
    112,
    113,
)

SCALE, ZERO_POINT = 1 / 16, 3
"""Quantization of the inputs and outputs of the int8 models: real values from -8.1875 to 7.75."""


class _Numbers(NamedTuple):
    """Quantization of activations, and how weights and biases are written; ``one`` stored stands for 1."""

    values: dict[str, Any]
    weights: str
    bias: str
    one: float = 127
    zero: int = 0


def _scaled(one: float, zero: int = 0) -> dict[str, Any]:
    return {"scale": [1 / one], "zero_point": [zero]}


_NUMBERS = {
    "float32": _Numbers({}, "float32", "float32", one=1),
    "int8": _Numbers({"scale": [SCALE], "zero_point": [ZERO_POINT]}, "int8", "int32"),
    "uint8": _Numbers({"scale": [SCALE], "zero_point": [ZERO_POINT + 128]}, "uint8", "int32", zero=128),
    "int16": _Numbers({"scale": [SCALE], "zero_point": [0]}, "int8", "int64"),
}


def dense(
    path: Path,
    inputs: int = 9,
    outputs: int = 9,
    *,
    int8: bool = True,
    dtype: str = "int8",
    layers: int = 1,
    batch: int = 1,
    metadata: Mapping[str, bytes] | None = None,
) -> Path:
    """Output j is input j, 0 where there is none: ``(batch, inputs)`` to ``(batch, outputs)``.

    A ``batch`` of -1 may vary. More ``layers`` make it slower. ``int8=False`` is a float model; ``dtype`` is
    that of a quantized model's activations, with int16 their zero point is 0.
    """
    kind = dtype if int8 else "float32"
    numbers = _NUMBERS[kind]
    sizes = [inputs] + [outputs] * layers
    names = ["input", *(f"hidden{i}" for i in range(1, layers)), "output"]
    tensors = [Tensor(name, (batch, n), kind, **numbers.values) for name, n in zip(names, sizes, strict=True)]
    ops = []
    for i in range(layers):
        weights = np.eye(sizes[i + 1], sizes[i]) * numbers.one + numbers.zero
        bias = np.zeros(sizes[i + 1])
        tensors += [
            Tensor(f"weights{i}", weights.shape, numbers.weights, weights, **_scaled(numbers.one, numbers.zero)),
            Tensor(f"bias{i}", bias.shape, numbers.bias, bias, **_scaled(numbers.one / SCALE)),
        ]
        n = len(tensors)
        options = {"i8_0": 0, "i8_1": 0, "bool_2": False}
        ops.append(Op(FULLY_CONNECTED, [i, n - 2, n - 1], [i + 1], (_DENSE, options), version=4))
    if kind == "float32":
        for tensor in tensors:
            tensor.scale = tensor.zero_point = ()
    return _write(path, Graph(tensors, ops, [0], [layers]), metadata=metadata)


def perceptron(path: Path, layers: Sequence[tuple[Any, Any]]) -> Path:
    """Dense float layers, given as weights ``(outputs, inputs)`` and biases, with ReLU between them."""
    sizes = [layers[0][0].shape[1], *(weights.shape[0] for weights, _ in layers)]
    names = ["input", *(f"hidden{i}" for i in range(1, len(layers))), "output"]
    tensors = [Tensor(name, (1, n)) for name, n in zip(names, sizes, strict=True)]
    ops = []
    for i, (weights, bias) in enumerate(layers):
        tensors += [
            Tensor(f"weights{i}", weights.shape, values=weights),
            Tensor(f"bias{i}", bias.shape, values=bias),
        ]
        n = len(tensors)
        options = {"i8_0": 1 if i < len(layers) - 1 else 0, "i8_1": 0, "bool_2": False}
        ops.append(Op(FULLY_CONNECTED, [i, n - 2, n - 1], [i + 1], (_DENSE, options)))
    return _write(path, Graph(tensors, ops, [0], [len(layers)]))


def same(
    path: Path,
    shape: tuple[int, ...],
    dtype: str,
    *,
    scale: float = 0.0,
    zero_point: int = 0,
    metadata: Mapping[str, bytes] | None = None,
) -> Path:
    """An input of any type to itself; quantized if there is a scale."""
    quantized: dict[str, Any] = {"scale": [scale], "zero_point": [zero_point]} if scale else {}
    tensors = [
        Tensor("input", shape, dtype, **quantized),
        Tensor("shape", (len(shape),), "int32", list(shape)),
        Tensor("output", shape, dtype, **quantized),
    ]
    op = Op(RESHAPE, [0, 1], [2], (_RESHAPE, {}))
    return _write(path, Graph(tensors, [op], [0], [2]), metadata=metadata)


def conv(path: Path, size: int = 8, channels: int = 3, *, layers: int = 1, dtype: str = "int8") -> Path:
    """An image of ``(1, size, size, channels)`` to itself, channel c times c + 1, with weights per channel."""
    factors = np.arange(1, channels + 1)
    quantized: dict[str, Any] = {"scale": [SCALE], "zero_point": [ZERO_POINT]}
    weights = np.zeros((channels, 1, 1, channels))
    weights[range(channels), 0, 0, range(channels)] = 127
    tensors = [Tensor("image", (1, size, size, channels), dtype, **quantized)]
    ops = []
    for i in range(layers):
        scales = factors / 127
        zeros = [0] * channels
        tensors += [
            Tensor(f"filter{i}", weights.shape, "int8", weights, scales.tolist(), zeros),
            Tensor(
                f"bias{i}", (channels,), "int32", np.zeros(channels), (scales * SCALE).tolist(), [0] * channels
            ),
            Tensor("scaled", (1, size, size, channels), dtype, **quantized),
        ]
        n = len(tensors)
        options = {"i8_0": 0, "i32_1": 1, "i32_2": 1, "i8_3": 0, "i32_4": 1, "i32_5": 1}
        ops.append(Op(CONV_2D, [3 * i, n - 3, n - 2], [n - 1], (_CONV, options), version=3))
    return _write(path, Graph(tensors, ops, [0], [len(tensors) - 1]))


def two(path: Path, size: int = 4) -> Path:
    """Two float inputs, their sum and their product.

    Signatures: ``serving`` takes ``a`` and ``b`` and gives ``product`` and ``sum``; ``swapped`` takes the same
    tensors in the other order of names, and gives ``sum`` alone.
    """
    tensors = [Tensor(name, (1, size)) for name in ("first", "second", "sum", "product")]
    ops = [Op(ADD, [0, 1], [2], (_ADD, {"i8_0": 0})), Op(MUL, [0, 1], [3], (_MUL, {"i8_0": 0}))]
    signatures = {
        "serving": ({"a": 0, "b": 1}, {"product": 3, "sum": 2}),
        "swapped": ({"a": 1, "b": 0}, {"sum": 2}),
    }
    return _write(path, Graph(tensors, ops, [0, 1], [2, 3], signatures))


def joined(path: Path, size: int = 4, *, int8: bool = True) -> Path:
    """A vector of 0 to 1 times 100, called ``boxes``, and itself behind it: in int8 on one scale of 0.4."""
    large, small = ({"scale": [scale], "zero_point": [-128]} if int8 else {} for scale in (0.4, 1 / 255))
    factor = {"scale": [100 / 127], "zero_point": [0]} if int8 else {}
    kind = "int8" if int8 else "float32"
    tensors = [
        Tensor("input", (1, size), kind, **small),
        Tensor("factor", (1,), kind, np.array([127 if int8 else 100]), **factor),
        Tensor("layers/boxes_1/mul", (1, size), kind, **large),
        Tensor("stored", (1, size), kind, **large),
        Tensor("both", (1, 2 * size), kind, **large),
    ]
    ops = [Op(MUL, [0, 1], [2], (_MUL, {"i8_0": 0}), version=2)]
    if int8:
        ops.append(Op(QUANTIZE, [0], [3], version=2))
    ops.append(Op(CONCATENATION, [2, 3 if int8 else 0], [4], (_CONCATENATION, {"i32_0": 1, "i8_1": 0}), version=2))
    return _write(path, Graph(tensors, ops, [0], [4]))


def methods(path: Path, size: int = 4) -> Path:
    """Two signatures in a graph each: ``twice`` in the first one, ``squared`` in the second; ``x`` to ``y``."""
    graphs = []
    for key, code, options in (("twice", ADD, _ADD), ("squared", MUL, _MUL)):
        tensors = [Tensor("in", (1, size)), Tensor("out", (1, size))]
        op = Op(code, [0, 0], [1], (options, {"i8_0": 0}))
        graphs.append(Graph(tensors, [op], [0], [1], {key: ({"x": 0}, {"y": 1})}))
    return _write(path, *graphs)


def started(path: Path, size: int = 4) -> Path:
    """Two signatures: ``reset`` in the first graph takes no input, ``twice`` in the second takes ``x``."""
    ones = np.ones((1, size), np.float32)
    tensors = [Tensor("ones", (1, size), values=ones), Tensor("two", (1, size))]
    first = Graph(tensors, [Op(ADD, [0, 0], [1], (_ADD, {"i8_0": 0}))], [], [1], {"reset": ({}, {"r": 1})})
    tensors = [Tensor("in", (1, size)), Tensor("out", (1, size))]
    op = Op(ADD, [0, 0], [1], (_ADD, {"i8_0": 0}))
    return _write(path, first, Graph(tensors, [op], [0], [1], {"twice": ({"x": 0}, {"y": 1})}))


def column(path: Path, rows: int = 60) -> Path:
    """A window of one channel, twice."""
    tensors = [Tensor(name, (1, rows, 1)) for name in ("window", "twice")]
    return _write(path, Graph(tensors, [Op(ADD, [0, 0], [1], (_ADD, {"i8_0": 0}))], [0], [1]))


def times(path: Path, size: int = 2, names: tuple[str, str] = ("x", "factor")) -> Path:
    """A vector times a second input, which has no dimensions."""
    tensors = [Tensor(names[0], (1, size)), Tensor(names[1], ()), Tensor("y", (1, size))]
    return _write(path, Graph(tensors, [Op(MUL, [0, 1], [2], (_MUL, {"i8_0": 0}))], [0, 1], [2]))


def accumulator(path: Path, size: int = 4) -> Path:
    """The sum of all inputs so far: it keeps a variable between calls."""
    tensors = [
        Tensor("input", (1, size)),
        Tensor("handle", (), "resource"),
        Tensor("before", (1, size)),
        Tensor("total", (1, size)),
    ]
    handle = Op(VAR_HANDLE, [], [1], (_HANDLE, {"at_0": "", "at_1": "total"}))
    ops = [
        Op(CALL_ONCE, [], [], (_ONCE, {"i32_0": 1})),
        handle,
        Op(READ_VARIABLE, [1], [2], (_READ, {})),
        Op(ADD, [0, 2], [3], (_ADD, {"i8_0": 0})),
        Op(ASSIGN_VARIABLE, [1, 3], [], (_ASSIGN, {})),
    ]
    zeros = [Tensor("zeros", (1, size), values=np.zeros((1, size))), Tensor("handle", (), "resource")]
    once = Graph(zeros, [handle, Op(ASSIGN_VARIABLE, [1, 0], [], (_ASSIGN, {}))], [], [])
    return _write(path, Graph(tensors, ops, [0], [3]), once)


def summed(path: Path, size: int = 3) -> Path:
    """The sum of all inputs so far, kept in a variable, through a dense layer that a delegate can take."""
    tensors = [
        Tensor("input", (1, size)),
        Tensor("handle", (), "resource"),
        Tensor("before", (1, size)),
        Tensor("total", (1, size)),
        Tensor("weights", (size, size), values=np.eye(size)),
        Tensor("bias", (size,), values=np.zeros(size)),
        Tensor("scores", (1, size)),
    ]
    handle = Op(VAR_HANDLE, [], [1], (_HANDLE, {"at_0": "", "at_1": "total"}))
    options = {"i8_0": 0, "i8_1": 0, "bool_2": False}
    ops = [
        Op(CALL_ONCE, [], [], (_ONCE, {"i32_0": 1})),
        handle,
        Op(READ_VARIABLE, [1], [2], (_READ, {})),
        Op(ADD, [0, 2], [3], (_ADD, {"i8_0": 0})),
        Op(ASSIGN_VARIABLE, [1, 3], [], (_ASSIGN, {})),
        Op(FULLY_CONNECTED, [3, 4, 5], [6], (_DENSE, options)),
    ]
    zeros = [Tensor("zeros", (1, size), values=np.zeros((1, size))), Tensor("handle", (), "resource")]
    once = Graph(zeros, [handle, Op(ASSIGN_VARIABLE, [1, 0], [], (_ASSIGN, {}))], [], [])
    return _write(path, Graph(tensors, ops, [0], [6]), once)


def echo(path: Path, size: int = 40) -> Path:
    """In int8, the mean of ``bands`` and that of the ``past_in`` of the run before; ``past_out`` is ``bands``."""
    values: dict[str, Any] = {"scale": [SCALE], "zero_point": [ZERO_POINT]}
    mean = np.zeros((2, 2 * size))
    mean[0, :size] = mean[1, size:] = 127
    weights = {"mean": (mean, 127 * size), "same": (np.eye(size) * 127, 127)}
    tensors = [
        Tensor("past_in", (1, size), "int8", **values),
        Tensor("bands", (1, size), "int8", **values),
        Tensor("both", (1, 2 * size), "int8", **values),
        Tensor("scores", (1, 2), "int8", **values),
        Tensor("past_out", (1, size), "int8", **values),
    ]
    for name, (table, one) in weights.items():
        rows = len(table)
        tensors += [
            Tensor(f"{name}/weights", table.shape, "int8", table, **_scaled(one)),
            Tensor(f"{name}/bias", (rows,), "int32", np.zeros(rows), **_scaled(one / SCALE)),
        ]
    options = {"i8_0": 0, "i8_1": 0, "bool_2": False}
    ops = [
        Op(CONCATENATION, [1, 0], [2], (_CONCATENATION, {"i32_0": 1, "i8_1": 0}), version=2),
        Op(FULLY_CONNECTED, [2, 5, 6], [3], (_DENSE, options), version=4),
        Op(FULLY_CONNECTED, [1, 7, 8], [4], (_DENSE, options), version=4),
    ]
    return _write(path, Graph(tensors, ops, [0, 1], [3, 4]))


def offset(path: Path, size: int = 4) -> Path:
    """An input plus 5, a weight that is kept in a variable: set up once, and never assigned by a run."""
    tensors = [Tensor("input", (1, size)), Tensor("handle", (), "resource"), Tensor("five", (1, size))]
    handle = Op(VAR_HANDLE, [], [1], (_HANDLE, {"at_0": "", "at_1": "five"}))
    ops = [
        Op(CALL_ONCE, [], [], (_ONCE, {"i32_0": 1})),
        handle,
        Op(READ_VARIABLE, [1], [2], (_READ, {})),
        Op(ADD, [0, 2], [3], (_ADD, {"i8_0": 0})),
    ]
    fives = [Tensor("fives", (1, size), values=np.full((1, size), 5)), Tensor("handle", (), "resource")]
    once = Graph(fives, [handle, Op(ASSIGN_VARIABLE, [1, 0], [], (_ASSIGN, {}))], [], [])
    return _write(path, Graph([*tensors, Tensor("sum", (1, size))], ops, [0], [3]), once)


def svdf(path: Path, memory: int = 3) -> Path:
    """The sum of the last inputs: a recurrent op that takes one time step a run."""
    tensors = [
        Tensor("step", (1, 1)),
        Tensor("feature", (1, 1), values=np.ones((1, 1))),
        Tensor("time", (1, memory), values=np.ones((1, memory))),
        Tensor("state", (1, memory), variable=True),
        Tensor("sum", (1, 1)),
    ]
    op = Op(SVDF, [0, 1, 2, -1, 3], [4], (_SVDF, {"i32_0": 1, "i8_1": 0}))
    return _write(path, Graph(tensors, [op], [0], [4]))


def pair(path: Path, size: int = 2) -> Path:
    """``total_out`` is ``step`` plus ``total_in``, and ``squared`` its square: whoever runs it keeps the state."""
    names = ("total_in", "step", "total_out", "squared")
    ops = [Op(ADD, [1, 0], [2], (_ADD, {"i8_0": 0})), Op(MUL, [2, 2], [3], (_MUL, {"i8_0": 0}))]
    return _write(path, Graph([Tensor(name, (1, size)) for name in names], ops, [0, 1], [2, 3]))


def crashing(path: Path, size: int = 4) -> Path:
    """A custom op of the runtimes without the options that it reads: a segmentation fault in both."""
    tensors = [Tensor("image", (1, size)), *(Tensor(f"output{i}", (1, 4)) for i in range(4))]
    op = Op(CUSTOM, [0], [1, 2, 3, 4], custom="TFLite_Detection_PostProcess")
    return _write(path, Graph(tensors, [op], [0], [1, 2, 3, 4]))


def endless(path: Path, size: int = 1) -> Path:
    """A loop that never ends."""
    tensors = [Tensor("input", (size,)), Tensor("on", (1,), "bool", values=[True]), Tensor("off", (1,), "bool")]
    add = Op(ADD, [0, 0], [3], (_ADD, {"i8_0": 0}))
    loop = Op(WHILE, [1], [2], (_WHILE, {"i32_0": 1, "i32_1": 2}))
    same = Graph([Tensor("flag", (1,), "bool")], [], [0], [0])
    return _write(path, Graph([*tensors, Tensor("sum", (size,))], [loop, add], [0], [3, 2]), same, same)


def enormous(path: Path, outputs: int = 400) -> Path:
    """Outputs of 512 MiB each."""
    row, column = (1, 1 << 13), (1 << 14, 1)
    tensors = [Tensor("row", row), Tensor("column", column, values=np.zeros(column))]
    tensors += [Tensor(f"sum{i}", (column[0], row[1])) for i in range(outputs)]
    ops = [Op(ADD, [0, 1], [2 + i], (_ADD, {"i8_0": 0})) for i in range(outputs)]
    return _write(path, Graph(tensors, ops, [0], list(range(2, 2 + outputs))))


def hungry(path: Path, tensors: int = 8, rows: int = 1 << 14) -> Path:
    """A number to a number, by way of ``tensors`` that are needed at once, each of ``rows`` times 32 kB."""
    shape = (rows, 1 << 13)
    column = Tensor("column", (rows, 1), values=np.zeros((rows, 1)))
    row = Tensor("row", (1, shape[1]), values=np.zeros((1, shape[1])))
    sums = [Tensor(f"sum{i}", shape) for i in range(tensors)]
    last = 5 + tensors
    graph = [
        Tensor("number", (1, 1)),
        column,
        row,
        Tensor("axes", (2,), "int32", [0, 1]),
        Tensor("wide", (rows, 1)),
    ]
    graph += [*sums, Tensor("all", shape), Tensor("result", (1, 1))]
    ops = [
        Op(ADD, [0, 1], [4], (_ADD, {"i8_0": 0})),
        *(Op(ADD, [4, 2], [5 + i], (_ADD, {"i8_0": 0})) for i in range(tensors)),
        Op(ADD_N, list(range(5, last)), [last], (_ADD_N, {})),
        Op(REDUCE_MAX, [last, 3], [last + 1], (_REDUCE, {"bool_0": True})),
    ]
    return _write(path, Graph(graph, ops, [0], [last + 1]))


def limited(path: Path, most: int = 100) -> Path:
    """A number from 0 to ``most - 1``, as it is. For any other one the run fails: it is an index out of bounds."""
    tensors = [
        Tensor("input", (1, 1)),
        Tensor("index", (1, 1), "int32"),
        Tensor("numbers", (most,), values=np.arange(most)),
        Tensor("output", (1, 1)),
    ]
    ops = [
        Op(CAST, [0], [1], (_CAST, {"i8_0": 0, "i8_1": 2})),
        Op(GATHER, [2, 1], [3], (_GATHER, {"i32_0": 0})),
    ]
    return _write(path, Graph(tensors, ops, [0], [3]))


def nonzero(path: Path, size: int = 6) -> Path:
    """Where a bool input is true: ``(size,)`` to int64 ``(n, 1)`` with n known only after the run."""
    tensors = [Tensor("flags", (size,), "bool"), Tensor("where", (-1, 1), "int64")]
    return _write(path, Graph(tensors, [Op(WHERE, [0], [1], (_WHERE, {}))], [0], [1]))


def integers(path: Path, dtype: str = "int32", size: int = 4) -> Path:
    """Integers that are not quantized, times two."""
    tensors = [Tensor("numbers", (1, size), dtype), Tensor("twice", (1, size), dtype)]
    return _write(path, Graph(tensors, [Op(ADD, [0, 0], [1], (_ADD, {"i8_0": 0}))], [0], [1]))


def flags(path: Path, size: int = 4) -> Path:
    """Flags as numbers."""
    tensors = [Tensor("flags", (1, size), "bool"), Tensor("numbers", (1, size))]
    return _write(path, Graph(tensors, [Op(CAST, [0], [1], (_CAST, {"i8_0": 6, "i8_1": 0}))], [0], [1]))


def text(path: Path) -> Path:
    """A model with a string input, which no sensor has."""
    tensors = [
        Tensor("words", (1, 2), "string"),
        Tensor("shape", (1,), "int32", [2]),
        Tensor("flat", (2,), "string"),
    ]
    return _write(path, Graph(tensors, [Op(RESHAPE, [0, 1], [2], (_RESHAPE, {}))], [0], [2]))


def unknown(path: Path, op: str = "edgetpu-custom-op", size: int = 4) -> Path:
    """A model with a custom op that no runtime here has."""
    tensors = [Tensor("input", (1, size)), Tensor("output", (1, size))]
    return _write(path, Graph(tensors, [Op(CUSTOM, [0], [1], custom=op)], [0], [1]))


def lacking(path: Path, *ops: str) -> Path:
    """A chain of custom ops that no runtime here has."""
    tensors = [Tensor(f"t{i}", (1, 4)) for i in range(len(ops) + 1)]
    chain = [Op(CUSTOM, [i], [i + 1], custom=name) for i, name in enumerate(ops)]
    return _write(path, Graph(tensors, chain, [0], [len(ops)]))


def newer(path: Path, metadata: Mapping[str, bytes] | None = None) -> Path:
    """A model with a version of a built-in op that no runtime has yet."""
    tensors = [Tensor("a", (1, 4)), Tensor("b", (1, 4)), Tensor("sum", (1, 4))]
    return _write(
        path, Graph(tensors, [Op(ADD, [0, 1], [2], (_ADD, {}), version=99)], [0, 1], [2]), metadata=metadata
    )


def described(
    path: Path, labels: Sequence[str] = ("cat", "dog", "café"), mean: float = 127.0, std: float = 128.0
) -> Path:
    """A ``dense`` float model with an output a label, and TFLite's own metadata and label file in it."""
    metadata = {"TFLITE_METADATA": tflite_metadata(mean, std), "min_runtime_version": b"1.5.0".ljust(16, b"\0")}
    return _labelled(dense(path, len(labels), len(labels), int8=False, metadata=metadata), labels)


def detector(path: Path, labels: Sequence[str] = ("cat", "dog"), boxes: int = 10) -> Path:
    """What is before TFLite's detection post-processing is left out, so that it cannot run; labels as above."""
    shapes = {"image": (1, 8), "boxes": (1, boxes, 4), "classes": (1, boxes), "scores": (1, boxes), "count": (1,)}
    tensors = [Tensor(name, shape) for name, shape in shapes.items()]
    ops = [Op(CUSTOM, [0], [1, 2, 3, 4], custom="TFLite_Detection_PostProcess")]
    metadata = {"TFLITE_METADATA": tflite_metadata(127.5, 127.5)}
    return _labelled(_write(path, Graph(tensors, ops, [0], [1, 2, 3, 4]), metadata=metadata), labels)


def squares(path: Path, width: int = 128, height: int = 96, side: int = 16, step: int = 4) -> Path:
    """A detector of bright squares in a grey picture of 0 to 1: a box each ``step`` pixels, as a YOLO gives them.

    A box scores 3 times its mean brightness, less 1.8.
    """
    rows, columns = (height - side) // step + 1, (width - side) // step + 1
    y, x = (np.mgrid[:rows, :columns] * step + side / 2).reshape(2, -1)
    boxes = np.stack([x, y, np.full_like(x, side), np.full_like(x, side)], axis=1)
    shape = (1, rows * columns, 1)
    tensors = [
        Tensor("image", (1, height, width, 1)),
        Tensor("filter", (1, side, side, 1), "float32", np.full((1, side, side, 1), 3 / side**2)),
        Tensor("bias", (1,), "float32", np.array([-1.8])),
        Tensor("map", (1, rows, columns, 1)),
        Tensor("shape", (3,), "int32", np.array(shape)),
        Tensor("scores", shape),
        Tensor("places", (1, rows * columns, 4), "float32", boxes[None]),
        Tensor("output", (1, rows * columns, 5)),
    ]
    options = {"i8_0": 1, "i32_1": step, "i32_2": step, "i8_3": 0, "i32_4": 1, "i32_5": 1}
    ops = [
        Op(CONV_2D, [0, 1, 2], [3], (_CONV, options)),
        Op(RESHAPE, [3, 4], [5], (_RESHAPE, {})),
        Op(CONCATENATION, [6, 5], [7], (_CONCATENATION, {"i32_0": 2, "i8_1": 0})),
    ]
    return _write(path, Graph(tensors, ops, [0], [7]))


def _labelled(path: Path, labels: Sequence[str]) -> Path:
    appended = io.BytesIO()
    with zipfile.ZipFile(appended, "w") as archive:
        archive.writestr(zipfile.ZipInfo("labels.txt"), "\n".join(labels) + "\n")
    path.write_bytes(path.read_bytes() + appended.getvalue())
    return path


def tflite_metadata(mean: float, std: float, name: str = "pets", *, labels: bool = True) -> bytes:
    """Write a ``ModelMetadata`` of ``metadata_schema.fbs``: a normalisation and perhaps a file of labels."""
    writer = Writer()
    normalise = writer.table(at_0=writer.array([mean], "float32"), at_1=writer.array([std], "float32"))
    unit = writer.table(u8_0=1, at_1=normalise)
    source = writer.table(at_0=writer.string("image"), at_4=writer.vector([unit]))
    files = [writer.table(at_0=writer.string("labels.txt"), i8_2=2)] if labels else []
    scores = writer.table(at_0=writer.string("probability"), at_6=writer.vector(files))
    graph = writer.table(at_2=writer.vector([source]), at_3=writer.vector([scores]))
    root = writer.table(
        at_0=writer.string(name),
        at_1=writer.string("tells pets apart"),
        at_2=writer.string("v7"),
        at_3=writer.vector([graph]),
        at_5=writer.string("Apache-2.0"),
    )
    return writer.finish(root, b"M001")


def _write(path: Path, *graphs: Graph, metadata: Mapping[str, bytes] | None = None) -> Path:
    path.write_bytes(write(graphs, metadata))
    return path
