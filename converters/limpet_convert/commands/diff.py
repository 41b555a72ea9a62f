"""``limpet-convert diff``: how two models differ, in what they are made of and in what they answer."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limpet_convert import facts, runners
from limpet_convert.errors import ConvertError
from limpet_convert.layers import distance

if TYPE_CHECKING:
    import argparse

    from limpet.types import Array, TensorSpec

HELP = "compare two model files of any format: ops, sizes, quantization, and their outputs on the same inputs"
SEED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("first", type=Path, help="a model: .tflite, .onnx, .mlpackage, .keras or .pt2")
    parser.add_argument("second", type=Path, help="another")
    parser.add_argument(
        "--inputs", type=Path, metavar="NPY", help="inputs (n, *shape); by default random normal ones"
    )
    parser.add_argument("--count", type=int, default=8, help="how many random inputs")


def main(arguments: argparse.Namespace) -> int:
    """Print the differences; return 0 whatever they are."""
    for path in (arguments.first, arguments.second):
        if not path.exists():
            raise ConvertError(f"{path}: no such file")
    print("\n".join([*_made_of(arguments.first, arguments.second), *_answers(arguments)]))
    return 0


def _made_of(first: Path, second: Path) -> list[str]:
    if first.suffix != ".tflite" or second.suffix != ".tflite":
        sizes = [_size(path) for path in (first, second)]
        return [f"size: {sizes[0]:,} B -> {sizes[1]:,} B ({sizes[1] / sizes[0]:.3f})"]
    a, b = facts.read(first), facts.read(second)
    pairs = [(field.name, getattr(a, field.name), getattr(b, field.name)) for field in fields(a)]
    return [f"{name}: {x} -> {y}" for name, x, y in pairs if x != y] or ["made of the same parts"]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def _answers(arguments: argparse.Namespace) -> list[str]:
    models = [runners.open_model(path) for path in (arguments.first, arguments.second)]
    if len(models[0].inputs) != 1 or len(models[1].inputs) != 1:
        raise ConvertError("only models with one input can be compared by their answers")
    inputs = np.load(arguments.inputs) if arguments.inputs else _random(models[0].inputs[0], arguments.count)
    ours, others = (runners.run_all(model, inputs) for model in models)
    return [f"outputs over {len(inputs)} inputs:", *_pairs(ours, others)]


def _random(spec: TensorSpec, count: int) -> Array:
    shape = [1 if n == -1 else n for n in spec.shape]
    return np.random.default_rng(SEED).standard_normal((count, *shape)).astype(np.float32)


def _pairs(ours: list[Array], others: list[Array]) -> list[str]:
    """Pair outputs that lie nearest: formats name and order them as they like."""
    lines, left = [], dict(enumerate(others))
    for number, one in enumerate(ours):
        near = {i: distance(np.ravel(one), np.ravel(o)) for i, o in left.items() if o.size == one.size}
        if not near:
            lines.append(f"  output {number} {list(one.shape[1:])}: the other has none of its size")
            continue
        best = min(near, key=lambda i: near[i])
        other = left.pop(best).reshape(one.shape)
        largest = float(np.abs(one - other).max())
        lines.append(
            f"  output {number} {list(one.shape[1:])}, {best}: differ by {largest:.3g} at most, {near[best]:.3g} "
            "of their spread"
        )
    return lines
