"""Write a ``.mlpackage`` whose bytes follow from the model alone.

Left to itself coremltools writes random UUIDs into ``Manifest.json``, the date into the model's metadata, and the
protobuf maps in the order of a hash. Here the UUIDs follow from the contents, the date is left out and maps are
sorted. What remains is what the same versions of the tools compute on the same kind of machine.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
MANIFEST = "Manifest.json"
_NAMESPACE = uuid.UUID("c9f7a4ad-7d3a-4d24-8f3a-0b6f1e4d8c55")
_DATE = "com.github.apple.coremltools.conversion_date"


def write(model: Any, spec: Any, path: Path) -> None:
    """Write coremltools' ``model``, described by ``spec``, as the folder ``path``. It replaces what is there."""
    if path.suffix != ".mlpackage":
        raise ConvertError(f"{path.name}: a Core ML package's name ends in .mlpackage")
    spec.description.metadata.userDefined.pop(_DATE, None)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        fresh = Path(scratch) / path.name
        save(model, fresh)
        (fresh / MODEL).write_bytes(spec.SerializeToString(deterministic=True))
        (fresh / MANIFEST).write_bytes(_manifest((fresh / MANIFEST).read_bytes(), fresh))
        if path.exists():
            shutil.rmtree(path)
        fresh.rename(path)


def save(model: Any, path: Path) -> None:
    """Write coremltools' ``model`` as it is. Its own ``save`` copies modes and times, which a sandbox refuses."""
    source = Path(model.package_path)
    path.mkdir()
    for folder in sorted(each for each in source.rglob("*") if each.is_dir()):
        (path / folder.relative_to(source)).mkdir()  # That of the weights may be empty, and has to be there.
    for name, content in members(source).items():
        (path / name).write_bytes(content)


def members(path: Path) -> Mapping[str, bytes]:
    """Return the files of a package by their names within it, sorted."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def size(path: Path) -> int:
    """Return the bytes of all files of a package."""
    return sum(len(data) for data in members(path).values())


def _manifest(data: bytes, folder: Path) -> bytes:
    """Return the manifest with UUIDs that follow from what the items contain, items sorted by path."""
    manifest = json.loads(data)
    names, items = {}, {}
    for key, item in sorted(manifest["itemInfoEntries"].items(), key=lambda entry: entry[1]["path"]):
        names[key] = str(uuid.uuid5(_NAMESPACE, item["path"] + _digest(folder / "Data" / item["path"])))
        items[names[key]] = item
    manifest["itemInfoEntries"] = items
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    return (json.dumps(manifest, indent=4, sort_keys=True) + "\n").encode()


def _digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return sha256(b"".join(sha256(file.read_bytes()).digest() for file in files)).hexdigest()
