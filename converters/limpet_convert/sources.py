"""A trained model to float TFLite: the converter is found by its kind, and the result looked over."""

from __future__ import annotations

import importlib.util
import math
import pkgutil
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet import plugins
from limpet.contracts.data import TensorSpec, fits
from limpet.contracts.stage import Spec
from limpet.errors import ConfigError
from limpet.filling import fill
from limpet.wording import suggest
from limpet_convert import converters, foreign, packed
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph
from limpet_convert.jail import Jail
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.data import Array
    from limpet_convert.project import Bundle, Project


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
        return made
    with jailed(path) as jail:
        found: bytes = jail.call("convert", str(path.resolve()), kind or named(path), options, str(base))
        return found


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


def refuse_misfit(model: bytes, inputs: Array, bundle: Bundle) -> None:
    """Raise ``ConvertError`` for what would be found out only hours later: shapes, channel order, labels."""
    graph = Graph(model)
    tensors = graph.subgraph.tensors
    if len(graph.inputs) != 1:
        names = ", ".join(graph.names[index] for index in graph.inputs)
        raise ConvertError(
            f"the model has {len(graph.inputs)} inputs ({names}); a pipeline feeds it one window: join them into"
            " one and slice it in the model's first layer"
        )
    shape = [int(n) for n in tensors[graph.inputs[0]].shape]
    window = list(inputs.shape[1:])
    if shape and shape[0] > 1 and fits(window, shape[1:]):
        raise ConvertError(
            f"the model's input has shape {shape}, a batch of {shape[0]}. Export it with a batch of 1: a device"
            " runs one window at a time"
        )
    if not fits(window, shape):
        moved = [n for n in shape if n != 1]
        have = [n for n in window if n != 1]
        order = ""
        if sorted(moved) == sorted(have):
            order = '. The sizes are the same in another order. Set model.options.layout to "channels_last" if the'
            order += ' model has the channels first, and to "as_is" if it has them last'
        raise ConvertError(
            f"the model's input has shape {shape}, but the source, window and transforms give {window}{order}"
        )
    if bundle.task == "classify":
        outputs = math.prod(int(n) for n in tensors[graph.outputs[0]].shape)
        if outputs != len(bundle.labels):
            raise ConvertError(
                f"bundle.labels: {len(bundle.labels)} labels for {outputs} outputs of the model; one for each, in "
                "their order"
            )
    _refuse_undecodable(graph, bundle)


def _refuse_undecodable(graph: Graph, bundle: Bundle) -> None:
    """Raise ``ConvertError`` where the decoder does not take such outputs: no device would run the bundle."""
    if not bundle.decoder:
        return
    module = plugins.load("decoders", str(bundle.decoder.get("kind")))
    problems: list[str] = []
    options = {key: value for key, value in bundle.decoder.items() if key != "kind"}
    config = fill(module.Config, options, "bundle.decoder", Path(), problems)
    if config is None:
        raise ConfigError(problems)
    shapes = [(index, tuple(int(n) for n in graph.subgraph.tensors[index].shape)) for index in graph.outputs]
    outputs = tuple(TensorSpec(graph.names[i], shape, np.dtype(np.float32)) for i, shape in shapes)
    shape = outputs[0].shape if outputs else ()
    try:
        module.open(
            config, Spec(shape=shape, dtype=np.dtype(np.float32), outputs=outputs, labels=tuple(bundle.labels))
        )
    except ValueError as error:
        raise ConvertError(f"bundle.decoder: {error}") from error
