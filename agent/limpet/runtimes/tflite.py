"""TensorFlow Lite models, run by ai-edge-litert or by its predecessor tflite-runtime, whichever is installed.

What only accelerators need is imported when one is used: most workers use none.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np

from limpet.contracts.delegate import CPU
from limpet.contracts.fields import Count
from limpet.contracts.model_facts import ModelFacts
from limpet.contracts.runtime import Abilities
from limpet.errors import ModelError
from limpet.models.tflite import carried_state, model_file
from limpet.models.tflite.coverage import coverage
from limpet.runtimes.litert import bindings, quiet_start
from limpet.runtimes.litert.tensors import takes_pixels
from limpet.wording import suggest

try:
    from ai_edge_litert import __version__ as version
    from ai_edge_litert.interpreter import Interpreter

    package = "ai-edge-litert"
except ModuleNotFoundError:
    from tflite_runtime import __version__ as version
    from tflite_runtime.interpreter import Interpreter

    package = "tflite-runtime"

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from limpet.accelerators.delegate_library import LibraryDelegate
    from limpet.contracts.data import Array, FloatArray, TensorSpec
    from limpet.contracts.delegate import Choice
    from limpet.contracts.placement import Placement
    from limpet.models.tflite.coverage import Coverage
    from limpet.runtimes.litert.bindings import Place
    from limpet.runtimes.litert.compiled_model import AcceleratedModel

Named: TypeAlias = "tuple[str, dict[str, Any]]"
"""A tensor's name and the runtime's details of it."""


__all__ = ["ABILITIES", "Config", "Interpreter", "TFLiteModel", "cover", "describe", "open", "package", "version"]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """TFLite, on ai-edge-litert or tflite-runtime."""

    threads: Count = 1
    """Threads of the interpreter. More than one helps little, and not at all if several pipelines run."""
    signature: str = ""
    """Key of the signature to run; inputs and outputs are then in order of its names. Default: the model's first
    graph. Example: `"serving_default"`."""


@contextmanager
def open(
    path: Path, config: Config, delegate: Choice = CPU, shapes: Sequence[tuple[int, ...]] | None = None
) -> Iterator[TFLiteModel | AcceleratedModel]:
    """Load a ``.tflite`` file, memory-mapped. ``shapes``: one an input, for a model that leaves some open.

    ``ModelError`` says why the file, the delegate, the signature or the shapes cannot be used.
    """
    if delegate.how == "compiled":
        from limpet.runtimes.litert import compiled_model

        with compiled_model.open(path, delegate, config.signature, shapes) as compiled:
            yield compiled
        return
    model = TFLiteModel(path, config, delegate, shapes)
    try:
        yield model
    finally:
        model.close()


def describe(path: Path, config: Config) -> ModelFacts:
    """Read a model file without loading it. ``ModelError`` where it is damaged or lacks the signature."""
    file = model_file.read(path)
    key = config.signature
    _refuse_signature(key, file)
    port = file.ports[key]
    aliases = {} if key else file.aliases
    return ModelFacts(
        inputs=tuple(tensor.info for tensor in port.inputs),
        outputs=tuple(tensor.info for tensor in port.outputs),
        aliases=aliases,
        signatures=tuple(name for name, signature in file.signatures.items() if signature.inputs),
        state=str(port.state),
        stateful=port.state.stateful,
        pairs=carried_state.state_pairs(
            port.inputs, port.outputs, {name: alias for alias, name in aliases.items()}
        ),
    )


def _refuse_signature(key: str, file: model_file.TFLiteFile) -> None:
    if key and key not in file.signatures:
        raise ModelError(f"there is no signature {key!r}{suggest(key, file.signatures)}")


def cover(path: Path) -> Coverage:
    """Return which ops of a model the CPU's delegate, XNNPACK, runs; plain kernels run the rest."""
    model = TFLiteModel(path, Config(), CPU, None)
    model.close()
    return model.allocated


class TFLiteModel:
    """A loaded model. ``delegate_share`` is the share of its ops on the delegate, 1 on the CPU by definition.

    ``claimed`` and ``allocated``: the ops on a delegate before and after XNNPACK took what was left.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    delegate_share: float
    claimed: Coverage
    allocated: Coverage
    run: bindings.Runner
    """Run once. Integers are real values too: a pixel is 0 to 255 whatever the tensor's quantization.

    Returns float32 real values for quantized outputs, others as they are, valid until the next run.
    ``ModelError`` where an input does not fit or the runtime fails.
    """
    run_stored: bindings.StoredRunner

    def __init__(
        self, path: Path, config: Config, delegate: Choice, shapes: Sequence[tuple[int, ...]] | None
    ) -> None:
        self.delegate = delegate.name
        self._choice = delegate
        self._path = path
        self._config = config
        self._shapes = shapes
        self._pixels: FloatArray | None = None
        self._file = model_file.read(path)
        self._forget: Callable[[], object] | None = None
        self._proven: bool | None = None
        self._start()

    def reset(self) -> None:
        """Forget all earlier runs.

        ``reset_all_variables`` clears the state of fused recurrent ops; it is used if a proof with this model and
        delegate succeeds. It leaves variables as they were, as in microWakeWord's streaming models, and so does
        ``allocate_tensors``. Such a model gets a new interpreter.
        """
        if self._proven is None:
            self._proven = self._prove_forgetting()
        if self._proven and self._forget:
            self._forget()
        else:
            self._start()

    def _prove_forgetting(self) -> bool:
        """Whether ``reset_all_variables`` makes this model forget: then outputs after it equal those of a new one.

        The proof needs inputs whose outputs the state changes, so it first looks for that.
        """
        state = self._file.ports[self._config.signature].state
        if state.variables or not state.recurrent:
            return False
        one, other = (bindings.noise(self.inputs, seed) for seed in (0, 1))
        self._start()
        if self._forget is None:
            return False
        try:
            fresh = self._outputs(one)
            self.run(other)
            remembered = self._outputs(one)
            self._forget()
            after = self._outputs(one)
        except ModelError:
            return False
        finally:
            self._start()
        return fresh != remembered and fresh == after

    def _outputs(self, inputs: Sequence[Array]) -> list[bytes]:
        return [output.tobytes() for output in self.run(inputs)]

    def _start(self) -> None:
        """Load the model into a new interpreter."""
        self.close()
        try:
            self._load()
        except (ValueError, RuntimeError, SystemError) as error:
            raise ModelError(f"{self._path.name}: {self._explain_load(error)}") from error

    def absorb(self, byte_values: FloatArray) -> bool:
        """Take images of bytes from now on, which stand for these 256 real values. Return False to refuse.

        It saves a pass over the image in floats, and its cost in cache.
        """
        if len(self.inputs) != 1 or not takes_pixels(self.inputs[0]):
            return False
        self._pixels = byte_values
        self._start()
        return True

    def _use(self, binding: bindings.Binding) -> None:
        for writer in binding.writers:
            writer.pixels = self._pixels
        self.run, self.run_stored = binding.runner(self._complain), binding.stored_runner(self._complain)

    @property
    def placement(self) -> Placement:
        """Which executor has which op. Reads the file again."""
        from limpet.accelerators.placement import of_coverage
        from limpet.models.tflite import model_graph

        graph = model_graph.read(self._path.read_bytes())
        return of_coverage(self.delegate, self.claimed, self.allocated, graph)

    def close(self) -> None:
        """Let go of the interpreter and of what points into its memory. ``run`` is refused from then on."""
        self.run, self.run_stored = _closed, _closed_stored
        self._forget = None

    def _load(self) -> None:
        quiet_start.hide_greeting(Interpreter)
        interpreter = Interpreter(
            model_path=str(self._path),
            num_threads=self._config.threads,
            experimental_delegates=_delegates(self._choice),
        )
        # Before allocation, which hands what is left to the CPU's own delegate.
        self.claimed = self.allocated = coverage(interpreter)
        self.delegate_share = 1.0 if self._choice.how == "cpu" else self.claimed.share
        key = self._config.signature
        _refuse_signature(key, self._file)
        if key and self._file.signatures[key].subgraph:
            self._bind_signature(interpreter.get_signature_runner(key))
        else:
            self._bind_graph(interpreter)

    def _bind_graph(self, interpreter: Any) -> None:
        """Bind to the first graph, the one that ``invoke`` runs."""
        if self._shapes is not None:
            for (name, details), shape in zip(self._details(interpreter)[0], self._shapes, strict=True):
                _refuse_shape(name, details, shape)
                interpreter.resize_tensor_input(details["index"], shape)
        interpreter.allocate_tensors()
        self._forget = interpreter.reset_all_variables
        self.allocated = coverage(interpreter)
        steady = bindings.steady(interpreter, self.allocated)
        inputs, outputs = self._places(*self._details(interpreter), steady=steady)
        if not steady:
            self._use(bindings.by_copies(interpreter, inputs, outputs))
            return
        binding = bindings.direct(interpreter, inputs, outputs)
        self._use(binding)
        run, run_stored = self.run, self.run_stored

        def settle() -> bool:
            """Look where the memory is after the first run. Return whether what was read is right."""
            if bindings.moved(interpreter, binding):  # Not known to happen; it would corrupt memory.
                self._use(bindings.by_copies(interpreter, inputs, outputs))
                return False
            self.run, self.run_stored = run, run_stored
            return True

        def first(values: Sequence[Array]) -> Sequence[Array]:
            results = run(values)
            return results if settle() else self.run(values)

        def first_stored(values: Sequence[Array], *, real: bool) -> Sequence[Array]:
            results = run_stored(values, real=real)
            return results if settle() else self.run_stored(values, real=real)

        self.run, self.run_stored = first, first_stored

    def _bind_signature(self, runner: Any) -> None:
        """Bind to a signature whose graph is not the first."""
        inputs, outputs = _by_name(runner)
        if self._shapes is not None:
            inputs = [(n, d | {"shape": s}) for (n, d), s in zip(inputs, self._shapes, strict=True)]
        places = self._places(inputs, outputs, steady=False)
        self._use(bindings.by_signature(runner, *places))

    def _details(self, interpreter: Any) -> tuple[list[Named], list[Named]]:
        if self._config.signature:
            return _by_name(interpreter.get_signature_runner(self._config.signature))
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        return [(d["name"], d) for d in inputs], [(d["name"], d) for d in outputs]

    def _places(
        self, inputs: list[Named], outputs: list[Named], *, steady: bool
    ) -> tuple[list[Place], list[Place]]:
        """Return where inputs and outputs are, and keep what they are, with -1 where a size is left open."""
        ins = [bindings.place(name, details, closed=self._shapes is not None) for name, details in inputs]
        closed = steady and not any(-1 in spec.shape for _, spec, _ in ins)
        outs = [bindings.place(name, details, closed=closed) for name, details in outputs]
        self.inputs = tuple(spec for _, spec, _ in ins)
        self.outputs = tuple(spec for _, spec, _ in outs)
        return ins, outs

    def _explain_load(self, error: Exception) -> str:
        """Say why the runtime refuses the model. Ops are named, each once."""
        if isinstance(error, SystemError):  # tflite-runtime 2.14 prints this about numpy 2.
            return f"{package} {version} does not work with numpy {np.__version__}; install 'numpy<2'"
        reason = _first_line(error)
        if "edgetpu-custom-op" in reason:
            return f"{reason}; a model compiled for the Edge TPU needs the delegate 'edgetpu'"
        unknown = self._file.missing_ops
        if unknown and _LACKS_OPS.search(str(error)):
            return f"{package} {version} refuses it: {_lacking(unknown)}"
        needed = self._file.min_runtime_version
        newer = f"; it says that it needs TFLite {needed} or later" if needed else ""
        return f"{package} {version} refuses it: {reason}{newer}"

    def _complain(self, error: Exception, count: int) -> ModelError:
        if count != len(self.inputs):
            return ModelError(f"{self._path.name} takes {len(self.inputs)} inputs, but got {count}")
        return ModelError(f"{self._path.name}: {_first_line(error)}")


def _delegates(choice: Choice) -> list[LibraryDelegate]:
    """Return the delegates that are meant, none for the CPU: the runtime brings its own for that."""
    if choice.how == "cpu":
        return []
    if choice.how != "library":
        raise ModelError(f"delegate {choice.name!r} is not reached through the runtime tflite")
    from limpet.accelerators import delegate_library, inventory

    return [delegate_library.load(choice, inventory.explain)]


def _by_name(runner: Any) -> tuple[list[Named], list[Named]]:
    """Return details of a signature's inputs and outputs in order of their names."""
    return sorted(runner.get_input_details().items()), sorted(runner.get_output_details().items())


def _refuse_shape(name: str, details: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` for a shape that goes against what the model leaves open, if it says so at all."""
    signature = [int(n) for n in details["shape_signature"]]
    wrong = len(shape) != len(signature) or any(s not in {-1, n} for n, s in zip(shape, signature, strict=True))
    if min(shape, default=1) < 1 or (-1 in signature and wrong):
        raise ValueError(f"input {name!r} has shape {signature}, which cannot become {list(shape)}")


def _closed(_: Sequence[Array]) -> Sequence[Array]:
    raise ModelError("the model is closed")


def _closed_stored(inputs: Sequence[Array], *, real: bool) -> Sequence[Array]:  # noqa: ARG001
    return _closed(inputs)


_LACKS_OPS = re.compile("unresolved custom op|Select TensorFlow op")


def _lacking(names: Sequence[str]) -> str:
    flex = [name for name in names if name.startswith("Flex")]
    custom = [name for name in names if name not in flex]
    reasons = []
    if flex:
        reasons.append(
            f"it does not have the TensorFlow ops {', '.join(flex)}; convert the model with TFLITE_BUILTINS only"
        )
    if custom:
        reasons.append(f"it does not have the custom ops {', '.join(custom)}")
    return "; ".join(reasons)


def _first_line(error: Exception) -> str:
    reason = str(error).partition("\n")[0].strip(" .")
    return reason or f"{type(error).__name__} without a reason, as for lack of memory"


ABILITIES = Abilities(describe=describe, package=package, version=version, interpreter=Interpreter, stored=True)
