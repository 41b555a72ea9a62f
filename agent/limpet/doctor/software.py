"""Python, and the packages that execute models: which fit this platform, and which are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.doctor.finding import bad, ok, warn
from limpet.doctor.runtime_packages import _MODULES, LEGACY, LITERT, Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation

OLDEST, NEWEST = (3, 10), (3, 13)


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


def python(installation: Installation) -> Iterator[Finding]:
    """Check the Python interpreter."""
    here = installation.software.platform
    what = f"Python {_dotted(here.python)} on {here.system} {here.machine}, {here.bits} bit"
    if not OLDEST <= here.python <= NEWEST:
        why = f"Limpet runs on {_dotted(OLDEST)} to {_dotted(NEWEST)}"
        yield bad("python", what, why, "create a virtual environment with such a Python and install Limpet in it")
    elif here.bits == 32 and here.machine in {"aarch64", "x86_64"}:
        why = "32-bit programs under a 64-bit kernel: no wheel of LiteRT fits"
        yield warn("python", what, why, "install the 64-bit edition of the system")
    else:
        yield ok("python", what)


def runtime(installation: Installation) -> Iterator[Finding]:
    """Check the package that executes TFLite models, and its numpy."""
    here, versions, load = installation.software
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
    fix = (
        f"pip install {fits[0]}"
        if fits
        else "use a platform that one of them has a wheel for; docs/reference/boards.md"
    )
    return bad("runtime", "nothing that executes TFLite models is installed", why or "models cannot run", fix)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
