"""Any model file, run on arrays of real values: what ``verify`` and ``diff`` compare.

``.tflite`` runs on the agent's own runtime. ``.mlpackage`` runs by executing its MIL program, on macOS with Core
ML. ``.onnx``, ``.keras`` and ``.pt2`` run with their own packages if those are installed.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from limpet.contracts.data import TensorSpec, fits
from limpet.errors import ModelError
from limpet.untrusted import reading
from limpet_convert import foreign, packed, proving
from limpet_convert.errors import ConvertError
from limpet_convert.graph import RUNTIME, layers_of
from limpet_convert.jail import Jail
from limpet_convert.libraries import called, need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from limpet.contracts.data import Array


class Runner(Protocol):
    """A model that was opened; a shape has -1 for what may vary."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives, as far as that is known before it runs."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs as real values, for inputs of real values, one array each."""


def open_model(path: Path) -> Runner:
    """Open a model by its suffix, in a sandboxed child. ``ConvertError`` if nothing runs it.

    TFLite runs in this process, after a child has run it once.
    """
    opener = _opener(path)
    if opener is not TFLite:
        return Jailed(path)
    proving.prove_file(path)
    return TFLite(path)


def open_here(path: Path) -> Runner:
    """Open a model by its suffix in this process. See ``open_model``."""
    return _opener(path)(path)


def _opener(path: Path) -> Callable[[Path], Runner]:
    openers: dict[str, Callable[[Path], Runner]] = {
        ".tflite": TFLite,
        ".onnx": _onnx,
        ".keras": _keras,
        ".pt2": _exported,
        ".mlpackage": _mlpackage,
    }
    if path.suffix not in openers:
        raise ConvertError(f"{path}: nothing runs such a model; these can be run: {', '.join(openers)}")
    if not path.exists():
        raise ConvertError(f"{path}: no such file")
    return openers[path.suffix]


class Jailed:
    """A model in a sandboxed child. ``kinds``: how often it uses each op, if the format has this."""

    def __init__(self, path: Path) -> None:
        self._jail = Jail(foreign.refuse(path))
        with reading("the model's tensors"):
            opened = msgspec.convert(self._jail.call("open", str(path.resolve())), packed.Opened)
        self.inputs, self.outputs, self.kinds = (
            packed.specs(opened.inputs),
            packed.specs(opened.outputs),
            opened.kinds,
        )

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See ``Runner``."""
        found = self._jail.call("run", [packed.pack(np.asarray(one)) for one in inputs])
        return [packed.unpack(one) for one in found]


def run_all(runner: Runner, *inputs: Array) -> list[Array]:
    """Run on each of the inputs, an array ``(n, *shape)`` for each of the model's; return outputs as ``(n, ...)``.

    Where a model has its channels on the other side, the axis is moved there. ``ConvertError`` where nothing fits.
    """
    if len(inputs) != len(runner.inputs):
        names = ", ".join(spec.name for spec in runner.inputs)
        raise ConvertError(f"the model has {len(runner.inputs)} inputs ({names}), but got {len(inputs)}")
    arrays = [laid_out(values, spec) for values, spec in zip(inputs, runner.inputs, strict=True)]
    with called("its library", "running the model"):  # Once for all windows, as it takes 20 µs.
        found = [[np.array(output) for output in runner.run(each)] for each in zip(*arrays, strict=True)]
    return [np.stack([flat(outputs[i]) for outputs in found]) for i in range(len(found[0]))]


def laid_out(values: Array, spec: TensorSpec) -> Array:
    """Return ``(n, *shape)`` with the channels where the model has them: behind or before the other axes."""
    axes = [axis for axis, size in enumerate(values.shape) if axis and size != 1]
    for layout in (
        values,
        *([np.moveaxis(values, axes[-1], 1), np.moveaxis(values, axes[0], -1)] if axes else []),
    ):
        if fits(layout.shape[1:], spec.shape):
            return layout
    raise ConvertError(
        f"input {spec.name!r} has shape {list(spec.shape)}, and does not take inputs of {list(values.shape[1:])}"
    )


def flat(output: Array) -> Array:
    """Drop the batch of 1."""
    return output[0] if output.ndim > 1 and output.shape[0] == 1 else output


class TFLite:
    """A ``.tflite`` model on the runtime of the agent. Dimensions left open are taken from the first input.

    State that the model file shows to be of one window is cleared before each run, as the agent does.
    """

    def __init__(self, path: Path) -> None:
        from limpet.runtimes import tflite

        self._open = tflite
        self._path = path
        self._stack = ExitStack()
        self._shapes: list[tuple[int, ...]] | None = None
        with self._explained():
            facts = tflite.describe(path, tflite.Config())
        self._alone = bool(facts.state) and facts.stateful is False
        self._load(None)

    def _load(self, shapes: list[tuple[int, ...]] | None) -> None:
        self._stack.close()
        with called(RUNTIME, f"loading {self._path.name}"), self._explained():
            opened = self._open.open(self._path, self._open.Config(), shapes=shapes)
            self._model = self._stack.enter_context(opened)
        if shapes is None:
            self.inputs, self.outputs = self._model.inputs, self._model.outputs

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See ``Runner``."""
        if any(-1 in spec.shape for spec in self.inputs):
            shapes = [closed(values.shape, spec.shape) for values, spec in zip(inputs, self.inputs, strict=True)]
            if shapes != self._shapes:
                self._load(shapes)
                self._shapes = shapes
        with called(RUNTIME, f"running {self._path.name}"), self._explained():
            if self._alone:
                self._model.reset()
            return [np.asarray(output) for output in self._model.run(inputs)]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise ``ConvertError`` for what the agent's runtime refuses, with the layer if it is known."""
        try:
            yield
        except ModelError as error:
            layer = layers_of(self._path.read_bytes())(f"{error}\n{error.__cause__}") if error.__cause__ else ""
            raise ConvertError(f"{error} (layer {layer})" if layer else str(error)) from error


def closed(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``wanted`` with what it leaves open taken from ``shape``, 1 for a missing batch."""
    if -1 not in wanted:
        return wanted
    padded = (1,) * (len(wanted) - len(shape)) + shape
    return tuple(have if want == -1 else want for have, want in zip(padded, wanted, strict=True))


class _Function:
    """A function of a library as a runner."""

    def __init__(
        self,
        library: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        function: Callable[[list[Array]], list[Array]],
    ) -> None:
        self.inputs, self.outputs, self._function = inputs, outputs, function
        self._library = library

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See ``Runner``."""
        shaped = [
            _as(values, spec.dtype).reshape(closed(values.shape, spec.shape))
            for values, spec in zip(inputs, self.inputs, strict=True)
        ]
        with called(self._library, "running the model"):
            return self._function(shaped)


def _as(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return real values in the model's type, floats rounded where that is one of whole numbers."""
    return np.asarray(np.rint(values) if dtype.kind in "iu" and values.dtype.kind == "f" else values, dtype)


def _spec(name: str, shape: Sequence[Any], dtype: str = "float32") -> TensorSpec:
    """Return a tensor of a library. ``dtype``: by the library's name, such as ``tensor(int64)``."""
    sizes = tuple(n if isinstance(n, int) and n > 0 else -1 for n in shape)
    known = re.search(r"u?int\d+|bool|float16|double|float64", dtype)
    return TensorSpec(name, sizes, np.dtype(known[0] if known else np.float32))


def _onnx(path: Path) -> Runner:
    runtime = need("onnxruntime", "convert-onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    with called("onnxruntime", f"{path}: opening the model"):
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = [_spec(i.name, i.shape, i.type) for i in session.get_inputs()]
    outputs = [_spec(o.name, o.shape) for o in session.get_outputs()]
    names = [spec.name for spec in inputs]
    return _Function(
        "onnxruntime",
        inputs,
        outputs,
        lambda arrays: list(session.run(None, dict(zip(names, arrays, strict=True)))),
    )


def _keras(path: Path) -> Runner:
    from limpet_convert.converters.keras import load

    model = load(path)
    inputs = [_spec(i.name, i.shape, str(i.dtype)) for i in model.inputs]
    outputs = [_spec(o.name, o.shape) for o in model.outputs]

    def run(arrays: list[Array]) -> list[Array]:
        found = model(arrays if len(arrays) > 1 else arrays[0], training=False)
        return [np.asarray(one) for one in (found if isinstance(found, (list, tuple)) else [found])]

    return _Function("Keras", inputs, outputs, run)


def _exported(path: Path) -> Runner:
    from limpet_convert.converters.torch import load

    torch = need("torch", "convert-torch")
    program = load(path)
    module, examples = program.module(), program.example_inputs[0]
    inputs = [_spec(f"args_{i}", example.shape, str(example.dtype)) for i, example in enumerate(examples)]
    made: dict[str, Any] = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names = [name for name in program.graph_signature.user_outputs if hasattr(made.get(name), "shape")]
    outputs = [_spec(name, made[name].shape, str(made[name].dtype)) for name in names]

    def run(arrays: list[Array]) -> list[Array]:
        with torch.no_grad():
            found = module(*(torch.from_numpy(np.ascontiguousarray(one)) for one in arrays))
        return [one.numpy() for one in (found if isinstance(found, (list, tuple)) else [found])]

    return _Function("PyTorch", inputs, outputs, run)


def _mlpackage(path: Path) -> Runner:
    from limpet_convert import mil

    return mil.open_model(path)
