"""A ``.tflite`` model as a graph that can be read, changed and run with every tensor visible."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.converters import _torch_names
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import called, need, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array, FloatArray

_PLAIN = {"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "PAD", "SLICE", "STRIDED_SLICE", "GATHER", "SPLIT"}
"""Ops that move values without computing: input and output share one range."""


RUNTIME = "LiteRT"
"""The runtime's name in errors."""
_BY = "converted by "


@dataclass(frozen=True)
class Op:
    """One operation. ``inputs`` and ``outputs`` are indices of tensors, constants among the inputs."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def moves(self) -> bool:
        """Whether it only moves values."""
        return self.kind in _PLAIN


def with_way(model: bytes, way: str) -> bytes:
    """Return a model whose description says which way it was converted. Provenance has it from there."""
    graph = Graph(model)
    graph.model.description = f"{_BY}{way}".encode()
    return graph.pack()


def way(model: bytes) -> str:
    """Return the way that a model was converted by, empty if it does not say so. Others may write it too."""
    description = (Graph(model).model.description or b"").decode(errors="replace")
    return shown(description.removeprefix(_BY)) if description.startswith(_BY) else ""


class Graph:
    """The first subgraph of a model. ``model`` is the flatbuffer's object tree, which may be changed."""

    def __init__(self, data: bytes) -> None:
        from limpet_convert import flatpack, tflite_indices

        if data[4:8] != flatpack.IDENTIFIER:
            raise ConvertError("not a .tflite model")
        schema = need("ai_edge_litert.schema_py_generated")
        self.schema: Any = schema
        self.data = data
        with called("flatbuffers", "reading the .tflite model"):
            self.model: Any = schema.ModelT.InitFromPackedBuf(data, 0)
            flatpack.gather(self.model, data)
            types = {kind for name, kind in vars(schema.TensorType).items() if not name.startswith("_")}
            tflite_indices.refuse(self.model, types)
        self._codes = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}

    @property
    def subgraph(self) -> Any:
        """The graph that ``invoke`` runs."""
        return self.model.subgraphs[0]

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """Its operations in the order in which they run."""
        return tuple(
            Op(index, self._kind(op), _indices(op.inputs), _indices(op.outputs))
            for index, op in enumerate(self.subgraph.operators or [])
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of its tensors."""
        return tuple((tensor.name or b"").decode(errors="replace") for tensor in self.subgraph.tensors)

    def _kind(self, op: Any) -> str:
        code = self.model.operatorCodes[op.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return (
            shown(code.customCode.decode(errors="replace"))
            if code.customCode
            else str(self._codes.get(number, number))
        )

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The model's inputs."""
        return _indices(self.subgraph.inputs)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """The model's outputs."""
        return _indices(self.subgraph.outputs)

    def is_constant(self, tensor: int) -> bool:
        """Return whether the file has a tensor's values."""
        data = self.model.buffers[self.subgraph.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def constant(self, tensor: int) -> Array | None:
        """Return a constant tensor's stored values. ``None`` where it is computed.

        They are flat if the tensor is sparse, and bytes if NumPy has no such type, as of int4. ``ConvertError`` if
        they are more or fewer than its shape says.
        """
        if not self.is_constant(tensor):
            return None
        found = self.subgraph.tensors[tensor]
        data = self.model.buffers[found.buffer].data
        names = {v: k for k, v in vars(self.schema.TensorType).items() if not k.startswith("_")}
        if names[found.type] not in _NUMPY:
            return np.frombuffer(bytes(data), np.uint8)
        shaped = found.shape is not None and len(found.shape) and found.sparsity is None
        try:
            values = np.frombuffer(bytes(data), np.dtype(names[found.type].lower()))
            return values.reshape(found.shape) if shaped else values
        except ValueError as error:
            name = shown(self.names[tensor])
            raise ConvertError(f"the .tflite model is damaged: tensor {name!r}: {error}") from error

    def layer(self, op: Op) -> str:
        """Return the name of the layer that made an operation, as far as the converter kept it."""
        weights = sorted((i for i in op.inputs if self.constant(i) is not None), key=self._size, reverse=True)
        names = (layer_name(self.names[i]) for i in (*op.outputs[:1], *weights[:1]))
        return shown(next((name for name in names if name), f"{op.kind.lower()}_{op.index}"))

    def layer_in(self, text: str) -> str:
        """Return the layer, with its op, that a runtime's text is about. Empty if it names none."""
        for number, kind in _NODE.findall(text):
            if int(number) < len(self.ops) and (op := self.ops[int(number)]).kind == kind:
                return f"{self.layer(op)} ({kind})"
        named = {name.encode() for name in _TENSOR.findall(text)}
        tensors = {i for i, tensor in enumerate(self.subgraph.tensors) if tensor.name in named}
        return next((f"{self.layer(op)} ({op.kind})" for op in self.ops if tensors & {*op.outputs}), "")

    def _size(self, tensor: int) -> int:
        return len(self.model.buffers[self.subgraph.tensors[tensor].buffer].data)

    def pack(self) -> bytes:
        """Return the model's bytes as it now is."""
        from limpet_convert import flatpack

        return flatpack.pack(self.model, len(self.data))


_NODE = re.compile(r"Node number (\d+) \((\w+)\)")
"""How a runtime names an op that fails."""
_TENSOR = re.compile(r"[Tt]ensor(?: name)?:? ['\"]?([^\s'\",]+)")
"""How a quantizer names a tensor."""
_NUMPY = {"FLOAT32", "FLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "BOOL", "FLOAT64"}


def _indices(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in values)


def layer_name(tensor: str) -> str:
    """Return the layer's name in a tensor's: ``second`` for ``model_1/second_1/Relu;model_1/second_1/conv``.

    Keras traces a layer under its name and a number; of PyTorch's see ``_torch_names``. Else an empty text.
    """
    if "__main__" in tensor or "torch." in tensor:  # litert_torch's own names: classes, not layers.
        return ""
    if of_torch := _torch_names.layer_name(tensor):
        return of_torch
    scopes = tensor.partition(";")[0].split("/")[:-1]
    traced = [scope for scope in scopes if re.search(r"_\d+$", scope)] or scopes
    return re.sub(r"_1$", "", traced[-1]) if traced else ""


def layers_of(model: bytes) -> Callable[[str], str]:
    """Return a function that finds the layer in a library's text, for ``libraries.called``."""

    def find(text: str) -> str:
        try:
            return Graph(model).layer_in(text)
        except Exception:  # noqa: BLE001 - a damaged file, whose error is shown without a layer
            return ""

    return find


class Tracer:
    """Runs a model, one input of batch 1 at a time, and shows every tensor. On the plain CPU kernels."""

    def __init__(self, model: bytes, shapes: Sequence[tuple[int, ...]] = ()) -> None:
        """``shapes`` of the inputs with the batch, for a model that leaves some open."""
        runtime = need("ai_edge_litert.interpreter")
        self._layers = layers_of(model)
        with called(RUNTIME, "loading the model", self._layers):
            self._interpreter = runtime.Interpreter(
                model_content=model,
                num_threads=1,
                experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
            )
            for detail, shape in zip(self._interpreter.get_input_details(), shapes, strict=False):
                if -1 in detail["shape_signature"] and len(shape) == len(detail["shape"]):
                    self._interpreter.resize_tensor_input(detail["index"], shape)
            self._interpreter.allocate_tensors()
        self.inputs = self._interpreter.get_input_details()
        self.outputs = self._interpreter.get_output_details()
        taken = {i for op in self._interpreter._get_ops_details() for i in op["outputs"]}  # noqa: SLF001
        taken |= {d["index"] for d in self.inputs}
        self.tensors = [d for d in self._interpreter.get_tensor_details() if d["index"] in taken and d["name"]]

    def invoke(self, inputs: Sequence[FloatArray]) -> None:
        """Run once on real values."""
        with called(RUNTIME, "running the model", self._layers):
            for detail, values in zip(self.inputs, inputs, strict=True):
                self._interpreter.set_tensor(detail["index"], store(values.reshape(detail["shape"]), detail))
            self._interpreter.invoke()

    def real(self, detail: dict[str, Any]) -> FloatArray:
        """Return a tensor's real values after ``invoke``."""
        return real(self._interpreter.get_tensor(detail["index"]), detail)

    def __call__(self, *inputs: FloatArray) -> list[FloatArray]:
        """Run once and return the real values of the outputs."""
        self.invoke(inputs)
        return [self.real(detail) for detail in self.outputs]


def store(values: FloatArray, detail: dict[str, Any]) -> Array:
    """Return real values as a tensor stores them."""
    scale, zero = detail["quantization"]
    if not scale:
        whole = np.dtype(detail["dtype"]).kind in "iu"
        return np.asarray(np.rint(values) if whole else values, detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    return np.asarray(np.clip(np.rint(values / scale) + zero, limits.min, limits.max), detail["dtype"])


def real(stored: Array, detail: dict[str, Any]) -> FloatArray:
    """Return stored values as the real ones that they stand for."""
    scale, zero = detail["quantization"]
    if not scale:
        return np.asarray(stored, np.float32)
    return np.asarray((stored.astype(np.float32) - zero) * np.float32(scale), np.float32)


def smaller(data: bytes) -> bytes:
    """Return a model that computes the same in fewer bytes."""
    return Graph(data).pack()
