"""Whether a device is one that a model was made for. ``problems`` decides, without I/O."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from limpet import __version__
from limpet.device.system_files import MB, SystemFiles
from limpet.wording import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from limpet.models.manifest import Requires, VersionRange

RUNTIMES = ("ai-edge-litert", "tflite-runtime", "coremltools")
"""Packages whose versions a manifest can name."""


class Facts(NamedTuple):
    """A device. ``runtimes``: versions of packages. ``memory_bytes`` is ``None`` if the system does not say it."""

    arch: str
    limpet: str
    runtimes: Mapping[str, str]
    memory_bytes: int | None


def facts(requires: Requires) -> Facts:
    """Return what is to be known of this device for what a model requires."""
    total = SystemFiles().megabytes("proc/meminfo", "MemTotal") if requires.memory_bytes else None
    memory = None if total is None else int(total * MB)
    return Facts(os.uname().machine, __version__, _installed(requires.runtimes), memory)


def problems(requires: Requires, device: Facts, delegates: Collection[str] = ()) -> list[str]:
    """Return a sentence for each thing that does not fit. ``delegates``: those of the pipeline, if known."""
    found = []
    if requires.arch and device.arch not in requires.arch:
        found.append(f"it is for {listed(requires.arch)}; this device is {device.arch}")
    if not _is_in(device.limpet, requires.limpet):
        found.append(f"it needs limpet {_range(requires.limpet)}; this is {device.limpet}")
    if requires.runtimes and not _any_installed(requires.runtimes, device.runtimes):
        wanted = " or ".join(
            f"{name} {_range(one)}".strip() for name, one in sorted(requires.runtimes.items())[:5]
        )
        there = listed([f"{name} {version}" for name, version in device.runtimes.items()]) or "none of them"
        found.append(f"it needs {wanted}; this device has {there}")
    if delegates and (lacking := delegate_problem(requires, delegates)):
        found.append(lacking)
    if device.memory_bytes is not None and device.memory_bytes < requires.memory_bytes:
        needed, there = (f"{one / 1e6:.0f} MB" for one in (requires.memory_bytes, device.memory_bytes))
        found.append(f"it needs {needed} of memory; this device has {there}")
    return found


def delegate_problem(requires: Requires, delegates: Collection[str]) -> str:
    """Return what is wrong with the delegates of a pipeline, by name or kind, if something is."""
    if not requires.delegates or not set(requires.delegates).isdisjoint(delegates):
        return ""
    there = listed(sorted(delegates))
    return f"it needs one of the delegates {listed(requires.delegates)}; the pipeline names {there}"


def _any_installed(wanted: Mapping[str, VersionRange], installed: Mapping[str, str]) -> bool:
    return any(name in installed and _is_in(installed[name], one) for name, one in wanted.items())


def _installed(names: Iterable[str]) -> dict[str, str]:
    from importlib import metadata  # most models do not need it

    found = {}
    for name in RUNTIMES:
        if name in names:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
    return found


def _is_in(version: str, wanted: VersionRange) -> bool:
    numbers = _numbers(version)
    return (not wanted.least or numbers >= _numbers(wanted.least)) and (
        not wanted.below or numbers < _numbers(wanted.below)
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, without zeros at the end: 2.0 is 2."""
    begin = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", version)
    return tuple(map(int, re.sub(r"(\.0+)+\Z", "", begin[0]).split("."))) if begin else ()


def _range(wanted: VersionRange) -> str:
    least = f"{wanted.least} or newer" if wanted.least else ""
    return " and ".join(filter(None, (least, f"older than {wanted.below}" if wanted.below else "")))
