"""The platform, and the packages that execute models on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

import platform
import struct
import subprocess
import sys
from importlib import metadata
from typing import NamedTuple

LITERT, LEGACY = "ai-edge-litert", "tflite-runtime"
_MODULES = {LITERT: "ai_edge_litert.interpreter", LEGACY: "tflite_runtime.interpreter"}
_TRIAL_SECONDS = 60


class Platform(NamedTuple):
    """What decides which wheels fit. ``glibc`` is ``None`` if the C library is another one, such as musl."""

    system: str
    machine: str
    bits: int
    python: tuple[int, int]
    glibc: tuple[int, int] | None


class Software(NamedTuple):
    """A platform and the versions of the packages on it. ``load`` returns why a module cannot be imported."""

    platform: Platform
    versions: dict[str, str]
    load: Callable[[str], str]


def installed() -> Software:
    """Return the platform and packages of this Python."""
    found = {}
    for name in (LITERT, LEGACY, "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Software(_this_platform(), found, _load)


def _load(module: str) -> str:
    """Import a module in a child process: a library for another processor kills it."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            capture_output=True,
            text=True,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"importing {module} took more than {_TRIAL_SECONDS} s"
    if done.returncode < 0:
        return f"importing {module} ended with signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or ["no reason was given"])[-1] if done.returncode else ""


def _this_platform() -> Platform:
    name, version = platform.libc_ver()
    numbers = version.split(".")
    glibc = (int(numbers[0]), int(numbers[1])) if name == "glibc" and len(numbers) > 1 else None
    bits = struct.calcsize("P") * 8
    return Platform(platform.system(), platform.machine(), bits, (sys.version_info[0], sys.version_info[1]), glibc)
