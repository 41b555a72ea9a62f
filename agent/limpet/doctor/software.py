"""Python, and the packages that execute models: which there are for this platform, and which are here."""

from __future__ import annotations

import platform
import struct
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

from limpet.doctor.finding import bad, ok, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.doctor.finding import Finding
    from limpet.doctor.subject import Subject

OLDEST, NEWEST = (3, 10), (3, 13)
LITERT, LEGACY = "ai-edge-litert", "tflite-runtime"
_MODULES = {LITERT: "ai_edge_litert.interpreter", LEGACY: "tflite_runtime.interpreter"}
_TRIAL_SECONDS = 60


class Platform(NamedTuple):
    """What decides which wheels fit. ``glibc`` is ``None`` where the C library is another one, such as musl."""

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
    """Return what this Python has."""
    found = {}
    for name in (LITERT, LEGACY, "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Software(_this_platform(), found, _load)


def no_wheel(package: str, here: Platform) -> str:
    """Return why a runtime has no wheel for a platform, empty where it has one.

    As published for ai-edge-litert 2.3 and tflite-runtime 2.14.
    """
    if here.system == "Linux" and here.glibc is None:
        return "its wheels need glibc, and this system has another C library"
    if package == LITERT:
        machines = {"Linux": {"x86_64", "aarch64"}, "Darwin": {"arm64"}}.get(here.system, set())
        least, pythons = (2, 27), ((3, 10), (3, 14))
    else:
        machines = {"x86_64", "aarch64", "armv7l"} if here.system == "Linux" else set()
        least, pythons = ((2, 17) if here.machine == "x86_64" else (2, 34)), ((3, 8), (3, 11))
    if here.machine not in machines:
        return f"it has none for {here.system} on {here.machine}"
    if not pythons[0] <= here.python <= pythons[1]:
        return f"it has none for Python {_dotted(here.python)}"
    if here.glibc is not None and here.glibc < least:
        return f"it needs glibc {_dotted(least)}, here is {_dotted(here.glibc)}"
    return ""


def python(subject: Subject) -> Iterator[Finding]:
    """Look at the interpreter."""
    here = subject.software.platform
    what = f"Python {_dotted(here.python)} on {here.system} {here.machine}, {here.bits} bit"
    if not OLDEST <= here.python <= NEWEST:
        why = f"Limpet runs on {_dotted(OLDEST)} to {_dotted(NEWEST)}"
        yield bad("python", what, why, "make a virtual environment with such a Python and install Limpet there")
    elif here.bits == 32 and here.machine in {"aarch64", "x86_64"}:
        why = "32-bit programs under a 64-bit kernel: no wheel of LiteRT fits"
        yield warn("python", what, why, "install the 64-bit edition of the system")
    else:
        yield ok("python", what)


def runtime(subject: Subject) -> Iterator[Finding]:
    """Look for what executes TFLite models, its numpy, and whether it can be loaded."""
    here, versions, load = subject.software
    if LITERT not in versions and LEGACY not in versions:
        yield _none(here)
        return
    package = LITERT if LITERT in versions else LEGACY
    numpy = versions.get("numpy", "none")
    what = f"{package} {versions[package]}, numpy {numpy}"
    if package == LEGACY and not numpy.startswith(("0.", "1.")):
        why = "tflite-runtime works with numpy 1 only, which its own metadata does not say"
        yield bad("runtime", what, why, "pip install 'numpy<2'")
    elif why := load(_MODULES[package]):
        yield bad("runtime", f"{what}: cannot be loaded", why, f"pip install --force-reinstall {package}")
    elif package == LEGACY and not no_wheel(LITERT, here):
        why = "it is no longer maintained, and several times slower with int8 models on x86-64"
        yield warn("runtime", what, why, f"pip install {LITERT}, unless a vendor's delegate needs the old one")
    else:
        yield ok("runtime", what)


def _none(here: Platform) -> Finding:
    reasons = {package: no_wheel(package, here) for package in (LITERT, LEGACY)}
    fits = [package for package, reason in reasons.items() if not reason]
    why = "; ".join(f"{package}: {reason}" for package, reason in reasons.items() if reason)
    mend = f"pip install {fits[0]}" if fits else "use a platform that one of them has a wheel for; docs/boards.md"
    return bad("runtime", "nothing that executes TFLite models is installed", why or "models cannot run", mend)


def _load(module: str) -> str:
    """Try in a process of its own: a library for another processor kills it."""
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


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
