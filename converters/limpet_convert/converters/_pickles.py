"""Finds what a pickle would import, without running it."""

from __future__ import annotations

import pickletools
import zipfile
from typing import TYPE_CHECKING

from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SAFE = ("torch.", "__torch__")
_SAFE_NAMES = {"collections.OrderedDict", "builtins.tuple", "builtins.list", "builtins.dict", "builtins.set"}
_UNSAFE_TORCH = (
    "torch.hub",
    "torch.serialization",
    "torch.utils",
    "torch.load",
    "torch.ops",
    "torch.jit",
    "torch._C",
)
_LARGEST = 64 << 20


def refuse_code(path: Path) -> None:
    """Raise ``ConvertError`` where a file, or a member of a zip, is a pickle that names more than tensors."""
    for where, data in _pickles(path):
        try:
            found = [name for name in names(data) if not _harmless(name)]
        except Exception as error:  # pickletools raises what comes on bytes that are no pickle.
            raise ConvertError(f"{where}: not a whole pickle: {error}") from error
        if found:
            raise ConvertError(
                f"{where}: a pickle that would run code here ({found[0]}); it was not opened. Export "
                "the model with torch.export.save, which needs no code"
            )


def _pickles(path: Path) -> Iterator[tuple[str, bytes]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith((".pkl", ".pickle")) and info.file_size < _LARGEST:
                    yield f"{path}:{info.filename}", archive.read(info)
                elif info.filename.endswith((".pt", ".pth")):
                    yield from _inner(f"{path}:{info.filename}", archive.read(info))
    else:
        with path.open("rb") as file:
            yield str(path), file.read(_LARGEST)


def _inner(where: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the pickles of a file that ``torch.save`` wrote inside another archive."""
    import io

    if not data:
        return
    if not zipfile.is_zipfile(io.BytesIO(data)):
        yield where, data
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                yield f"{where}:{name}", archive.read(name)


def names(data: bytes) -> Iterator[str]:
    """Yield ``module.name`` for everything that a pickle imports, of any protocol."""
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in {"GLOBAL", "INST"}:
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _harmless(name: str) -> bool:
    return (
        name in _SAFE_NAMES
        or name.startswith("torch.jit._pickle.")
        or (name.startswith(_SAFE) and not name.startswith(_UNSAFE_TORCH))
    )
