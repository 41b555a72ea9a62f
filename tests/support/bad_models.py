"""Five bundles that are whole, with models that must not get to a pipeline; and a sound one beside them.

The pipelines in the tests of admission have windows of one number, and want a model that gives it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support import models
from support.bundles import bundle, golden

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[[Path], Path]


def plain(path: Path) -> Path:
    """The number itself."""
    return models.same(path, (1, 1), "float32")


def plus_five(path: Path) -> Path:
    return models.offset(path, size=1)


def vectors(offset: float = 0.0) -> dict[str, Any]:
    """Golden vectors of a model that adds ``offset``."""
    inputs = [[[float(n)]] for n in range(4)]
    outputs = [[[n + offset]] for n in range(4)]
    return {"members": {"golden.npz": golden([inputs], [outputs])}, "golden": "golden.npz"}


def write(folder: Path, name: str, version: int, make: Make, **fields: Any) -> Path:
    """Write a bundle of a model that ``make`` writes, and return it."""
    made = folder / f"{name}-{version}.tflite"
    members = {"model.tflite": make(made).read_bytes(), **fields.pop("members", {})}
    made.unlink()
    decoder = {"decoder": {"kind": "regress"}}
    return bundle(
        folder / f"{name}-{version}.limpet", members, name=name, version=version, **{**decoder, **fields}
    )


def good(folder: Path, version: int = 1, **fields: Any) -> Path:
    """The number itself, with golden vectors."""
    return write(folder, "number", version, plain, **{**vectors(), **fields})


BAD: dict[str, tuple[Make, dict[str, Any]]] = {
    "segfault": (lambda path: models.crashing(path, size=1), {}),
    "hang": (models.endless, {}),
    "memory": (models.hungry, {}),
    "wrong answers": (plus_five, vectors()),
    "wrong shape": (lambda path: models.dense(path, inputs=3, outputs=3, int8=False), {}),
}
"""What is wrong: the model, and fields of its manifest."""


def bad(folder: Path, what: str, version: int) -> Path:
    make, fields = BAD[what]
    return write(folder, "number", version, make, **fields)
