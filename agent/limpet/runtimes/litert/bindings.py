"""How real values get into an interpreter and out of it: straight through its memory, or by copies.

Measured with ai-edge-litert 2.3 on x86-64 and a model of nine values, ``invoke`` alone takes 0.67 µs. With
``set_tensor`` and ``get_tensor`` it takes 1.87 µs, with arrays over the interpreter's memory 1.19 µs. ``tensor()``
gives such arrays too, but each holds a reference that makes ``invoke`` refuse. So they would have to be made again
every time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec
import numpy as np

from limpet.contracts.data import Array, TensorSpec
from limpet.runtimes.litert.tensors import InputWriter, dequantizer, reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.models.tflite.coverage import Coverage

Place: TypeAlias = "tuple[int, TensorSpec, tuple[int, ...]]"
"""Index of a tensor in its graph, what it is, and the shape that it has now."""


Runner: TypeAlias = "Callable[[Sequence[Array]], Sequence[Array]]"


class StoredRunner(Protocol):
    """What runs once on tensors as they are stored."""

    def __call__(self, inputs: Sequence[Array], /, *, real: bool) -> Sequence[Array]:
        """Run."""


class Binding(msgspec.Struct):
    """What one run does: each writer takes an input, ``invoke`` runs, each fetch returns an output.

    ``stored``: each returns an output as the tensor holds it.
    """

    writers: list[InputWriter]
    invoke: Callable[[], object]
    fetches: list[Callable[[], Array]]
    stored: list[Callable[[], Array]]
    addresses: dict[int, int] = msgspec.field(default_factory=dict)

    def runner(self, complain: Callable[[Exception, int], Exception]) -> Runner:
        """Return what runs once. ``complain`` makes an error of the runtime's and the number of inputs."""
        if len(self.writers) == len(self.fetches) == 1:
            return self._single(complain)
        writers, invoke, fetches = self.writers, self.invoke, self.fetches

        def run(inputs: Sequence[Array]) -> Sequence[Array]:
            try:
                for writer, values in zip(writers, inputs, strict=True):
                    writer(values)
                invoke()
                return [fetch() for fetch in fetches]
            except (ValueError, RuntimeError) as error:
                raise complain(error, len(inputs)) from error

        return run

    def stored_runner(self, complain: Callable[[Exception, int], Exception]) -> StoredRunner:
        """Return what runs once on tensors as they are stored, see ``limpet.contracts.runtime.Storing``."""
        writers, invoke, fetches, stored = self.writers, self.invoke, self.fetches, self.stored

        def run(inputs: Sequence[Array], *, real: bool) -> Sequence[Array]:
            try:
                for writer, values in zip(writers, inputs, strict=True):
                    writer.store(values)
                invoke()
                return [fetch() for fetch in (fetches if real else stored)]
            except (ValueError, RuntimeError) as error:
                raise complain(error, len(inputs)) from error

        return run

    def _single(self, complain: Callable[[Exception, int], Exception]) -> Runner:
        """Return the same for one input and one output: 1.5 µs less, which is half for the smallest models."""
        (writer,), invoke, (fetch,) = self.writers, self.invoke, self.fetches

        def run(inputs: Sequence[Array]) -> Sequence[Array]:
            try:
                (values,) = inputs
                if values.shape != writer.shape or values.dtype is not writer.dtype:
                    writer.adapt(values)
                writer.write(values)
                invoke()
                return (fetch(),)
            except (ValueError, RuntimeError) as error:
                raise complain(error, len(inputs)) from error

        return run


def place(name: str, details: dict[str, Any], *, closed: bool) -> Place:
    """Make sense of a runtime's details of a tensor. ``closed``: its shape will stay as it is now.

    ``ValueError`` where no array of numbers can be its value.
    """
    dtype = np.dtype(details["dtype"])
    if dtype.kind not in "biufc":
        raise ValueError(f"tensor {name!r} holds {'text' if dtype.kind == 'S' else dtype}, not numbers")
    quantization = details["quantization_parameters"]
    scale = tuple(float(value) for value in quantization["scales"])
    if not all(value > 0 for value in scale):
        raise ValueError(f"tensor {name!r} has the scale {min(scale)}")
    now = tuple(int(n) for n in details["shape"])
    signature = tuple(int(n) for n in details["shape_signature"])
    spec = TensorSpec(
        name,
        now if closed or len(signature) != len(now) else signature,
        dtype,
        scale,
        tuple(int(value) for value in quantization["zero_points"]),
        int(quantization["quantized_dimension"]),
    )
    return int(details["index"]), spec, now


def steady(interpreter: Any, placement: Coverage) -> bool:
    """Whether no ``invoke`` can move tensors.

    Memory is planned when the tensors are allocated. It is planned again within ``invoke`` only after a node with
    an output whose size depends on data. Such an output has no memory before the first run, so it can be found.
    Variables have their own memory.
    """
    # The runtime hands out a number in place of a view of a tensor without dimensions.
    if any(not len(d["shape"]) for d in (*interpreter.get_input_details(), *interpreter.get_output_details())):
        return False
    kinds = {d["index"]: np.dtype(d["dtype"]).kind for d in interpreter.get_tensor_details()}
    written = [tensor for tensor in placement.results if kinds.get(tensor, "O") != "O"]
    # First for text: asking where that is ends in a segmentation fault.
    return all(kinds[tensor] != "S" for tensor in written) and all(address(interpreter, t) for t in written)


def address(interpreter: Any, tensor: int) -> int:
    """Return where a tensor's memory begins, 0 where it has none."""
    try:
        view = interpreter.tensor(tensor)()
    except ValueError:
        return 0
    return int(view.__array_interface__["data"][0])


def direct(interpreter: Any, inputs: Sequence[Place], outputs: Sequence[Place]) -> Binding:
    """Bind to the memory itself. A binding keeps its interpreter alive; both are freed together."""
    found = [_memory(interpreter, place) for place in outputs]
    return Binding(
        [InputWriter(_memory(interpreter, place), place[1]) for place in inputs],
        interpreter.invoke,
        [reader(memory, place[1]) for memory, place in zip(found, outputs, strict=True)],
        [partial(np.asarray, memory) for memory in found],
        {index: address(interpreter, index) for index, _, _ in (*inputs, *outputs)},
    )


def moved(interpreter: Any, binding: Binding) -> bool:
    """Whether memory that ``direct`` bound to is elsewhere now."""
    return any(address(interpreter, index) != at for index, at in binding.addresses.items())


def by_copies(interpreter: Any, inputs: Sequence[Place], outputs: Sequence[Place]) -> Binding:
    """Bind through ``set_tensor`` and ``get_tensor``: outputs may change their size, and are new each time."""
    staged = [(index, np.zeros(shape, spec.dtype)) for index, spec, shape in inputs]

    def invoke() -> None:
        for index, array in staged:
            interpreter.set_tensor(index, array)
        interpreter.invoke()

    def fetch(place: Place) -> Callable[[], Array]:
        index, spec, _ = place
        real = dequantizer(spec)
        return lambda: real(_get(interpreter, index, spec))

    writers = [InputWriter(array, spec) for (_, array), (_, spec, _) in zip(staged, inputs, strict=True)]
    stored: list[Callable[[], Array]] = [partial(_get, interpreter, index, spec) for index, spec, _ in outputs]
    return Binding(writers, invoke, [fetch(place) for place in outputs], stored)


def _get(interpreter: Any, index: int, spec: TensorSpec) -> Array:
    """Return a copy of an output. tflite-runtime 2.14 has none of an output with no elements."""
    try:
        values: Array = np.asarray(interpreter.get_tensor(index))
    except ValueError:
        shape = next(d["shape"] for d in interpreter.get_output_details() if d["index"] == index)
        if np.prod(shape):
            raise
        return np.empty(shape, spec.dtype)
    return values


def by_signature(runner: Any, inputs: Sequence[Place], outputs: Sequence[Place]) -> Binding:
    """Bind to a signature of another graph than the first, which ``invoke`` does not reach."""
    staged = {spec.name: np.zeros(shape, spec.dtype) for _, spec, shape in inputs}
    results: dict[str, Array] = {}

    def fetch(spec: TensorSpec) -> Callable[[], Array]:
        real = dequantizer(spec)
        return lambda: real(results[spec.name])

    writers = [InputWriter(staged[spec.name], spec) for _, spec, _ in inputs]
    stored: list[Callable[[], Array]] = [partial(results.__getitem__, spec.name) for _, spec, _ in outputs]
    fetches = [fetch(spec) for _, spec, _ in outputs]
    return Binding(writers, lambda: results.update(runner(**staged)), fetches, stored)


def _memory(interpreter: Any, place: Place) -> Array:
    """Return an array over a tensor's memory that holds no reference to the interpreter."""
    view = interpreter.tensor(place[0])()
    return np.asarray(_Memory(view.__array_interface__))


def noise(specs: Sequence[TensorSpec], seed: int = 0) -> list[Array]:
    """Return noise over the range of each input."""
    random = np.random.default_rng(seed)
    return [_noise(spec, random) for spec in specs]


def _noise(spec: TensorSpec, random: np.random.Generator) -> Array:
    shape = [1 if n == -1 else n for n in spec.shape]
    if spec.quantized and spec.dtype.itemsize <= 2:
        limits = np.iinfo(spec.dtype)
        low, high = ((limit - spec.zero_point[0]) * spec.scale[0] for limit in (limits.min, limits.max))
        return random.uniform(low, high, shape).astype(np.float32)
    if spec.dtype.kind == "b":
        return random.integers(0, 2, shape).astype(np.bool_)
    if spec.dtype.kind in "iu":
        return random.integers(0, 128, shape).astype(spec.dtype)
    return random.normal(size=shape).astype(spec.dtype)


class _Memory:
    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface
