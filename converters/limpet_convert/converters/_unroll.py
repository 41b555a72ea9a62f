"""TensorFlow's loops of a known number of steps, written out step by step.

Keras and SavedModels have a recurrent layer as a loop over lists of tensors. No quantizer takes a loop, and the
converter takes such lists for some shapes only. Written out, a recurrent layer is plain ops.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.libraries import need

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STEPS = 256
"""Steps of all loops together that are written out at most: each adds some 20 ops to the file."""
OPS = 100_000
"""Ops that are walked through at most. A function that calls others twice each has more than can be."""
_LOOPS = {"While", "StatelessWhile"}
_COUNTING = {"Add": np.add, "AddV2": np.add, "Less": np.less, "LogicalAnd": np.logical_and}
"""What each step of a loop does with its counters. TensorFlow takes 10 ms for one of these."""
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


class UnknownStepsError(Exception):
    """A loop's steps depend on the input, or are too many. The text is the layer and why."""


def loops(graph: Any) -> bool:
    """Whether a graph definition has a loop, in a function of it or itself."""
    nodes = [*graph.node, *(node for one in graph.library.function for node in one.node_def)]
    return any(node.op in _LOOPS for node in nodes)


def unrolled(function: Any, most: int = STEPS) -> Any:
    """Return a frozen function without loops. ``UnknownStepsError`` where a loop has to stay one."""
    tf = need("tensorflow", "convert-tensorflow")
    graph = function.graph.as_graph_def()
    specs = [tf.TensorSpec(one.shape, one.dtype, one.name.partition(":")[0]) for one in function.inputs]
    names = [one.name for one in function.outputs]

    def run(*inputs: Any) -> list[Any]:
        walk = _Walk(tf, graph.library, most)
        given = {f"{spec.name}:0": value for spec, value in zip(specs, inputs, strict=True)}
        found = walk.through(graph, given)
        return [walk.tensor(found[name]) for name in names]

    return tf.function(run, autograph=False).get_concrete_function(*specs)


class _Walk:
    """Walks through graph definitions and makes their ops again. A value is a tensor, a count, or a list of both.

    A count is a numpy array of integers or booleans that is known now. A list stands for a TensorList.
    """

    def __init__(self, tf: Any, library: Any, most: int) -> None:
        self._tf, self._left, self._most, self._walked = tf, most, most, 0
        utility = need("tensorflow.python.framework.function_def_to_graph", "convert-tensorflow")
        self._graph_of = utility.function_def_to_graph_def
        self._library = tf.Graph()  # It has the functions that a function calls.
        with self._library.as_default():
            tf.graph_util.import_graph_def(tf.compat.v1.GraphDef(library=library))
        self._functions = {one.signature.name: one for one in library.function}
        self._bodies: dict[str, tuple[Any, list[str], list[str]]] = {}
        self._constants: dict[bytes, Any] = {}
        self._layer = ""

    def through(self, graph: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of each output of each node as ``name:0``. ``given``: of the placeholders."""
        values = dict(given)
        for node in _in_order(graph.node):
            if f"{node.name}:0" in given or node.op == "NoOp":
                continue
            self._walked += 1
            if self._walked > OPS:
                raise UnknownStepsError(_layer(node.name), "it takes too many ops")
            inputs = [values[_output(name)] for name in node.input if not name.startswith("^")]
            for number, value in enumerate(self._node(node, inputs)):
                values[f"{node.name}:{number}"] = value
        return values

    def tensor(self, value: Any) -> Any:
        """Return a value as a tensor of the new graph."""
        if not isinstance(value, np.ndarray):
            return value
        key = value.dtype.str.encode() + repr(value.shape).encode() + value.tobytes()
        if key not in self._constants:
            self._constants[key] = self._tf.constant(value)
        return self._constants[key]

    def _node(self, node: Any, inputs: list[Any]) -> Sequence[Any]:
        if node.op in _LOOPS:
            return self._loop(node, inputs)
        if node.op in _CALLS:
            return self._call(node.attr["f"].func.name, inputs)
        if node.op.startswith("TensorList"):
            return [self._list(node, inputs)]
        if node.op == "Identity":
            return inputs
        if node.op == "Const":
            return self._constant(node)
        return self._op(node, inputs)

    def _op(self, node: Any, inputs: list[Any]) -> Sequence[Any]:
        """Compute what an op makes of counts, or make the op again."""
        if inputs and all(isinstance(one, np.ndarray) for one in inputs):
            return self._computed(node, inputs)
        return [self._known(one) for one in self._made(node, [self.tensor(one) for one in inputs])]

    def _known(self, made: Any) -> Any:
        """Return a small tensor of integers or booleans as its value, if that is known."""
        if made.dtype.is_floating or made.dtype in {self._tf.variant, self._tf.string, self._tf.resource}:
            return made
        value = self._tf.get_static_value(made)
        return made if value is None else np.asarray(value)

    def _constant(self, node: Any) -> Sequence[Any]:
        key = node.attr["value"].SerializeToString()
        if key not in self._constants:
            self._constants[key] = self._known(self._made(node, [])[0])
        return [self._constants[key]]

    def _computed(self, node: Any, inputs: Sequence[Any]) -> list[Any]:
        """Return what a node makes of counts: they are computed here, so that they are no part of the model."""
        if node.op in _COUNTING:
            return [np.asarray(_COUNTING[node.op](*inputs))]
        tf, graph = self._tf, self._tf.Graph()
        with graph.as_default():
            made = self._made(node, [tf.constant(one) for one in inputs])
            with tf.compat.v1.Session(graph=graph) as session:
                return [np.asarray(one) for one in session.run(list(made))]

    def _made(self, node: Any, tensors: Sequence[Any]) -> Sequence[Any]:
        """Make a node again in the graph that is being traced."""
        tf = self._tf
        single = tf.compat.v1.GraphDef()
        copied = single.node.add()
        copied.CopyFrom(node)
        copied.name = node.name.rpartition("/")[2] if self._layer else node.name
        del copied.input[:]
        for number, one in enumerate(tensors):
            taken = single.node.add()
            taken.name, taken.op = f"input_{number}", "Placeholder"
            taken.attr["dtype"].type = one.dtype.as_datatype_enum
            copied.input.append(taken.name)
        for key in [key for key in copied.attr if key in {"_class", "_output_shapes"}]:
            del copied.attr[key]
        for name in self._reached(copied):
            single.library.function.add().CopyFrom(self._functions[name])
        mapped = {f"input_{number}:0": one for number, one in enumerate(tensors)}
        (made,) = tf.graph_util.import_graph_def(
            single, input_map=mapped, return_elements=[copied.name], name=self._layer and f"{self._layer}/"
        )
        return list(made.outputs)

    def _reached(self, node: Any) -> list[str]:
        """Return the functions that a node calls, and those that these call."""
        found: dict[str, None] = {}
        waiting = [node]
        while waiting:
            for name in _called(waiting.pop()):
                if name not in found:
                    found[name] = None
                    waiting += self._functions[name].node_def
        return list(found)

    def _call(self, name: str, inputs: Sequence[Any]) -> list[Any]:
        """Walk through a function with values for its arguments, and return its results."""
        if name not in self._bodies:
            definition = self._functions[name]
            with self._library.as_default():
                graph, flat = self._graph_of(definition)
            results = [definition.ret[one.name] for one in definition.signature.output_arg]
            outputs = [flat.get(result, result) for result in results]
            self._bodies[name] = (graph, [one.name for one in definition.signature.input_arg], outputs)
        graph, arguments, outputs = self._bodies[name]
        values = self.through(graph, {f"{name}:0": one for name, one in zip(arguments, inputs, strict=True)})
        return [values[_output(name)] for name in outputs]

    def _loop(self, node: Any, values: list[Any]) -> list[Any]:
        """Walk through the body of a loop as often as it would run."""
        layer, step = _layer(node.name), 0
        while self._runs(node, values, layer):
            if step >= self._left:
                raise UnknownStepsError(layer, "it takes too many steps")
            outer, self._layer = self._layer, f"{layer}_step_{step:03}"
            values = self._call(node.attr["body"].func.name, values)
            self._layer, step = outer, step + 1
        self._left -= step
        return values

    def _runs(self, node: Any, values: Sequence[Any], layer: str) -> bool:
        (more,) = self._call(node.attr["cond"].func.name, values)
        if not isinstance(more, np.ndarray):
            raise UnknownStepsError(layer, "its number of steps depends on the input")
        return bool(more)

    def _list(self, node: Any, inputs: list[Any]) -> Any:
        """Do with a Python list what an op does with a list of tensors."""
        tf, kind = self._tf, node.op.removeprefix("TensorList")
        if kind == "Reserve":
            size = int(self._count(inputs[1], node))
            if size > self._most:
                raise UnknownStepsError(_layer(node.name), "its list is too long")
            return _Reserved([None] * size, inputs[0])
        if kind == "FromTensor":
            whole = self.tensor(inputs[0])
            if whole.shape[0] is None or whole.shape[0] > self._left:
                raise UnknownStepsError(_layer(node.name), "it takes too many steps")
            return _Reserved(tf.unstack(whole, name=f"{_layer(node.name)}_steps"), inputs[1])
        if kind == "GetItem":
            return self._item(inputs[0], int(self._count(inputs[1], node)), node)
        if kind == "SetItem":
            held = list(inputs[0].items)
            held[int(self._count(inputs[1], node))] = inputs[2]
            return _Reserved(held, inputs[0].shape)
        if kind == "Stack":
            items = [self._item(inputs[0], number, node) for number in range(len(inputs[0].items))]
            return tf.stack(items, name=f"{_layer(node.name)}_stacked")
        raise UnknownStepsError(_layer(node.name), f"it uses {node.op}")

    def _item(self, held: _Reserved, number: int, node: Any) -> Any:
        item = held.items[number]
        if item is None:  # Never written: TensorFlow reads zeros.
            shape = self._count(held.shape, node)
            item = self._tf.zeros(shape, self._tf.dtypes.as_dtype(node.attr["element_dtype"].type))
        return self.tensor(item)

    def _count(self, value: Any, node: Any) -> Any:
        if not isinstance(value, np.ndarray):
            raise UnknownStepsError(_layer(node.name), "a place in its list depends on the input")
        return value


class _Reserved:
    """A list of tensors of one ``shape``; ``None`` for what was not written."""

    def __init__(self, items: list[Any], shape: Any) -> None:
        self.items, self.shape = items, shape


def _layer(name: str) -> str:
    """Return the layer of a loop's node: ``memory_1`` for ``model_1/memory_1/while``."""
    scopes = [scope for scope in name.split("/")[:-1] if not re.fullmatch(r"while(_\d+)?|TensorArray\w*", scope)]
    return re.sub(r"_1$", "", scopes[-1]) if scopes else name


def _output(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _called(node: Any) -> list[str]:
    return [value.func.name for value in node.attr.values() if value.HasField("func")]


def _in_order(nodes: Iterable[Any]) -> list[Any]:
    """Return nodes so that each is behind those it takes from. ``UnknownStepsError`` where they go in a circle."""
    by_name = {node.name: node for node in nodes}
    ordered: dict[str, Any] = {}
    for first in by_name:
        waiting, opened = [first], set[str]()
        while waiting:
            name = waiting[-1]
            taken = [one.lstrip("^").partition(":")[0] for one in by_name[name].input]
            missing = [one for one in taken if one not in ordered]
            if not opened.isdisjoint(missing):
                raise UnknownStepsError(_layer(name), "it is a loop of TensorFlow 1")
            if missing:
                opened.add(name)
            else:
                opened.discard(name)
                ordered.setdefault(waiting.pop(), by_name[name])
            waiting += missing
    return list(ordered.values())
