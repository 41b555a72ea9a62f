"""Core ML models (``.mlpackage``, ``.mlmodel``) on Apple's CPU, GPU and Neural Engine. macOS only.

What needs no Mac (the model's inputs, outputs and labels) stands in ``limpet.models.coreml.specification``.
What stands here is written from the documentation of coremltools 9.
It has not yet run on a Mac: docs/how-to/make-a-core-ml-package.md.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec.structs import replace

from limpet.contracts.data import fits
from limpet.contracts.delegate import CPU
from limpet.contracts.runtime import Abilities
from limpet.errors import ModelError
from limpet.models.coreml import specification
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.data import Array, FloatArray, TensorSpec
    from limpet.contracts.delegate import Choice
    from limpet.models.coreml.specification import Feature

UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE"}
"""Compute units by delegate. Core ML always keeps the CPU beside them, so the plan has to say who runs what."""

_DEVICES = {"MLCPUComputeDevice": "cpu", "MLGPUComputeDevice": "gpu", "MLNeuralEngineComputeDevice": "ane"}


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Core ML, on macOS."""

    cache: Path | None = None
    """Folder for compiled models. Default: beside the model. Example: `"coreml-cache"`."""
    function: str = ""
    """Function of a package that has several. Default: the package's own default. Example: `"main"`."""


def check(path: Path, delegates: Sequence[str]) -> list[str]:
    """Return why a model cannot be run here on some of the delegates, nothing if it can; loads nothing."""
    problems = [
        f"delegate {name!r} is none of Core ML's{suggest(name, UNITS)}" for name in delegates if name not in UNITS
    ]
    if platform.system() != "Darwin":
        return [*problems, _needs_macos(path)]
    needed = specification.read(path).macos
    if _numbers(needed) > _numbers(platform.mac_ver()[0]):
        problems.append(f"{path.name} needs macOS {needed}; this is {platform.mac_ver()[0]}")
    return problems


@dataclass(frozen=True, slots=True)
class OpPlan:
    """An op, the processor that Core ML means to run it on, and its estimated share of the whole cost."""

    name: str
    device: str
    cost: float


@contextmanager
def open(
    path: Path, config: Config, delegate: Choice = CPU, shapes: Sequence[tuple[int, ...]] | None = None
) -> Iterator[CoreMLModel]:
    """Compile a model, unless that was done before, and load it on one of Apple's processors.

    ``shapes``: one an input, each within what the model leaves open. ``ModelError`` says why that cannot be,
    at once where this is no Mac.
    """
    if problems := check(path, [delegate.name]):
        raise ModelError("; ".join(problems))
    model = CoreMLModel(path, config, delegate.name, shapes)
    try:
        yield model
    finally:
        model.close()


class CoreMLModel:
    """A loaded model. ``plan`` is Core ML's own, empty on the CPU; ``delegate_share`` follows from it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    delegate_share: float

    def __init__(
        self, path: Path, config: Config, delegate: str, shapes: Sequence[tuple[int, ...]] | None
    ) -> None:
        coremltools = specification.library()
        self._path, self.delegate = path, delegate
        self._description = specification.read(path)
        self.inputs = _closed(self._description.inputs, shapes, path.name)
        self.outputs = tuple(feature.spec for feature in self._description.outputs)
        units = getattr(coremltools.ComputeUnit, UNITS[delegate])
        try:
            compiled = compile_once(coremltools, path, config.cache or path.parent)
            self._model: Any = coremltools.models.CompiledMLModel(str(compiled), units, config.function or None)
            self.plan = () if delegate == "cpu" else _plan(compiled, units)
        except Exception as error:  # coremltools raises Exception itself, and Core ML's errors as RuntimeError
            raise ModelError(f"{path.name}: Core ML refuses it on {delegate!r}: {_first_line(error)}") from error
        self.delegate_share = 1.0 if delegate == "cpu" else share(self.plan, delegate)
        if not self.delegate_share:
            raise ModelError(f"{path.name}: Core ML would run nothing of it on {delegate!r}")
        self.reset()

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once. An image is uint8 RGB of shape (height, width, 3); scores come in the order of the labels.

        ``ModelError`` where an input does not fit or Core ML fails.
        """
        if self._model is None:
            raise ModelError("the model is closed")
        encoded = encode(self._description.inputs, self.inputs, inputs, self._path.name)
        try:
            found = self._model.predict(encoded, self._state)
        except Exception as error:  # as above
            raise ModelError(f"{self._path.name}: {_first_line(error)}") from error
        return decode(self._description.outputs, self._description.labels, found)

    @property
    def placement(self) -> None:
        """Unknown: Core ML's plan has shares of cost, not ops."""

    def absorb(self, byte_values: FloatArray) -> bool:  # noqa: ARG002
        """Return False: Core ML takes pictures as they are."""
        return False

    def close(self) -> None:
        """Let go of the model. ``run`` is refused from then on."""
        self._model = None

    def reset(self) -> None:
        """Start with new state, for a model that has any."""
        self._state = self._model.make_state() if self._description.stateful else None


def encode(
    features: Sequence[Feature], specs: Sequence[TensorSpec], inputs: Sequence[Array], name: str
) -> dict[str, Any]:
    """Return inputs as Core ML takes them: images as pictures of Pillow's, arrays in the model's dtype.

    ``ModelError`` where one does not fit.
    """
    if len(inputs) != len(specs):
        raise ModelError(f"{name}: takes {len(specs)} inputs, got {len(inputs)}")
    encoded: dict[str, Any] = {}
    for feature, spec, values in zip(features, specs, inputs, strict=True):
        if not fits(values.shape, spec.shape):
            raise ModelError(
                f"{name}: input {spec.name!r} has shape {list(spec.shape)}, but got {list(values.shape)}"
            )
        encoded[spec.name] = _picture(values, feature) if feature.layout else _array(values, spec)
    return encoded


def decode(features: Sequence[Feature], labels: Sequence[str], found: dict[str, Any]) -> list[Array]:
    """Return outputs as arrays of float32, a classifier's scores in the order of ``labels``."""
    return [
        _scores(found[feature.spec.name], labels)
        if feature.scores
        else np.asarray(found[feature.spec.name], np.float32)
        for feature in features
    ]


def _scores(scores: dict[Any, float], labels: Sequence[str]) -> Array:
    """Core ML's mapping has strings or integers for keys, as the model has them."""
    by_name = {str(label): score for label, score in scores.items()}
    return np.array([by_name[label] for label in labels or by_name], np.float32)


def _array(values: Array, spec: TensorSpec) -> Array:
    same = values.ndim == len(spec.shape) and all(
        size in (-1, n) for size, n in zip(spec.shape, values.shape, strict=True)
    )
    return np.ascontiguousarray(values if same else values.reshape(spec.shape), spec.dtype)


def _picture(values: Array, feature: Feature) -> Any:
    """Return a picture; Core ML itself turns RGB into the layout that the model wants."""
    try:
        picture = importlib.import_module("PIL.Image")
    except ModuleNotFoundError as error:
        raise ModelError("Core ML takes images as Pillow has them: pip install 'limpet[coreml]'") from error
    pixels = np.clip(values.reshape(feature.spec.shape), 0, 255)
    return picture.fromarray(pixels.astype(np.uint8))


def _closed(features: Sequence[Feature], shapes: Sequence[Any] | None, name: str) -> tuple[TensorSpec, ...]:
    """Return the inputs with the sizes that ``shapes`` gives to what the model leaves open."""
    specs = tuple(feature.spec for feature in features)
    if shapes is None:
        return specs
    if len(shapes) != len(specs) or not all(
        fits(shape, spec.shape) for shape, spec in zip(shapes, specs, strict=True)
    ):
        raise ModelError(f"{name}: shapes {[list(s) for s in shapes]} do not fit {[list(s.shape) for s in specs]}")
    return tuple(replace(spec, shape=tuple(shape)) for spec, shape in zip(specs, shapes, strict=True))


def compile_once(coremltools: Any, path: Path, cache: Path) -> Path:
    """Return the compiled model, made on the first call: Core ML takes seconds to minutes for one.

    Its name depends on the model and on the system, so a new model or system is compiled again.
    """
    target = cache / f"{path.stem}-{_fingerprint(path, coremltools.__version__)}.mlmodelc"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        fresh = Path(scratch) / target.name
        coremltools.utils.compile_model(str(path), str(fresh))
        try:
            fresh.rename(target)
        except OSError:  # Another worker was faster.
            shutil.rmtree(fresh, ignore_errors=True)
    return target


def _fingerprint(path: Path, version: str) -> str:
    """Return 16 hexadecimal digits of a hash of the model's files and of what compiles them."""
    digest = hashlib.sha256(f"{platform.mac_ver()[0]} {platform.machine()} {version}".encode())
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        digest.update(os.fsencode(file.relative_to(path.parent)) + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _plan(compiled: Path, units: Any) -> tuple[OpPlan, ...]:
    """Return who is to run which op by Core ML's compute plan."""
    from coremltools.models.compute_plan import MLComputePlan

    plan = MLComputePlan.load_from_path(str(compiled), units)
    program, network = plan.model_structure.program, plan.model_structure.neuralnetwork
    if program is not None:
        operations = [op for function in program.functions.values() for op in function.block.operations]
        usage, cost = (
            plan.get_compute_device_usage_for_mlprogram_operation,
            plan.get_estimated_cost_for_mlprogram_operation,
        )
        found = [(op.operator_name, usage(op), cost(op)) for op in operations]
    else:
        layers = network.layers if network is not None else []
        usage = plan.get_compute_device_usage_for_neuralnetwork_layer
        found = [(layer.type, usage(layer), None) for layer in layers]
    # Constants run nowhere: there is no usage for them.
    return tuple(
        OpPlan(name, _device(usage), 0.0 if cost is None else float(cost.weight))
        for name, usage, cost in found
        if usage is not None
    )


def share(plan: Sequence[OpPlan], delegate: str) -> float:
    """Return the share of the estimated cost that is on a delegate, of the ops where no cost is known.

    0 where there is no plan at all: then nothing is proven.
    """
    whole = sum(op.cost for op in plan)
    if whole:
        return sum(op.cost for op in plan if op.device == delegate) / whole
    return sum(op.device == delegate for op in plan) / len(plan) if plan else 0.0


def _device(usage: Any) -> str:
    return _DEVICES.get(type(usage.preferred_compute_device).__name__, "cpu")


def _needs_macos(path: Path) -> str:
    return f"{path.name} is a Core ML model, which needs macOS; give this device the model's .tflite variant"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip() or type(error).__name__


ABILITIES = Abilities(check=check)
