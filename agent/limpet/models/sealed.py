"""Bundles that are encrypted on the disk: AES-256-GCM over segments, so that a part can be read without the rest.

A sealed file begins with a header: ``LIMPETS1`` and the length of the content in 8 bytes, big-endian. Segments
follow, each of ``SEGMENT`` bytes of content but the last one, with its tag of 16 bytes. The nonce of a segment is
its number. The header is authenticated with each segment. So Limpet notices a segment that was changed, moved,
left out or taken from another file when it reads it. It also notices an end that was cut off.

Each file has its own key, made from the device's key and the SHA-256 of the content (HMAC-SHA-256, as in NIST SP
800-108). Two contents never share a key, so a nonce is never used twice. A process gets its own files' keys alone.
"""

from __future__ import annotations

import hmac
import io
import struct
from typing import IO, TYPE_CHECKING, Any

from limpet.errors import DeployError, ModelError
from limpet.sha256 import sha256

if TYPE_CHECKING:
    from pathlib import Path

KEY = 32
"""Bytes of a key."""
SEGMENT = 1 << 16
_MAGIC = b"LIMPETS1"
_HEADER = struct.Struct(">8sQ")
_TAG = 16
_LARGEST = 1 << 31
_PURPOSE = b"limpet sealed bundle\0"


def file_key(key: bytes, content_sha256: str) -> bytes:
    """Return the key of a file: ``key`` is the device's, of 32 bytes."""
    return hmac.digest(key, _PURPOSE + bytes.fromhex(content_sha256), "sha256")


def sealed_size(length: int) -> int:
    """Return how many bytes a sealed file takes for so many bytes of content."""
    segments = -(-length // SEGMENT)
    return _HEADER.size + length + segments * _TAG


def seal(content: IO[bytes], length: int, target: IO[bytes], key: bytes) -> str:
    """Write the sealed form of ``length`` bytes of content. Return the SHA-256 of the content.

    ``key`` is that of the file. ``DeployError`` if the content is shorter than it should be.
    """
    cipher, header, whole = _cipher(key), _HEADER.pack(_MAGIC, length), sha256(length)
    target.write(header)
    for number, start in enumerate(range(0, length, SEGMENT)):
        size = min(SEGMENT, length - start)
        data = content.read(size)
        if len(data) != size:
            raise DeployError(f"the content ends after {start + len(data)} bytes of {length}")
        whole.update(data)
        target.write(cipher.encrypt(_nonce(number), data, header))
    return whole.hexdigest()


class SealedFile(io.RawIOBase):
    """The content of a sealed file, to be read from any place. Holds one segment in memory."""

    def __init__(self, file: IO[bytes], name: str, key: bytes) -> None:
        self._file, self._name, self._cipher = file, name, _cipher(key)
        self._header = file.read(_HEADER.size)
        magic, self._length = _HEADER.unpack(self._header) if len(self._header) == _HEADER.size else (b"", 0)
        if magic != _MAGIC or self._length > _LARGEST:
            raise DeployError(f"{name}: is no encrypted bundle, or its beginning is damaged")
        self._place, self._number, self._segment = 0, -1, b""

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read from any place."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise ValueError(f"{self._name}: a place before the beginning")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        """Read up to the end of a segment. ``DeployError`` if that segment is damaged."""
        if self._place >= self._length:
            return 0
        number, start = divmod(self._place, SEGMENT)
        part = self._decrypted(number)[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _decrypted(self, number: int) -> bytes:
        if number == self._number:
            return self._segment
        from cryptography.exceptions import InvalidTag

        size = min(SEGMENT, self._length - number * SEGMENT)
        self._file.seek(_HEADER.size + number * (SEGMENT + _TAG))
        try:
            self._segment = self._cipher.decrypt(_nonce(number), self._file.read(size + _TAG), self._header)
        except InvalidTag as error:
            raise DeployError(
                f"{self._name}: it was changed on the disk, or encrypted with another key"
            ) from error
        self._number = number
        return self._segment


def read_key(path: Path) -> bytes:
    """Return the device's key. ``ModelError`` says why there is none."""
    try:
        with path.open("rb") as file:
            key = file.read(KEY + 1)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    if len(key) != KEY:
        raise ModelError(f"{path}: a key has {KEY} bytes. To make one, run: head -c {KEY} /dev/urandom > {path}")
    return key


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise ModelError("encrypted bundles need cryptography. Run: pip install 'limpet[updates]'") from error
    return AESGCM(key)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
