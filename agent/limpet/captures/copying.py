"""Captures from one folder to another: whole files, each checked, and each written once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.captures import form, ring
from limpet.device import state_files
from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.captures.sealing import PrivateKey
    from limpet.contracts.captures import Capture, Truth


def target_of(root: Path, capture: Capture) -> Path:
    """Return where a fetched capture goes: below its device, as several may have the same number."""
    return ring.path_of(root / capture.device, capture.pipeline, capture.number)


def has(root: Path, capture: Capture) -> bool:
    """Whether a capture was fetched before."""
    return state_files.is_regular(target_of(root, capture))


def take(root: Path, data: bytes, truth: Truth | None, where: str) -> Capture | None:
    """Keep the bytes of a capture file. Return its header, ``None`` if it was there before.

    A truth that is there already stays. ``UnreadableError`` if the bytes are no capture. ``OSError``.
    """
    capture = form.unpack(data, where).capture
    path = target_of(root, capture)
    fresh = not state_files.is_regular(path)
    if fresh:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(ring.NEW)
        state_files.write(temporary, data)
        temporary.replace(path)
        state_files.sync(path.parent)
    if truth is not None and ring.read_truth(path) is None:
        ring.write_truth(path, truth)
    return capture if fresh else None


def decrypted(path: Path, key: PrivateKey | None) -> bytes:
    """Return the bytes of a capture file in clear. ``UnreadableError`` if that is not possible."""
    return form.pack(*clear(path, key))


def clear(path: Path, key: PrivateKey | None) -> tuple[bytes, bytes]:
    """Return header and body of a capture file in clear. ``UnreadableError`` as ``decrypted``."""
    import msgspec

    found = form.read(path)
    if not found.capture.encrypted_for:
        return found.header, found.body
    if key is None:
        needed = found.capture.encrypted_for
        raise UnreadableError(f"{path}: is encrypted for the key {needed}; name the private key with --key")
    body = key.decrypt(found, str(path))
    return form.header_of(msgspec.structs.replace(found.capture, encrypted_for="")), body
