"""A Python whose memory no other program on this machine shares.

PSS divides a page by the number of processes that map it. Another Python on the machine, such as the benchmark
itself, would so hide a part of what a device needs. Here Python, its packages and all shared libraries are copied
into a folder. The copies are other files, and the kernel shares no page between two files.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LEFT_OUT = shutil.ignore_patterns(
    "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "config-*", "*.a"
)
_LINKED = re.compile(r"=> (/\S+)")


def python(folder: Path, *extras: str) -> Path:
    """Copy what this Python runs Limpet with into ``folder``, and extras; return the copy of its program."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = folder / "bin" / version
    if Path(sys.executable).resolve() == program.resolve():
        return program
    names = sorted(_needed("limpet", extras))
    versions = "\n".join([sys.version, *(f"{name} {distribution(name).version}" for name in names)])
    done = folder / "done"
    if not done.exists() or done.read_text() != versions:
        shutil.rmtree(folder, ignore_errors=True)
        program.parent.mkdir(parents=True)
        shutil.copy(Path(sys.executable).resolve(), program)
        shutil.copytree(sysconfig.get_path("stdlib"), folder / "lib" / version, ignore=LEFT_OUT)
        for name in names:
            _copy_package(name, folder / "packages")
        compileall.compile_dir(folder / "packages", quiet=2)
        _copy_libraries(folder)
        done.write_text(versions)
    return program


def environment(folder: Path, agent: Path) -> dict[str, str]:
    """Return the variables that the copy needs to run the agent whose package is in ``agent``."""
    return {
        "PYTHONHOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(agent), str(folder / "packages")]),
        "PYTHONNOUSERSITE": "1",
        "LD_LIBRARY_PATH": str(folder / "lib"),
    }


def _needed(name: str, extras: Sequence[str]) -> set[str]:
    """Return the distributions that this one needs on this machine, with these of its extras."""
    from packaging.requirements import Requirement  # which the copy itself lacks

    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        chosen = ("", *extras) if one == name else ("",)
        wanted = map(Requirement, distribution(one).requires or [])
        names = {
            one.name
            for one in wanted
            if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in chosen)
        }
        waiting += names - found
        found |= names
    return found


def _copy_package(name: str, target: Path) -> None:
    for file in distribution(name).files or []:
        if ".." not in file.parts and "__pycache__" not in file.parts:
            copy = target / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(file.locate()), copy)


def _copy_libraries(folder: Path) -> None:
    """Copy every shared library that a file in ``folder`` is linked to."""
    files = [str(path) for path in folder.rglob("*") if path.suffix == ".so" or path.parent.name == "bin"]
    listed = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    for path in {Path(found) for found in _LINKED.findall(listed)}:
        if folder not in path.parents:
            shutil.copy(path, folder / "lib" / path.name)
