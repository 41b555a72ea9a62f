"""A trained model to float TFLite: the converter is found by its kind, and the result looked over."""

from __future__ import annotations

import importlib.util
import pkgutil
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet.errors import ConfigError
from limpet.filling import fill
from limpet.wording import suggest
from limpet_convert import converters, foreign, packed, whole_numbers
from limpet_convert.errors import ConvertError
from limpet_convert.jail import Jail
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.data import Array
    from limpet_convert.project import Project


def kinds() -> dict[str, Any]:
    """Return the input converters there are; the heavy packages load when they convert."""
    names = [m.name for m in pkgutil.iter_modules(converters.__path__) if not m.name.startswith("_")]
    modules = {name: importlib.import_module(f"limpet_convert.converters.{name}") for name in names}
    return {name: module for name, module in modules.items() if module.SUFFIXES}


def to_float(project: Project) -> bytes:
    """Return the project's model as float TFLite. ``ConfigError`` or ``ConvertError``.

    Where it is to be Core ML too, what that lacks is an error before the work begins.
    """
    if project.coreml:
        _live(project)
        if importlib.util.find_spec("coremltools") is None:  # To import it takes long, and is for later.
            need("coremltools", "coreml")
    return convert(project.model.path, project.model.kind, project.model.options, project.base)


def live_here(path: Path, kind: str, options: dict[str, Any], base: Path) -> tuple[Any, tuple[int, ...]]:
    """Return a model itself and its input's shape with the batch, to make Core ML of. Opened in this process."""
    module, config = _resolve(path, kind, options, base)
    found: tuple[Any, tuple[int, ...]] = module.live(path, config)
    return found


def coreml(project: Project, table: dict[str, Any], windows: Array, folder: Path) -> Path:
    """Make a Core ML package of the project's model in ``folder``, and return it. ``table`` is ``[coreml]``."""
    model = project.model
    _live(project)
    return coreml_of(model.path, model.kind, model.options, project.base, table, windows, folder)


def coreml_of(  # noqa: PLR0913, PLR0917 - a model, what is to be made of it, and data
    path: Path,
    kind: str,
    options: dict[str, Any],
    base: Path,
    table: dict[str, Any],
    windows: Sequence[Array] | Array,
    folder: Path,
) -> Path:
    """Make a Core ML package of a model in ``folder``, and return it. The model is opened in a sandboxed child."""
    with jailed(path) as jail:
        samples = [packed.pack(one) for one in windows]
        name = jail.call("coreml", str(path), kind or named(path), options, str(base), table, samples)
        made = jail.scratch / Path(str(name)).name
        foreign.refuse_links(made)
        target = folder / made.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target, copy_function=shutil.copyfile)
        return target


def _live(project: Project) -> tuple[Any, Any]:
    module, config = _resolve(project.model.path, project.model.kind, project.model.options, project.base)
    if not module.LIVE:
        raise ConvertError(f"{project.model.path}: Core ML is made from Keras, PyTorch and TFLite models only")
    return module, config


def convert(path: Path, kind: str, options: dict[str, Any], base: Path) -> bytes:
    """Return a model as float TFLite. Default of ``kind``: from the file's name.

    A model that a large library has to read is opened in a sandboxed child.
    """
    module, config = _resolve(path, kind, options, base)
    if not module.IN_JAIL:
        made: bytes = module.convert(path, config)
        return whole_numbers.kept(made)
    with jailed(path) as jail:
        found: bytes = jail.call("convert", str(path.resolve()), kind or named(path), options, str(base))
        return whole_numbers.kept(found)


def convert_here(path: Path, kind: str, options: dict[str, Any], base: Path) -> bytes:
    """Return a model as float TFLite. It is opened in this process: see ``jobs``."""
    module, config = _resolve(path, kind, options, base)
    made: bytes = module.convert(path, config)
    return made


@contextmanager
def jailed(path: Path) -> Iterator[Jail]:
    """Open a child that can read a model. ``ConvertError`` where the model itself is refused first."""
    jail = Jail(foreign.refuse(path))
    try:
        yield jail
    finally:
        jail.close()


def _resolve(path: Path, kind: str, options: dict[str, Any], base: Path) -> tuple[Any, Any]:
    known = kinds()
    if not path.exists():
        raise ConvertError(f"{path}: no such file")
    if kind and kind not in known:
        raise ConfigError([f"model.kind: {kind!r} is not one of the converters{suggest(kind, known)}"])
    chosen = kind or named(path)
    if not chosen:
        raise ConvertError(f"{path}: no converter takes such a file{suggest('', known)}; say model.kind")
    problems: list[str] = []
    config = fill(known[chosen].Config, options, "model.options", base, problems)
    if config is None:
        raise ConfigError(problems)
    return known[chosen], config


def named(path: Path) -> str:
    """Return the kind of converter that a file's name asks for, empty if there is none."""
    return next((name for name, module in kinds().items() if path.suffix in module.SUFFIXES), "")
