"""The bytes of a capture file. No numpy, no I/O but of whole files.

A file begins with ``MAGIC`` and the sizes of header and body, 4 bytes each, big-endian. The header follows as
JSON, see ``Capture``, then the body, and then the SHA-256 of all before. A body begins with the size of the output
in 4 bytes. The output follows as JSON, then the parts of the window, one after the other. The body may be
encrypted. A file that ends too early, or was changed, is ``UnreadableError``.
"""

from __future__ import annotations

import math
import os
import struct
from datetime import MAXYEAR
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.captures import LARGEST_WINDOW, Capture, Contents
from limpet.errors import UnreadableError
from limpet.sha256 import sha256
from limpet.untrusted import open_file, read_file, reading

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.captures import WindowForm

MAGIC = b"LIMPCAP1"
LARGEST_HEADER = 1 << 18
LARGEST_BODY = LARGEST_WINDOW + (1 << 10)
"""Bytes: what encryption adds has room."""
_SIZES = struct.Struct(">8sII")
_LENGTH = struct.Struct(">I")
_DIGEST = 32
LARGEST_FILE = _SIZES.size + LARGEST_HEADER + LARGEST_BODY + _DIGEST
_ITEM = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "int64": 8, "float64": 8}


def body_of(output: bytes, parts: list[bytes]) -> bytes:
    """Return a body that is not encrypted. ``output`` is JSON."""
    return b"".join([_LENGTH.pack(len(output)), output, *parts])


def header_of(capture: Capture) -> bytes:
    """Return the header's bytes. ``UnreadableError`` if a reader would refuse them."""
    data = msgspec.json.encode(capture)
    _decode(data, "the header of the capture")
    return data


def pack(header: bytes, body: bytes) -> bytes:
    """Return a capture file. ``UnreadableError`` if it would be too large."""
    if len(body) > LARGEST_BODY:
        raise UnreadableError(f"the window has {len(body)} bytes; the limit is {LARGEST_WINDOW}")
    data = _SIZES.pack(MAGIC, len(header), len(body)) + header + body
    return data + _digest(data)


class CaptureFile(msgspec.Struct, frozen=True):
    """A capture file as it was read. ``header``: the bytes of ``capture``. ``body``: encrypted, or not."""

    capture: Capture
    header: bytes
    body: bytes


def read_header(path: Path) -> tuple[Capture, int]:
    """Return the header of a capture file, and the size of the file. The body is not looked at.

    ``UnreadableError`` if it is none, or if its size is not what the header says. ``OSError`` as from ``open``.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        header_size, _ = _sizes(file.read(_SIZES.size), size, str(path))
        return _decode(file.read(header_size), str(path)), size


def read(path: Path) -> CaptureFile:
    """Read a whole capture file, with the errors of ``read_header``. It is also refused if a byte was changed."""
    return unpack(read_file(path, LARGEST_FILE), str(path))


def unpack(data: bytes, where: str) -> CaptureFile:
    """Return what the bytes of a capture file say. ``UnreadableError``, whatever the bytes are."""
    header_size, _ = _sizes(data[: _SIZES.size], len(data), where)
    end = len(data) - _DIGEST
    if _digest(data[:end]) != data[end:]:
        raise UnreadableError(f"{where}: its checksum is wrong; the file is damaged")
    header = data[_SIZES.size : _SIZES.size + header_size]
    return CaptureFile(_decode(header, where), header, data[_SIZES.size + header_size : end])


def contents(capture: Capture, body: bytes, where: str) -> Contents:
    """Return output and window of a body that is not encrypted, or was decrypted. ``UnreadableError``."""
    if len(body) < _LENGTH.size:
        raise UnreadableError(f"{where}: its body is too short")
    (length,) = _LENGTH.unpack_from(body)
    start = _LENGTH.size + length
    sizes = capture.window.parts
    if start + sum(sizes) != len(body):
        raise UnreadableError(f"{where}: the parts of the window do not have the sizes that the header says")
    with reading(f"{where}: the output"):
        output = msgspec.json.decode(body[_LENGTH.size : start])
    parts = []
    for size in sizes:
        parts.append(body[start : start + size])
        start += size
    return Contents(output, parts)


def check_window(window: WindowForm, where: str) -> None:
    """See that the sizes of a window fit its shape. ``UnreadableError``."""
    if window.encoding == "raw":
        expected = math.prod(window.shape) * _ITEM.get(window.dtype, 4)
        if window.parts != [expected]:
            raise UnreadableError(f"{where}: {sum(window.parts)} bytes for the shape {window.shape}")
    elif len(window.parts) != window.shape[0]:
        raise UnreadableError(f"{where}: {len(window.parts)} pictures for the shape {window.shape}")
    count = window.shape[1] if len(window.shape) == 2 else None
    if window.channels and len(window.channels) != count:
        raise UnreadableError(f"{where}: {len(window.channels)} channels for the shape {window.shape}")
    if window.units and len(window.units) != len(window.channels):
        raise UnreadableError(f"{where}: {len(window.units)} units for {len(window.channels)} channels")


def _digest(data: bytes) -> bytes:
    found = sha256(len(data))
    found.update(data)
    return bytes.fromhex(found.hexdigest())


def _sizes(start: bytes, size: int, where: str) -> tuple[int, int]:
    """Return the sizes of header and body. ``UnreadableError`` if the file is none, or has another size."""
    magic, header, body = _SIZES.unpack(start) if len(start) == _SIZES.size else (b"", 0, 0)
    if magic != MAGIC or header > LARGEST_HEADER or body > LARGEST_BODY:
        raise UnreadableError(f"{where}: is no capture")
    if size != _SIZES.size + header + body + _DIGEST:
        raise UnreadableError(f"{where}: has {size} bytes, and not what its beginning says; it is damaged")
    return header, body


def _decode(data: bytes, where: str) -> Capture:
    with reading(where):
        capture = msgspec.json.decode(data, type=Capture)
        # In another time zone, the first and the last day of all would be no dates.
        if not 1 < capture.time.year < MAXYEAR:
            raise UnreadableError(f"{where}: is of the year {capture.time.year}")
    check_window(capture.window, where)
    return capture
