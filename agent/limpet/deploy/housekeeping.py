"""What can be deleted of a state directory: bundles beyond the store's budget, and what was unpacked of others.

Never what the configuration names, nor the version before it, so that there is a way back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from limpet.deploy import bundle, store

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from limpet.config import Config

HOUR = 3600.0
"""Seconds for which nothing in the cache is touched: a worker may be about to use it."""

DAMAGED = 30 * 24 * HOUR
"""Seconds for which a damaged outbox is kept for a person to look at; what could be read of it was saved."""


class File(NamedTuple):
    """A file or folder: its size in bytes, its modification in seconds since 1970, and why it may go."""

    path: Path
    size: int
    modified: float
    reason: str


def look(path: Path, reason: str = "") -> File:
    """Measure a file, or a folder with all that is in it."""
    status = path.lstat()
    inside = sum(each.lstat().st_size for each in path.rglob("*")) if path.is_dir() else 0
    return File(path, status.st_size + inside, status.st_mtime, reason)


def needed(wanted: Config) -> set[Path]:
    """Return the model files that the configuration names, of names in the store the two highest versions."""
    versions = store.stored(wanted.models)
    found: set[Path] = set()
    for pipeline in wanted.pipelines.values():
        for name in {pipeline.model, *(rung.model for rung in pipeline.ladder if rung.model)}:
            if name in versions:
                found.update(versions[name][number] for number in sorted(versions[name])[-2:])
            elif (wanted.base / name).is_file():
                found.add(wanted.base / name)
    return found


def waste(wanted: Config, now: float) -> Iterator[File]:
    """Yield what can be deleted. ``DeployError`` if a bundle that is needed cannot be read."""
    keep = needed(wanted)
    # A store elsewhere may be that of others, too, and is theirs to look after.
    if wanted.device.models is None:
        bundles = [look(path) for path in sorted(wanted.models.glob("*.limpet"))]
        yield from beyond(bundles, keep, wanted.device.models_bytes)
    for path in sorted(wanted.device.state.glob("outbox/*.damaged*")):
        found = look(path, "kept for 30 days")
        if now - found.modified > DAMAGED:
            yield found
    yield from _stale(wanted.device.state / "cache", keep, now)


def beyond(bundles: Collection[File], keep: Collection[Path], budget: int) -> Iterator[File]:
    """Yield the oldest bundles that are not to be kept, until the others are within the budget."""
    excess = sum(one.size for one in bundles) - budget
    for one in sorted(bundles, key=lambda one: one.modified):
        if excess > 0 and one.path not in keep:
            excess -= one.size
            yield one._replace(reason=f"the store is over its {budget} bytes, and nothing names it")


def _stale(cache: Path, keep: Collection[Path], now: float) -> Iterator[File]:
    """Yield what was unpacked from other bundles, and what was left when an unpacking did not get to its end."""
    entries = sorted(cache.glob("*"))
    hashes = {
        member.sha256
        for path in (keep if entries else ())
        if path.suffix == ".limpet"
        for member in bundle.manifest_of(path).members.values()
    }
    for path in entries:
        # A file is named by its hash; Core ML's compiled model, a folder, begins with it.
        begin = re.match(r"[0-9a-f]{64}(?=[.-])", path.name)
        found = look(path, "unpacked from a bundle that nothing names")
        if (begin is None or begin[0] not in hashes) and now - found.modified > HOUR:
            yield found
