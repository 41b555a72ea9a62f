"""A saved ML program, executed op by op with numpy.

Every op computes in float32, and its result is then rounded to its type in the program. So a program in float16
loses the precision that storing every intermediate result in float16 loses. The way in which Apple's hardware
accumulates inside an op is unknown and not imitated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from limpet.contracts.data import fits
from limpet.errors import ModelError
from limpet.models.coreml import specification
from limpet_convert.mil import elementwise, layers, pooling, quantized, recurrent, resizing, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from limpet.contracts.data import Array, TensorSpec
    from limpet_convert.mil.elementwise import Kernel

Values: TypeAlias = "dict[Any, Any]"
"""What each variable of the program has come to."""

OPS: dict[str, Kernel] = {
    name: kernel
    for family in (elementwise, layers, pooling, quantized, recurrent, resizing, shapes)
    for name, kernel in family.OPS.items()
}
"""The ops there are, by MIL's names; each takes what MIL's op takes, by the same names."""

_FLOW = frozenset({"cond", "while_loop", "classify", "read_state", "coreml_update_state"})
_LAYOUTS = {"RGB": [0, 1, 2], "BGR": [2, 1, 0]}


@dataclass(frozen=True, slots=True)
class Step:
    """One op as it ran: the name of its first output, its kind as MIL has it, and what that output came to."""

    name: str
    kind: str
    output: Array


class Program:
    """An ML program of a ``.mlpackage``. ``inputs``, ``outputs`` and ``labels`` are as the package describes them.

    ``ModelError`` names every op that this executor lacks, with its layer.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]

    def __init__(self, path: Path, function: str = "main") -> None:
        self._path = path
        self._description = specification.read(path)
        self.inputs = tuple(feature.spec for feature in self._description.inputs)
        self.outputs = tuple(feature.spec for feature in self._description.outputs)
        self.labels = self._description.labels
        self._function = _load(path, function)
        if missing := sorted(set(_missing(self._function))):
            raise ModelError(f"{path.name}: the numpy executor lacks {', '.join(missing)}; verify it on macOS")
        self._constants: Values = {}
        self._state: dict[str, Array] = {}

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once; float32 outputs in the package's order. An image is uint8 RGB, (height, width, 3).

        ``ModelError`` where the inputs do not fit or the program cannot be run on them.
        """
        values = self._feed(inputs)
        for _ in self._block(self._function, values):
            pass
        return self._fetch(values)

    def trace(self, inputs: Sequence[Array]) -> Iterator[Step]:
        """Run once, yielding each op's result in the order of execution."""
        return self._block(self._function, self._feed(inputs))

    def reset(self) -> None:
        """Forget what earlier runs left in the program's states."""
        self._state.clear()

    def kinds(self) -> list[str]:
        """Return the kind of each op."""
        return [op.op_type for op in self._function.operations if not op.op_type.startswith("const")]

    def concatenations(self) -> list[list[str]]:
        """Return, for each concatenation, the names of what goes in and of what comes out."""
        joins = (op for op in self._function.operations if op.op_type == "concat")
        return [[variable.name for variable in (*op.values, op.outputs[0])] for op in joins]

    def _feed(self, inputs: Sequence[Array]) -> Values:
        if len(inputs) != len(self.inputs):
            raise ModelError(f"{self._path.name} takes {len(self.inputs)} inputs, got {len(inputs)}")
        values: Values = {}
        for feature, array in zip(self._description.inputs, inputs, strict=True):
            if not fits(array.shape, feature.spec.shape):
                raise ModelError(
                    f"{self._path.name}: input {feature.spec.name!r} has shape {list(feature.spec.shape)}, "
                    f"but got {list(array.shape)}"
                )
            variable = self._function.inputs[feature.spec.name]
            shaped = _planes(array, feature.layout) if feature.layout else _like(array, variable.shape)
            values[variable] = _stated(shaped, variable)
        return values

    def _fetch(self, values: Values) -> list[Array]:
        found = {variable.name: self._value(variable, values) for variable in self._function.outputs}
        return [np.asarray(found[feature.spec.name]) for feature in self._description.outputs]

    def _block(self, block: Any, values: Values) -> Iterator[Step]:
        """Run a block's ops; ``values`` gets their results."""
        for op in block.operations:
            if op.op_type.startswith("const"):
                continue
            try:
                with np.errstate(all="ignore"):  # Infinities and NaN are results like others.
                    results = self._step(op, values)
            except (ValueError, IndexError, TypeError, KeyError) as error:
                raise ModelError(f"{self._path.name}: {op.op_type} {op.name!r}: {error}") from error
            for variable, result in zip(op.outputs, results, strict=True):
                values[variable] = _stated(result, variable)
            if op.outputs and isinstance(values[op.outputs[0]], np.ndarray):
                yield Step(op.outputs[0].name, op.op_type, values[op.outputs[0]])

    def _step(self, op: Any, values: Values) -> Sequence[Any]:
        if op.op_type in _FLOW:
            return self._flow(op, values)
        arguments = {name: self._value(variable, values) for name, variable in op.inputs.items()}
        results = OPS[op.op_type](**{name: value for name, value in arguments.items() if value is not None})
        return results if isinstance(results, (tuple, list)) else [results]

    def _value(self, variable: Any, values: Values) -> Any:
        """Return what a variable, or each of a tuple of them, has come to; constants once unpacked stay."""
        if isinstance(variable, (tuple, list)):
            return [self._value(one, values) for one in variable]
        if variable is None:
            return None
        if variable in values:
            return _wide(values[variable])
        if variable not in self._constants:
            packed = variable.op.op_type.startswith("constexpr_")
            self._constants[variable] = _wide(variable.op.materialized_val_inference() if packed else variable.val)
        return self._constants[variable]

    def _flow(self, op: Any, values: Values) -> Sequence[Any]:
        """Run an op that is more than a function of its inputs."""
        if op.op_type == "cond":
            chosen = op.blocks[0 if bool(self._value(op.pred, values)) else 1]
            return self._nested(chosen, values)
        if op.op_type == "while_loop":
            return self._loop(op, values)
        if op.op_type == "classify":
            scores = self._value(op.probabilities, values).reshape(-1)
            return [str(self.labels[int(scores.argmax())]), scores]
        if op.op_type == "read_state":
            return [self._read_state(op.input)]
        self._state[op.state.name] = _stated(self._value(op.value, values), op.outputs[0])
        return [self._state[op.state.name]]

    def _read_state(self, variable: Any) -> Array:
        return self._state.setdefault(variable.name, np.zeros(variable.shape, np.float32))

    def _nested(self, block: Any, values: Values) -> list[Any]:
        for _ in self._block(block, values):
            pass
        return [self._value(output, values) for output in block.outputs]

    def _loop(self, op: Any, values: Values) -> list[Any]:
        condition, body = op.blocks
        current = [self._value(variable, values) for variable in op.loop_vars]
        while True:
            values.update(zip(condition.inputs, current, strict=True))
            if not bool(self._nested(condition, values)[0]):
                return current
            values.update(zip(body.inputs, current, strict=True))
            current = self._nested(body, values)


def open_model(path: Path) -> Program:
    """Load a package to run its main function. See ``Program``."""
    return Program(path)


def _load(path: Path, function: str) -> Any:
    """Return a function of the program as coremltools parses it."""
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = specification.load_spec(path)
    if spec.WhichOneof("Type") != "mlProgram":
        raise ModelError(f"{path.name} is a {spec.WhichOneof('Type')}; only an ML program can be executed here")
    weights = path / "Data" / "com.apple.CoreML" / "weights"
    try:
        program = load(spec, specification_version=spec.specificationVersion, file_weights_dir=str(weights))
        return program.functions[function]
    except (ValueError, KeyError, AssertionError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path.name}: coremltools cannot read the program: {error}") from error


def _missing(block: Any) -> Iterator[str]:
    for op in block.operations:
        if op.op_type not in OPS and op.op_type not in _FLOW and not op.op_type.startswith("const"):
            yield f"{op.op_type!r} (layer {op.name!r})"
        for nested in op.blocks:
            yield from _missing(nested)


def _planes(image: Array, layout: str) -> Array:
    """Return an image (height, width, 3), or grey (height, width), as (1, channels, height, width)."""
    if layout == "GRAYSCALE":
        return image.reshape(1, 1, *image.shape[:2])
    return image.reshape(image.shape[-3:])[..., _LAYOUTS[layout]].transpose(2, 0, 1)[None]


def _like(values: Array, shape: Sequence[Any]) -> Array:
    """Return the array with the 1s of ``shape``; sizes that the program leaves open are symbols, not integers."""
    sizes = [n if isinstance(n, int) else -1 for n in shape]
    same = len(sizes) == values.ndim and all(size in (-1, n) for size, n in zip(sizes, values.shape, strict=True))
    return values if same else values.reshape(sizes)


def _stated(result: Any, variable: Any) -> Any:
    """Round a result to the type that the program states for it."""
    if isinstance(result, str) or variable.dtype is None:
        return result
    from coremltools.converters.mil.mil import types

    if types.is_dict(variable.sym_type) or not hasattr(variable, "dtype"):
        return np.asarray(result, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(result).astype(types.nptype_from_builtin(variable.dtype), copy=False)


def _wide(value: Any) -> Any:
    """Return float16 as float32, which computes exactly what float16 holds, and faster."""
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype == np.float16:
        return value.astype(np.float32)
    return value
