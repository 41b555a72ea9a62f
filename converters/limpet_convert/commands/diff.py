"""``limpet-convert diff``: how two models differ, in their parts and in their outputs."""

from __future__ import annotations

import zipfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.data import fits
from limpet_convert import facts, pairing, runners
from limpet_convert.errors import ConvertError
from limpet_convert.layers import distance

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from limpet.contracts.data import Array, TensorSpec

HELP = "Compare two model files: ops, sizes, quantization and outputs"
GROUP = "look"
EXAMPLES = (
    ("limpet-convert diff motion.onnx build/float.tflite", "Compare on random inputs."),
    ("limpet-convert diff old.tflite new.tflite --inputs windows.npy", "Compare on your own inputs."),
)
SEED = 1


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


def main(arguments: argparse.Namespace) -> int:
    """Print the differences. Return 0, whatever they are."""
    for path in (arguments.first, arguments.second):
        if not path.exists():
            raise ConvertError(f"{path}: no such file")
    if arguments.count < 1:
        raise ConvertError(f"--count: {arguments.count} inputs compare nothing")
    print("\n".join([*_made_of(arguments.first, arguments.second), *_answers(arguments)]))
    return 0


def _made_of(first: Path, second: Path) -> list[str]:
    a, b = facts.read(first), facts.read(second)
    pairs = [(field.name, getattr(a, field.name), getattr(b, field.name)) for field in fields(a)]
    return [
        f"{name}: {_text(x)} -> {_text(y)}" for name, x, y in pairs if x != y and (name == "size" or (x and y))
    ] or ["made of the same parts"]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"


def _answers(arguments: argparse.Namespace) -> list[str]:
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
    return [f"outputs over {len(inputs[0])} inputs:", *_outputs(ours, others, *names)]


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
    """Draw inputs; a size that the first model leaves open is the second's, or 1."""
    random = np.random.default_rng(SEED)
    shapes = [
        other.shape if -1 in one.shape and fits([n for n in other.shape if n != -1], one.shape) else one.shape
        for one, other in zip(first, (second[index] for index in pairing.inputs(first, second)), strict=True)
    ]
    return [
        random.standard_normal((count, *(1 if n == -1 else n for n in shape))).astype(np.float32)
        for shape in shapes
    ]


def _outputs(ours: list[Array], others: list[Array], names: list[str], other_names: list[str]) -> list[str]:
    lines = []
    for number, (one, index) in enumerate(zip(ours, pairing.outputs(ours, others), strict=True)):
        label = f"  {_named(names, number)} {list(one.shape[1:])}"
        if index is None:
            lines.append(f"{label}: the other has none of its size")
            continue
        other = others[index].reshape(one.shape)
        largest, share = float(np.abs(one - other).max()), distance(one, other)
        lines.append(
            f"{label} and {_named(other_names, index)}: differ by {largest:.3g} at most, {share:.3g} of their "
            "spread"
        )
    return lines


def _named(names: list[str], number: int) -> str:
    """Return an output's number, with its name where the format keeps one."""
    return f"output {number} ({names[number]})" if number < len(names) and names[number] else f"output {number}"
