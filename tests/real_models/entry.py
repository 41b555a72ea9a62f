"""What a file of ``catalogue/`` lists: models, each with its file, its data and what a project file says of it."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "build/real-models/packages"
"""Where ``make real-models`` installs requirements/real-models.txt, without what these packages depend on."""


class Made(NamedTuple):
    """A model's file in its folder, and its data.

    ``calibration`` and ``test``: ``(n, *shape)`` in the order of axes in which a device has them, channels last.
    ``targets``: a class for each of ``test``. Without it, the float source's own answers are the targets, and
    there is no accuracy. ``inputs``: for a model with several inputs an array ``(n, *shape)`` for each, by name;
    such a model is converted and compared, but gets no project.
    """

    file: Path
    calibration: NDArray[Any] | None = None
    test: NDArray[Any] | None = None
    targets: NDArray[np.integer[Any]] | None = None
    labels: Sequence[str] = ()
    inputs: dict[str, NDArray[Any]] | None = None


class Entry(NamedTuple):
    """A model.

    ``weights``: "trained", "trained here" in a few seconds on real data, or "random". ``options``: the keys of
    ``model.options``. ``decoder``: that of the bundle. Default: ``classify``, or ``tensor`` if a result can hold
    the outputs. ``labels``: those of the decoder. ``coreml``: whether Core ML is tried too.
    """

    name: str
    what: str
    package: str
    licence: str
    weights: str
    data: str
    make: Callable[[Path], Made]
    options: str = "{}"
    decoder: str = ""
    labels: tuple[str, ...] = ()
    coreml: bool = False


def packaged(path: str) -> Path:
    """Return a file of the packages."""
    found = PACKAGES / path
    if not found.exists():
        raise FileNotFoundError(f"{found}: not there. Run: make real-models")
    return found


def module_of(path: str, *without: str) -> Any:
    """Return a module of the packages, run without its imports of some names, which its network does not need."""
    tree = ast.parse(packaged(path).read_text())
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.Import) and node.names[0].name in without)
        and not (isinstance(node, ast.ImportFrom) and node.module in without)
    ]
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(Path(path).stem, None))
    module.__file__ = str(packaged(path))
    exec(compile(tree, path, "exec"), module.__dict__)  # noqa: S102 - code of a locked package
    return module
