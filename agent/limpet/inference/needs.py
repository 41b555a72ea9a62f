"""What a worker or an executor may open: what its plugins declare, its files, and its caches."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.accelerators import delegate_kinds
from limpet.contracts import decoder
from limpet.contracts.runtime import Abilities
from limpet.device import directories
from limpet.errors import ConfigError
from limpet.inference import unpacking
from limpet.inference.resolving import Resolver
from limpet.isolation.permissions import Permissions
from limpet.models.store import leads_to_model
from limpet.plugins import abilities, load, needs_of
from limpet.updates.state import DEPLOYED
from limpet.wording import below

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.assignment import Assignment, Folders, PipelineAssignment
    from limpet.contracts.delegate import Choice
    from limpet.contracts.needs import Needs
    from limpet.inference.plan import PipelinePlan
    from limpet.inference.resolving import Configured
    from limpet.models.bundle import Bundle


_PRIVATE = (Path("/etc"),)
"""Folders with secrets of other programs, beside the user's home."""


def of_worker(assignment: Assignment, source: Configured) -> Permissions:
    """Return what the worker of a cell with one source may open. Nothing is opened.

    ``ConfigError`` if its plugin wants to write where secrets or Limpet's own files are.
    """
    (name,) = assignment.sources
    declared = _declared(name, source)
    return Permissions(
        read=_of_inputs(assignment, source),
        change=unpacking.all_folders(assignment)
        | _learned(assignment)
        | _written(assignment.folders, name, source),
        devices=frozenset(declared.devices),
        endpoints=frozenset(declared.endpoints),
        network=declared.network,
    )


def _learned(assignment: Assignment) -> frozenset[Path]:
    """Return the folders in which pipelines keep what they learn: those whose runtime or decoder declares that.

    A plugin that cannot be imported fails its pipeline when that is planned.
    """
    state = assignment.folders.state.resolve()
    return frozenset(
        directories.learned(state, name)
        for name, pipeline in assignment.pipelines.items()
        if learns(pipeline.model.runtime) or _enrols(pipeline)
    )


def _enrols(pipeline: PipelineAssignment) -> bool:
    """Whether the decoder of a pipeline keeps what is enrolled on the device."""
    kind = pipeline.model.decoder if pipeline.options.decoder is None else pipeline.options.decoder.get("kind")
    if not isinstance(kind, str) or not kind:
        return False
    with suppress(ConfigError):
        return abilities(load("decoders", kind), decoder.Abilities).enrols
    return False


def learns(runtime: str) -> bool:
    """Whether the models of this kind of runtime learn on the device."""
    if not runtime:
        return False
    with suppress(ConfigError):
        return abilities(load("runtimes", runtime), Abilities).learns
    return False


def _of_inputs(assignment: Assignment, source: Configured) -> frozenset[Path]:
    """Return what is read to make plans: the files of a source, the store, the models, and what tables name.

    Models that come by an update later are read, too: a pipeline changes to one without another worker.
    """
    folders = assignment.folders
    (name,) = assignment.sources
    tables = (assignment.sources, assignment.delegates, [one.options for one in assignment.pipelines.values()])
    models = filter(leads_to_model, chain.from_iterable(assignment.models.values()))
    deployed = folders.state / DEPLOYED
    paths = {folders.store, deployed, *models, *_of_source(name, source), *_named(tables, folders.base)}
    return _with_folders(paths, folders)


def of_pipelines(assignment: Assignment) -> frozenset[Path]:
    """Return the files that the pipelines of an assignment read: their models, and what their tables name."""
    pipelines = assignment.pipelines.values()
    files = set(filter(leads_to_model, (one.model.path for one in pipelines)))
    files |= _named([assignment.delegates, [one.options for one in pipelines]], assignment.folders.base)
    return frozenset(path.resolve() for path in files)


def of_candidate(assignment: Assignment, source: Configured) -> Permissions:
    """Return what a process opens to plan a pipeline on a model that it unpacks: no other model, and no device.

    ``ConfigError`` as ``of_description``.
    """
    folders = assignment.folders
    (name,) = assignment.sources
    return Permissions(
        read=of_description(folders, name, source) | of_pipelines(assignment),
        change=unpacking.all_folders(assignment),
    )


def of_description(folders: Folders, name: str, source: Configured) -> frozenset[Path]:
    """Return what can be read to find out what a source's samples are: the files that it names or declares.

    ``ConfigError`` if it declares what it cannot have.
    """
    _written(folders, name, source)
    return _with_folders({*_of_source(name, source), *_named(source.config, folders.base)}, folders)


def of_source(folders: Folders, name: str, source: Configured) -> Permissions:
    """Return what a process that reads a source and runs no model may open. ``ConfigError`` as ``of_worker``."""
    declared = _declared(name, source)
    return Permissions(
        read=of_description(folders, name, source),
        change=_written(folders, name, source),
        devices=frozenset(declared.devices),
        endpoints=frozenset(declared.endpoints),
        network=declared.network,
    )


def _declared(name: str, source: Configured) -> Needs:
    """Return what the plugin of a source declares."""
    try:
        return needs_of(source.module, source.config)
    except ConfigError as error:
        keys = source.config.__struct_encode_fields__
        raise ConfigError([below(f"sources.{name}", problem, keys) for problem in error.problems]) from error


def _of_source(name: str, source: Configured) -> set[Path]:
    """Return the files and folders that a source reads."""
    return {*_paths(source.config), *_declared(name, source).read}


def _written(folders: Folders, name: str, source: Configured) -> frozenset[Path]:
    """Return the folders that a source's plugin writes in."""
    written = frozenset(path.resolve() for path in _declared(name, source).write)
    if precious := sorted(folder for folder in written if _is_precious(folder, folders)):
        raise ConfigError([f"sources.{name}: it writes in {precious[0]}, which holds Limpet's own files"])
    return written


def of_executor(assignment: Assignment, plan: PipelinePlan, choice: Choice) -> Permissions:
    """Return what an executor of one model on one delegate needs. Nothing is opened.

    The model has been unpacked by then, so it only reads it. Its source and the other models are not its business.
    """
    files = set(plan.bundle.files)
    if plan.savings is not None and plan.savings.light is not None:
        files |= plan.savings.light.plan.bundle.files
    files |= _named(assignment.pipelines[plan.name].options, assignment.folders.base)
    return _of_delegate(assignment.folders, plan.name, choice, frozenset(path.resolve() for path in files))


def of_planning(assignment: Assignment, name: str, source: Configured, choice: Choice) -> Permissions:
    """Return what an executor needs until it knows from the bundle which files it needs, and afterwards."""
    unpacked = unpacking.all_folders(assignment)
    return _of_delegate(assignment.folders, name, choice, _of_inputs(assignment, source) | unpacked)


def _of_delegate(folders: Folders, name: str, choice: Choice, files: frozenset[Path]) -> Permissions:
    declared = delegate_kinds.needs(choice)
    return Permissions(
        read=files | _with_folders(_named(choice.libraries, folders.base) | {*declared.read}, folders),
        change=frozenset({directories.drivers_cache(folders.state.resolve(), name)}) | _caches(folders, declared),
        devices=frozenset(declared.devices),
    )


def of_guest_planning(assignment: Assignment, name: str, choices: Sequence[Choice]) -> Permissions:
    """Return what a process needs that loads a model without a source: the model, and its delegates."""
    permissions = Permissions(read=of_pipelines(assignment), change=unpacking.all_folders(assignment))
    for choice in choices:
        permissions = permissions.joined(_of_delegate(assignment.folders, name, choice, frozenset()))
    return permissions


def of_guest(assignment: Assignment, name: str, bundle: Bundle, choices: Sequence[Choice]) -> Permissions:
    """Return what it needs once the model was unpacked."""
    permissions = Permissions(read=frozenset(path.resolve() for path in bundle.files))
    for choice in choices:
        permissions = permissions.joined(_of_delegate(assignment.folders, name, choice, frozenset()))
    return permissions


def not_to_be_run(assignment: Assignment, choice: Choice) -> list[Path]:
    """Return files of a delegate that are where a worker or an executor may write.

    A process that was taken over could put its own code there, and an executor would run it.
    """
    declared = delegate_kinds.needs(choice)
    folders = assignment.folders
    writable = {folders.state.resolve() / "cache", *_caches(folders, declared), *_written_by_sources(assignment)}
    options = (text for key, text in choice.options.items() if "/" in text and "cache" not in key)
    files = [folders.base / text for text in (*choice.libraries, *options) if "/" in text]
    return [path for path in files if not writable.isdisjoint({path.resolve(), *path.resolve().parents})]


def _written_by_sources(assignment: Assignment) -> set[Path]:
    """Return the folders that the plugins of sources write in. Sources with bad options are left out."""
    written: set[Path] = set()
    for name, table in assignment.sources.items():
        with suppress(ConfigError):
            source = Resolver(assignment.folders.base, []).plugin("sources", table.kind, table.options, "")
            written |= _written(assignment.folders, name, source) if source else set()
    return written


def _with_folders(paths: set[Path], folders: Folders) -> frozenset[Path]:
    return frozenset(beside.resolve() for path in paths for beside in _with_folder(path, folders))


def _with_folder(path: Path, folders: Folders) -> set[Path]:
    """Return a path and its folder, so that a file put in its place by renaming can be read as well.

    Folders that may hold secrets stay closed: those of the configuration and of the state, the user's home, /etc,
    and those above them.
    """
    return {path} if _is_folder(path) or _may_hold_secrets(path.parent, folders) else {path, path.parent}


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # it cannot be inspected; the code that opens it reports why
        return False


def _may_hold_secrets(folder: Path, folders: Folders) -> bool:
    places = (
        folders.base.resolve(),
        folders.state.resolve(),
        Path(os.environ.get("HOME") or "/").resolve(),
        *_PRIVATE,
    )
    return any(folder.resolve() in {place, *place.parents} for place in places)


def _paths(value: Any) -> set[Path]:
    """Return the paths in a plugin's ``Config``, also those in lists and tables."""
    return {leaf for leaf in _leaves(value) if isinstance(leaf, Path)}


def _named(value: Any, base: Path) -> set[Path]:
    """Return the files that tables name: a delegate's library, a list of labels."""
    words = {word.partition(":")[2] or word for word in _leaves(value) if isinstance(word, str)}
    return {path for word in words if "/" in word and (path := base / word).is_file()}


def _caches(folders: Folders, declared: Needs) -> frozenset[Path]:
    """Return the folders in which a delegate keeps something, unless others do so, too."""
    caches = frozenset(path.resolve() for path in declared.write)
    return frozenset(folder for folder in caches if not _is_precious(folder, folders))


def _is_precious(folder: Path, folders: Folders) -> bool:
    """Whether the configuration, the state or the store is in a folder, or the folder in the state."""
    state = folders.state.resolve()
    places = (folders.base.resolve(), state, folders.store.resolve())
    return any(folder in {place, *place.parents} for place in places) or state in folder.parents


def _leaves(value: Any) -> Iterator[Any]:
    """Yield everything in a tree of structs, tables and lists."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        yield value
        return
    for inner in value:
        yield from _leaves(inner)
