"""A second executor for ``.tflite`` files: LiteRT's CompiledModel, the only way to its GPU and NPU accelerators.

Limpet requests the accelerator alone. If it requested the CPU too, LiteRT would use the CPU without a message if
it finds no accelerator. Its ``is_fully_accelerated()`` would still be true.

A run holds Python's interpreter lock, so this belongs in a worker.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields
from enum import IntEnum
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np

from limpet.accelerators.delegate_kinds import KINDS
from limpet.accelerators.placement import place
from limpet.contracts.data import TensorSpec
from limpet.contracts.placement import OpPlace, Placement
from limpet.errors import ModelError
from limpet.models.tflite import model_file, model_graph
from limpet.runtimes.litert import compiler_log
from limpet.runtimes.litert.bindings import Binding
from limpet.runtimes.litert.tensors import InputWriter, dequantizer
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.delegate import Choice
    from limpet.runtimes.litert.bindings import Runner, StoredRunner

IndexedTensor: TypeAlias = "tuple[int, TensorSpec]"
"""LiteRT's number of an input or output in its signature, and what it is."""

_STATE = {142, 143, 144}
"""VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE."""


@contextmanager
def open(
    path: Path, choice: Choice, signature: str = "", shapes: Sequence[tuple[int, ...]] | None = None
) -> Iterator[AcceleratedModel]:
    """Compile a model for ``gpu`` or ``npu`` alone. ``shapes``: one an input, for a model that leaves some open.

    ``ModelError`` says why it cannot be.
    """
    model = AcceleratedModel(path, choice, signature, shapes)
    try:
        yield model
    finally:
        model.close()


class AcceleratedModel:
    """A model on an accelerator. ``placement`` has the name of the device, if LiteRT reports it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    placement: Placement
    run: Runner
    run_stored: StoredRunner

    def __init__(
        self, path: Path, choice: Choice, signature: str, shapes: Sequence[tuple[int, ...]] | None
    ) -> None:
        self._file = model_file.read(path)
        self.delegate = choice.name
        self._path = path
        self._choice = choice
        self._graph = model_graph.read(path.read_bytes())
        if any(tensor.variable for tensor in self._graph.tensors) or {op.code for op in self._graph.ops} & _STATE:
            raise ModelError(f"{path.name} keeps state between runs, which {choice.name!r} cannot clear")
        with compiler_log.caught() as said:
            failure = self._try(signature, shapes)
        if failure is not None:
            reason = compiler_log.explain(choice.kind, said, failure)
            raise ModelError(f"{path.name}: {choice.name!r} cannot run it: {reason}") from failure
        self.placement = self._placed(said)
        self.delegate_share = self.placement.op_share

    def reset(self) -> None:
        """Do nothing: a model with state is refused."""

    def absorb(self, byte_values: FloatArray) -> bool:  # noqa: ARG002
        """Return False: the accelerator gets real values."""
        return False

    def close(self) -> None:
        """Free the accelerator. ``run`` is refused from then on."""
        with compiler_log.caught():
            self.run, self.run_stored = _closed, _closed_stored

    def _try(self, signature: str, shapes: Sequence[tuple[int, ...]] | None) -> Exception | None:
        """Compile, make the buffers, and run once, as LiteRT has more to say each time. Return what it raised."""
        try:
            self._compile(signature, shapes)
            self.run([_zeros(spec) for spec in self.inputs])
        except (ValueError, RuntimeError) as error:
            return error.with_traceback(None)  # It would keep LiteRT's half-made objects alive.
        return None

    def _compile(self, signature: str, shapes: Sequence[tuple[int, ...]] | None) -> None:
        try:
            from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator, Options
            from ai_edge_litert.interpreter import Interpreter
        except ModuleNotFoundError as error:
            raise ModelError(f"{self._choice.name!r} needs LiteRT: {KINDS['gpu'].install}") from error
        accelerator = {"gpu": HardwareAccelerator.GPU, "npu": HardwareAccelerator.NPU}[self._choice.kind]
        options = _options(self._choice)
        self._names = [op["op_name"] for op in Interpreter(str(self._path))._get_ops_details()]  # noqa: SLF001
        model = CompiledModel.from_file(
            str(self._path), options=Options(hardware_accelerators=accelerator, **options)
        )
        self._bind(model, signature, shapes)

    def _placed(self, said: Sequence[str]) -> Placement:
        """Make a placement: asked for alone, it takes all ops or refuses. Where it says fewer, it had fewer."""
        taken = compiler_log.taken(said) if self._choice.kind == "npu" else None
        ops = [
            OpPlace(name, self.delegate if taken is None or i < taken else "cpu", op.macs)
            for i, (name, op) in enumerate(zip(self._names, self._graph.ops, strict=True))
        ]
        return place(self.delegate, ops, device=compiler_log.device(said))

    def _bind(self, model: Any, signature: str, shapes: Sequence[tuple[int, ...]] | None) -> None:
        key = self._key(model, signature)
        number = model.get_signature_index(key)
        ins, outs = self._ports(model, key, signature)
        if shapes is not None:
            for (i, _), shape in zip(ins, shapes, strict=True):
                model.resize_input_tensor(i, shape, number)
            ins, outs = self._ports(model, key, signature)
        self.inputs, self.outputs = (tuple(spec for _, spec in ports) for ports in (ins, outs))
        sources, sinks = model.create_input_buffers(number), model.create_output_buffers(number)
        staged = [np.zeros(spec.shape, spec.dtype) for spec in self.inputs]
        writes = [(sources[i].write, array) for (i, _), array in zip(ins, staged, strict=True)]

        def invoke() -> None:
            for write, array in writes:
                write(array)
            model.run_by_index(number, sources, sinks)

        writers = [InputWriter(array, spec) for array, spec in zip(staged, self.inputs, strict=True)]
        stored = [_fetch(sinks[i], spec) for i, spec in outs]
        fetches = [_real(fetch, spec) for fetch, (_, spec) in zip(stored, outs, strict=True)]
        binding = Binding(writers, invoke, fetches, stored)
        self.run, self.run_stored = binding.runner(self._complain), binding.stored_runner(self._complain)

    def _key(self, model: Any, signature: str) -> str:
        """Return LiteRT's name of the signature to run. Default: that of the first graph."""
        known = self._file.signatures
        if signature and signature not in known:
            raise ModelError(f"there is no signature {signature!r}{suggest(signature, known)}")
        if signature and known[signature].subgraph:
            raise ModelError(f"{self.delegate!r} takes the first graph, and signature {signature!r} is of another")
        return signature or str(model.get_signature_by_index(0)["key"])

    def _ports(self, model: Any, key: str, signature: str) -> tuple[list[IndexedTensor], list[IndexedTensor]]:
        """Return inputs and outputs in the order and with the names that the runtime ``tflite`` gives them."""
        names = model.get_signature_list()[key]
        sides = []
        for side, details, order in (
            ("inputs", model.get_input_tensor_details(key), self._graph.inputs),
            ("outputs", model.get_output_tensor_details(key), self._graph.outputs),
        ):
            ports = [(i, details[name]["index"], name) for i, name in enumerate(names[side])]
            ports.sort(key=lambda port: port[2] if signature else order.index(port[1]))
            sides.append([(i, self._spec(details[name], name if signature else "")) for i, _, name in ports])
        return sides[0], sides[1]

    def _spec(self, details: Mapping[str, Any], name: str) -> TensorSpec:
        """Complete LiteRT's details of a tensor, which lack its quantization, from the file."""
        tensor = self._graph.tensors[details["index"]]
        try:
            dtype = np.dtype(details["dtype"])
        except TypeError as error:
            raise ModelError(f"tensor {tensor.name!r} holds {details['dtype']}, not numbers") from error
        return TensorSpec(
            name or tensor.name,
            tuple(int(n) for n in details["shape"]),
            dtype,
            tensor.scale,
            tensor.zero_point,
            tensor.quantized_dimension,
        )

    def _complain(self, error: Exception, count: int) -> ModelError:
        if count != len(self.inputs):
            return ModelError(f"{self._path.name} takes {len(self.inputs)} inputs, but got {count}")
        return ModelError(f"{self._path.name} on {self.delegate!r}: {compiler_log.last_line(error)}")


def _fetch(buffer: Any, spec: TensorSpec) -> Callable[[], Array]:
    count = prod(spec.shape)
    return lambda: buffer.read(count, spec.dtype).reshape(spec.shape)


def _real(fetch: Callable[[], Array], spec: TensorSpec) -> Callable[[], Array]:
    real = dequantizer(spec)
    return lambda: real(fetch())


def _zeros(spec: TensorSpec) -> Array:
    return np.zeros(spec.shape, np.float32 if spec.quantized else spec.dtype)


def _options(choice: Choice) -> dict[str, Any]:
    """Turn the options of the configuration into LiteRT's. ``ModelError`` where it has no such option."""
    from ai_edge_litert.options import GpuOptions, IntelOpenVinoOptions, QualcommOptions

    known: dict[str, list[tuple[str, Any]]] = {
        "gpu": [("gpu_options", GpuOptions)],
        "npu": [("intel_openvino_options", IntelOpenVinoOptions), ("qualcomm_options", QualcommOptions)],
    }
    if not choice.options:
        return {}
    for name, kind in known[choice.kind]:
        if choice.options.keys() <= {field.name for field in fields(kind)}:
            hints = get_type_hints(kind)
            return {name: kind(**{key: _value(key, text, hints[key]) for key, text in choice.options.items()})}
    every = sorted(field.name for _, kind in known[choice.kind] for field in fields(kind))
    for key in choice.options:
        if key not in every:
            raise ModelError(f"delegates.{choice.name}.options.{key}: unknown{suggest(key, every)}")
    raise ModelError(f"delegates.{choice.name}.options: these belong to different NPUs")


def _value(key: str, text: str, hint: Any) -> Any:
    """Read an option's text as the type that LiteRT wants."""
    for kind in get_args(hint) if get_origin(hint) is Union else (hint,):
        if isinstance(kind, type) and issubclass(kind, IntEnum):
            names = [member.name.lower() for member in kind]
            if text.lower() not in names:
                raise ModelError(f"option {key} = {text!r} is unknown{suggest(text.lower(), names)}")
            return kind[text.upper()]
        if kind in {bool, int, str}:
            try:
                return kind(int(text)) if kind is not str else text
            except ValueError as error:
                raise ModelError(f"option {key} = {text!r} is not a number") from error
    raise ModelError(f"option {key} cannot be set from a configuration")


def _closed(_: Sequence[Array]) -> Sequence[Array]:
    raise ModelError("the model is closed")


def _closed_stored(inputs: Sequence[Array], *, real: bool) -> Sequence[Array]:  # noqa: ARG001
    return _closed(inputs)
