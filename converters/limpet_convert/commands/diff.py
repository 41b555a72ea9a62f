"""``limpet-convert diff``: how two models differ, in their parts and in their outputs."""

from __future__ import annotations

import zipfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from limpet.contracts.data import fits
from limpet_convert import facts, pairing, runners
from limpet_convert.commands import _shared
from limpet_convert.errors import ConvertError
from limpet_convert.layers import distance

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from limpet.contracts.data import Array, TensorSpec

HELP = "Compare two model files: ops, sizes, quantization and outputs"
GROUP = "look"
EXAMPLES = (
    ("limpet-convert diff motion.onnx build/float.tflite", "Compare on random inputs."),
    ("limpet-convert diff old.tflite new.tflite --inputs windows.npy", "Compare on your own inputs."),
)
SEED = 1
_Part: TypeAlias = "dict[str, Any]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "first", type=Path, metavar="FIRST", help="A model: .tflite, .onnx, .mlpackage, .keras or .pt2."
    )
    parser.add_argument("second", type=Path, metavar="SECOND", help="Another model.")
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="FILE",
        help="Inputs (n, *shape) as .npy, or as .npz by the first model's names. Default: random values.",
    )
    parser.add_argument("--count", type=int, metavar="N", default=8, help="Number of random inputs. Default: 8.")
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the differences. Return 0, whatever they are."""
    for path in (arguments.first, arguments.second):
        if not path.exists():
            raise ConvertError(f"{path}: no such file")
    if arguments.count < 1:
        raise ConvertError(f"--count: {arguments.count} inputs compare nothing")
    parts, outputs = _made_of(arguments.first, arguments.second), _answers(arguments)
    _shared.emit(arguments, {"parts": parts, "outputs": outputs}, _lines(parts, outputs))
    return 0


def _lines(parts: Sequence[_Part], outputs: Sequence[dict[str, Any]]) -> list[str]:
    made_of = [f"{one['name']}: {_text(one['first'])} -> {_text(one['second'])}" for one in parts]
    heading = f"outputs over {outputs[0]['inputs']} inputs:"
    return [*(made_of or ["made of the same parts"]), heading, *map(_said, outputs)]


def _made_of(first: Path, second: Path) -> list[_Part]:
    a, b = facts.read(first), facts.read(second)
    pairs = [(field.name, getattr(a, field.name), getattr(b, field.name)) for field in fields(a)]
    return [
        {"name": name, "first": x, "second": y} for name, x, y in pairs if x != y and (name == "size" or (x and y))
    ]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"


def _answers(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    first, second = (runners.open_model(path) for path in (arguments.first, arguments.second))
    inputs = (
        _given(arguments.inputs, first.inputs)
        if arguments.inputs
        else _random(first.inputs, second.inputs, arguments.count)
    )
    order = pairing.inputs(first.inputs, second.inputs)
    ours = runners.run_all(first, *inputs)
    others = runners.run_all(second, *(inputs[index] for index in order))
    names = [one.name for one in first.outputs], [one.name for one in second.outputs]
    return [{"inputs": len(inputs[0]), **one} for one in _outputs(ours, others, *names)]


def _given(path: Path, wanted: Sequence[TensorSpec]) -> list[Array]:
    """Read the inputs. ``ConvertError`` where a name is missing or they are not of one length."""
    if not path.is_file():
        raise ConvertError(f"{path}: no such file")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ConvertError(f"{path}: neither .npy nor .npz: {error}") from error
    if isinstance(loaded, np.ndarray):
        found = {wanted[0].name: loaded} if len(wanted) == 1 else {}
    else:
        found = {pairing.plain(name): loaded[name] for name in loaded.files}
    names = [one.name if one.name in found else pairing.plain(one.name) for one in wanted]
    if missing := [name for name in names if name not in found]:
        raise ConvertError(
            f"{path}: no array for input {', '.join(missing)}; there is: {', '.join(found) or 'one'}"
        )
    arrays = [np.asarray(found[name], np.float32) for name in names]
    if len({array.shape[:1] for array in arrays}) != 1 or not arrays[0].ndim or not len(arrays[0]):
        raise ConvertError(f"{path}: the inputs must have one first axis, their number, in common")
    return arrays


def _random(first: Sequence[TensorSpec], second: Sequence[TensorSpec], count: int) -> list[Array]:
    """Draw inputs. A size that the first model leaves open is the second's, or 1.

    Whole numbers are 0 and 1: a table in which the model looks them up has at least two rows.
    """
    random = np.random.default_rng(SEED)
    drawn: list[Array] = []
    for one, other in zip(first, (second[index] for index in pairing.inputs(first, second)), strict=True):
        opened = -1 in one.shape and fits([n for n in other.shape if n != -1], one.shape)
        shape = (count, *(1 if n == -1 else n for n in (other if opened else one).shape))
        whole = any(spec.dtype.kind in "iub" and not spec.quantized for spec in (one, other))
        values = random.integers(0, 2, shape) if whole else random.standard_normal(shape)
        drawn.append(values.astype(np.float32))
    return drawn


def _outputs(
    ours: list[Array], others: list[Array], names: list[str], other_names: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield each output of the first model, and how far that of the other one is from it if there is one."""
    for number, (one, index) in enumerate(zip(ours, pairing.outputs(ours, others), strict=True)):
        found: dict[str, Any] = {"first": _named(names, number), "shape": list(one.shape[1:])}
        if index is not None:
            other = others[index].reshape(one.shape)
            found["second"] = _named(other_names, index)
            found["largest"], found["of_spread"] = float(np.abs(one - other).max()), distance(one, other)
        yield found


def _said(output: dict[str, Any]) -> str:
    label = f"  {output['first']} {output['shape']}"
    if "second" not in output:
        return f"{label}: the other has none of its size"
    differ = f"differ by {output['largest']:.3g} at most, {output['of_spread']:.3g} of their spread"
    return f"{label} and {output['second']}: {differ}"


def _named(names: list[str], number: int) -> str:
    """Return an output's number, with its name where the format keeps one."""
    return f"output {number} ({names[number]})" if number < len(names) and names[number] else f"output {number}"
