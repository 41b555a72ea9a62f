"""Finds what a pickle would import, without running it."""

from __future__ import annotations

import io
import json
import pickletools
import re
import zipfile
from typing import TYPE_CHECKING

from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SAFE = re.compile(
    r"""collections\.OrderedDict
    | (builtins|__builtin__)\.(tuple|list|dict|set)
    | torch\.([A-Z][A-Za-z0-9]*Storage|Size|Tensor|device|dtype|[a-z]+[0-9]*|storage\.(Untyped|Typed)Storage)
    | torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|qtensor|meta_tensor_no_storage)
    | torch\.nn\.parameter\.(Parameter|Buffer)
    | torch\.jit\._pickle\.(restore_type_tag|build_(int|tensor|double|bool)list)
    | __torch__\..*""",
    re.VERBOSE,
)
"""What tensors, and the types that a traced program declares in its own sandboxed language, are made of."""
_CALLS = re.compile(r"torch\.(load|save|compile|vmap|hub|ops|utils|jit|export)")
_LARGEST = 64 << 20
_TENSORS = ("weight_", "tensor_")
"""How members are called that PyTorch reads as plain numbers."""


def refuse_code(path: Path) -> None:
    """Raise ``ConvertError`` where a file, or a member of a zip, is a pickle that names more than tensors."""
    for where, data in _pickles(path):
        try:
            found = [name for name in names(data) if not is_harmless(name)]
        except Exception as error:  # pickletools raises what comes on bytes that are no pickle.
            raise ConvertError(f"{where}: not a whole pickle: {error}") from error
        if found:
            raise ConvertError(
                f"{where}: a pickle that would run code here ({found[0]}); it was not opened. Export "
                "the model with torch.export.save, which needs no code"
            )


def _pickles(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what will be unpickled. ``ConvertError`` on what an archive may hold that cannot be looked through."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield str(path), file.read(_LARGEST)
        return
    with zipfile.ZipFile(path) as archive:
        for name, info in _members(str(path), archive):
            where = f"{path}:{info.filename}"
            if name.endswith((".pkl", ".pickle")):
                yield where, _whole(where, archive, info)
            elif name.rpartition("/")[2].startswith("serialized_"):
                raise ConvertError(
                    f"{where}: the format of PyTorch 2.7 and before; export the model with a later one"
                )
            elif name.endswith((".pt", ".pth")):
                yield from _inner(where, archive.read(info))
            elif "aotinductor/" in name or name.endswith(".so"):
                raise ConvertError(f"{where}: compiled code, which would run here; export the model without it")
            elif name.endswith(("_weights_config.json", "_constants_config.json")):
                _refuse_pickled(where, archive.read(info))


def _members(where: str, archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """Yield the members and their names in lower case, as PyTorch's own reader of archives knows them.

    ``ConvertError`` where that reader might find another member or another directory than is looked at here.
    """
    members = {info.filename.lower(): info for info in archive.infolist()}
    first = min((info.header_offset for info in members.values()), default=0)
    if len(members) < len(archive.infolist()) or first or archive.comment:
        raise ConvertError(f"{where}: an archive that can be read in two ways; export the model again")
    yield from members.items()


def _whole(where: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size >= _LARGEST:
        raise ConvertError(f"{where}: a pickle of {info.file_size:,} B is too large to look through")
    return archive.read(info)


def _refuse_pickled(where: str, data: bytes) -> None:
    """Raise ``ConvertError`` where an exported program keeps a tensor or an object as a pickle.

    Such a member may have any name. An object's member is read as a pickle because of its name alone.
    """
    try:
        config = json.loads(data)["config"]
        pickled = [
            name
            for name, entry in config.items()
            if entry["use_pickle"] is not False or not entry["path_name"].startswith(_TENSORS)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConvertError(f"{where}: not as torch.export.save writes it: {error}") from error
    if pickled:
        raise ConvertError(
            f"{where}: {pickled[0]} is kept as a pickle, which is not opened; make it a dense tensor on the CPU"
        )


def _inner(where: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the pickles of a file that ``torch.save`` wrote inside another archive.

    ``ConvertError`` where it is no archive: then PyTorch reads several pickles, one after the other.
    """
    if not data:
        return
    if not data.startswith(b"PK\x03\x04") or not zipfile.is_zipfile(io.BytesIO(data)):
        raise ConvertError(f"{where}: not as torch.export.save writes it: no archive")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name, info in _members(where, archive):
            if name.endswith(".pkl"):
                yield f"{where}:{info.filename}", _whole(where, archive, info)


def names(data: bytes) -> Iterator[str]:
    """Yield ``module.name`` for everything that a pickle imports, of any protocol.

    A name that is not pushed as two plain strings just before its use is yielded as ``?``.
    """
    pushed: list[str | None] = []
    memo: dict[int, str | None] = {}
    for opcode, argument, _ in pickletools.genops(data):
        kind = opcode.name
        if kind in {"GLOBAL", "INST"}:
            yield str(argument).replace(" ", ".")
        elif kind == "STACK_GLOBAL":
            last = pushed[-2:]
            yield "?" if len(last) < 2 or None in last else ".".join(map(str, last))
        elif kind.startswith("EXT"):
            yield "?"
        if kind == "MEMOIZE":
            memo[len(memo)] = pushed[-1] if pushed else None
        elif kind in {"PUT", "BINPUT", "LONG_BINPUT"}:
            memo[int(argument or 0)] = pushed[-1] if pushed else None
        elif kind in {"GET", "BINGET", "LONG_BINGET"}:
            pushed.append(memo.get(int(argument or 0)))
        elif kind not in {"PROTO", "FRAME"}:
            pushed.append(argument if isinstance(argument, str) and kind != "GLOBAL" else None)


def is_harmless(name: str) -> bool:
    """Whether a global that a pickle names makes tensors and nothing else."""
    return _SAFE.fullmatch(name) is not None and _CALLS.fullmatch(name) is None
