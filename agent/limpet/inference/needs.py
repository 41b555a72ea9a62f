"""What a worker or an executor cannot do without, found out from the configuration before it gives up the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.accelerators.delegate_kinds import KINDS
from limpet.device import directories
from limpet.errors import DeployError
from limpet.isolation.needs import Needs
from limpet.models import store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from limpet.config import Config
    from limpet.contracts.delegate import Choice
    from limpet.contracts.source import SourceNeeds
    from limpet.inference.plan import Configured, PipelinePlan

DEV = Path("/dev")


def of_worker(config: Config, source: Configured) -> Needs:
    """Return what the worker of the one source of a configuration needs. Nothing is opened."""
    (name,) = config.sources
    declared: SourceNeeds = source.module.needs(source.config)
    return Needs(
        _of_inputs(config, source),
        frozenset({directories.models_cache(config.device.state.resolve(), name)}),
        frozenset({DEV}) if declared.devices else frozenset(),
        network=declared.network,
    )


def _of_inputs(config: Config, source: Configured) -> frozenset[Path]:
    """Return what is read to make plans: the files of a source, the store, the models, and what tables name."""
    paths = {config.models, *_paths(source.config), *_named(config, config.base)}
    paths |= {_model(config, pipeline.model) for pipeline in config.pipelines.values()}
    return _with_folders(paths, config)


def of_description(config: Config, source: Configured) -> frozenset[Path]:
    """Return what can be read to find out what a source's samples are: the files that its options name."""
    return _with_folders({*_paths(source.config), *_named(source.config, config.base)}, config)


def of_executor(config: Config, plan: PipelinePlan, choice: Choice) -> Needs:
    """Return what an executor of one model on one delegate needs. Nothing is opened.

    The model has been unpacked by then, so it only reads it. Its source and the other models are not its business.
    """
    bundle = plan.bundle
    files = {bundle.model, *(path for _, path in bundle.variants), *([bundle.golden] if bundle.golden else [])}
    files |= _named(config.pipelines, config.base)
    return _of_delegate(config, plan.name, choice, frozenset(path.resolve() for path in files))


def of_planning(config: Config, name: str, source: Configured, choice: Choice) -> Needs:
    """Return what an executor needs until it knows from the bundle which files it needs, and afterwards."""
    unpacked = directories.models_cache(config.device.state.resolve(), config.pipelines[name].source)
    return _of_delegate(config, name, choice, _of_inputs(config, source) | {unpacked})


def _of_delegate(config: Config, name: str, choice: Choice, files: frozenset[Path]) -> Needs:
    given = {path for text in choice.options.values() if "/" in text for path in [Path(text).absolute()]}
    nodes = {path for path in given if DEV in path.parents}
    return Needs(
        files | _with_folders(_named(choice.libraries, config.base) | given - nodes, config),
        frozenset({directories.drivers_cache(config.device.state.resolve(), name)})
        | _caches(config, choice.options),
        frozenset(nodes.union(*(DEV.parent.glob(pattern[1:]) for pattern in KINDS[choice.kind].devices))),
    )


def not_to_be_run(config: Config, choice: Choice) -> list[Path]:
    """Return files of a delegate that lie where a worker or an executor may write.

    A process that was taken over could put its own code there, and an executor would run it.
    """
    writable = {config.device.state.resolve() / "cache", *_caches(config, choice.options)}
    options = (text for key, text in choice.options.items() if "/" in text and "cache" not in key)
    files = [config.base / text for text in (*choice.libraries, *options) if "/" in text]
    return [path for path in files if not writable.isdisjoint({path.resolve(), *path.resolve().parents})]


def _model(config: Config, model: str) -> Path:
    """Return a model's file; the store where it is not there yet."""
    try:
        return store.find(model, config.base, config.models)
    except DeployError:
        return config.models


def _with_folders(paths: set[Path], config: Config) -> frozenset[Path]:
    return frozenset(beside.resolve() for path in paths for beside in _with_folder(path, config))


def _with_folder(path: Path, config: Config) -> set[Path]:
    """Return a path and its folder, so that a file put in its place by renaming can be read as well.

    The folders of the configuration and of the state may hold secrets, as may those above them: of these only the
    file.
    """
    return {path} if _is_folder(path) or _may_hold_secrets(path.parent, config) else {path, path.parent}


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # it cannot be inspected; the code that opens it reports why
        return False


def _may_hold_secrets(folder: Path, config: Config) -> bool:
    places = (config.base.resolve(), config.device.state.resolve())
    return any(folder.resolve() in {place, *place.parents} for place in places)


def _paths(value: Any) -> set[Path]:
    """Return the paths among the fields of a plugin's ``Config``."""
    return {path for path in msgspec.structs.asdict(value).values() if isinstance(path, Path)}


def _named(value: Any, base: Path) -> set[Path]:
    """Return the files that tables name: a delegate's library, a list of labels."""
    words = {word.partition(":")[2] or word for word in _texts(value)}
    return {path for word in words if "/" in word and (path := base / word).is_file()}


def _caches(config: Config, options: Mapping[str, str]) -> frozenset[Path]:
    """Return the folders in which a delegate's options say that it keeps something, unless others do so, too."""
    paths = {Path(text).resolve() for key, text in options.items() if "cache" in key and "/" in text}
    precious = [path.resolve() for path in (config.base, config.device.state, config.models)]
    folders = {path.parent if path.suffix else path for path in paths}
    return frozenset(folder for folder in folders if not any(folder in {path, *path.parents} for path in precious))


def _texts(value: Any) -> Iterator[str]:
    """Return every text in a tree of structs, tables and lists."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
