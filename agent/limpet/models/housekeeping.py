"""What can be deleted of a state directory: bundles beyond the store's budget, and what was unpacked of others.

Never what the configuration names, nor the intact version before it, so that a rollback is possible.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from limpet.device.directories import CACHE, REPORTERS, drivers_cache, models_cache, reporter
from limpet.device.state_files import below
from limpet.errors import LimpetError
from limpet.models import bundle, store
from limpet.updates.state import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from limpet.config import Config

HOUR = 3600.0
"""Seconds for which nothing in the cache is touched: a worker may be about to use it."""

DAMAGED = 30 * 24 * HOUR
"""Seconds for which a damaged outbox is kept for a person to look at; what could be read of it was saved."""

UNCONFIGURED = 30 * 24 * HOUR
"""Seconds for which the folder of a reporter is kept that the configuration does not name any more."""

DRIVERS = 256 * 1024 * 1024
"""Bytes of what drivers of accelerators have compiled: without it a start may take minutes."""


class File(NamedTuple):
    """A file or folder: its size in bytes, its modification in seconds since 1970, and why it may go."""

    path: Path
    size: int
    modified: float
    reason: str


def look(path: Path, reason: str = "") -> File:
    """Measure a file, or a folder with all that is in it. ``FileNotFoundError`` if it is not there any more."""
    status = path.lstat()
    size = status.st_size
    for each in below(path) if path.is_dir() and not path.is_symlink() else ():
        with suppress(OSError):
            size += each.lstat().st_size
    return File(path, size, status.st_mtime, reason)


def _look(paths: Iterable[Path], reason: str = "") -> Iterator[File]:
    """Measure those that are still there: a running daemon deletes, too."""
    for path in sorted(paths):
        with suppress(FileNotFoundError):
            yield look(path, reason)


def needed(wanted: Config) -> set[Path]:
    """Return the model files that the configuration names: of names in the store the two highest intact versions.

    Damaged versions above these are kept for a person to look at. Paths have no links and no ``..``: a path may
    lead into the store by another way.
    """
    found: set[Path] = set()
    for model in _with_all_versions(wanted.models_named):
        candidates = [one.path for one in store.candidates(model, wanted.folders) if not one.problem]
        found.update(_down_to_the_second_sound(candidates))
    return {path.resolve() for path in found}


def _with_all_versions(models: Iterable[str]) -> list[str]:
    """Return models, and beside a single version of a name the name alone: a person may go back to the others."""
    names = [model.partition("@")[0] for model in models if "@" in model and not store.is_path(model)]
    return list(dict.fromkeys([*models, *names]))


def _down_to_the_second_sound(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield bundles until two of them are intact. Where there are only two, nothing has to be read."""
    sound = 0
    for path in paths:
        yield path
        sound += len(paths) <= 2 or _is_sound(path)
        if sound == 2:
            return


def _is_sound(path: Path) -> bool:
    try:
        bundle.examine(path)
    except LimpetError:
        return False
    return True


def links(wanted: Config) -> list[Path]:
    """Return the folders that are symbolic links: nothing is deleted through them."""
    state = wanted.device.state
    cache = state / CACHE
    folders = [
        state / REPORTERS,
        *(reporter(state, name) for name in wanted.reporters),
        state / REQUESTS,
        *([state / "models"] if wanted.device.models is None else []),
        *(cache, cache / "models", cache / "drivers"),
        *(cache / "models" / name for name in wanted.sources),
        *(cache / "drivers" / name for name in wanted.pipelines),
    ]
    return [folder for folder in folders if folder.is_symlink()]


def waste(wanted: Config, now: float) -> Iterator[File]:
    """Yield what can be deleted. ``DeployError``, at last, if a bundle that is needed cannot be read."""
    keep = needed(wanted)
    linked = set(links(wanted))
    # What a link leads to is someone else's.
    yield from (found for found in _waste(wanted, keep, now) if linked.isdisjoint(found.path.parents))


def _waste(wanted: Config, keep: set[Path], now: float) -> Iterator[File]:
    state = wanted.device.state
    # A store elsewhere may be that of others, too, and is theirs to look after.
    if wanted.device.models is None:
        most = wanted.device.models_bytes
        bundles = list(
            _look(wanted.models.glob("*.limpet"), f"the store is over its {most} bytes, and nothing names it")
        )
        yield from beyond(bundles, keep, most)
    for found in _look([*state.glob("*.damaged"), *state.glob(f"{REPORTERS}/*/*.damaged*")], "kept for 30 days"):
        if now - found.modified > DAMAGED:
            yield found
    for found in _look(path for path in (state / REPORTERS).glob("*") if path.name not in wanted.reporters):
        if now - _last_change(found) > UNCONFIGURED:
            yield found._replace(reason="no reporter of that name is configured for 30 days")
    # Not the folders of pipelines and sources: running executors and workers may write into these alone.
    compiled = (path for name in wanted.pipelines for path in below(drivers_cache(state, name)))
    files = [path for path in compiled if path.is_file() and not path.is_symlink()]
    yield from beyond(list(_look(files, f"drivers have compiled more than {DRIVERS} bytes")), (), DRIVERS)
    unpacked = [path for name in wanted.sources for path in models_cache(state, name).glob("*")]
    yield from _stale([*unpacked, *_unused(wanted)], keep | _selected(wanted), now)
    for found in _look((state / REQUESTS).glob(".*.limpet"), "left by an install that was killed"):
        if now - found.modified > HOUR:
            yield found


def _selected(wanted: Config) -> set[Path]:
    """Return the intact bundles that updates have selected. Encrypted ones are unpacked elsewhere."""
    models = [one for selected in wanted.selected.values() for one in selected if one is not None]
    return {one.path for one in models if not one.key and _is_sound(one.path)}


def _last_change(found: File) -> float:
    """Return when a folder or a file in it was last changed, in seconds since 1970."""
    times = [found.modified]
    if found.path.is_dir() and not found.path.is_symlink():
        for each in below(found.path):
            with suppress(OSError):
                times.append(each.lstat().st_mtime)
    return max(times)


def _unused(wanted: Config) -> Iterator[Path]:
    """Yield what is in the cache and belongs to no source or pipeline."""
    cache = wanted.device.state / CACHE
    folders = {"models": wanted.sources.keys(), "drivers": wanted.pipelines.keys()}
    yield from (path for path in cache.glob("*") if path.name not in folders)
    for folder, names in folders.items():
        yield from (path for path in (cache / folder).glob("*") if path.name not in names)


def beyond(bundles: Collection[File], keep: Collection[Path], budget: int) -> Iterator[File]:
    """Yield the oldest files that are not to be kept, until the others are within the budget."""
    excess = sum(one.size for one in bundles) - budget
    for one in sorted(bundles, key=lambda one: one.modified):
        if excess > 0 and one.path.resolve() not in keep:
            excess -= one.size
            yield one


def _stale(cached: Collection[Path], keep: Collection[Path], now: float) -> Iterator[File]:
    """Yield what was unpacked from other bundles, and what was left when an unpacking did not get to its end."""
    hashes = {
        member.sha256
        for path in (keep if cached else ())
        if path.suffix == ".limpet"
        for member in bundle.manifest_of(path).members.values()
    }
    for found in _look(cached, "unpacked from a bundle that nothing names"):
        # A file is named by its hash; Core ML's compiled model, a folder, begins with it.
        begin = re.match(r"[0-9a-f]{64}(?=[.-])", found.path.name)
        if (begin is None or begin[0] not in hashes) and now - found.modified > HOUR:
            yield found
