"""Bundles that are encrypted on the disk: AES-256-GCM over segments, so that a part can be read without the rest.

A sealed file begins with a header: ``LIMPETS1`` and the length of the content in 8 bytes, big-endian. Segments
follow, each of ``SEGMENT`` bytes of content but the last one, with its tag of 16 bytes. The nonce of a segment is
its number. The header is authenticated with each segment. So Limpet notices a segment that was changed, moved,
left out or taken from another file when it reads it. It also notices an end that was cut off.

Each file has its own key, made from the device's key and the SHA-256 of the content (HMAC-SHA-256, as in NIST SP
800-108). Two contents never share a key, so a nonce is never used twice. A process gets its own files' keys alone.
"""

from __future__ import annotations

import io
import struct
from typing import IO, TYPE_CHECKING, Any

from limpet.device import directories
from limpet.errors import ConfigError, DeployError, ModelError
from limpet.sha256 import sha256

if TYPE_CHECKING:
    from limpet.config import Config
    from limpet.updates.state import Deployed

KEY = 32
"""Bytes of a key."""
SEGMENT = 1 << 16
MAGIC = b"LIMPETS1"
"""How a sealed file begins."""
_HEADER = struct.Struct(">8sQ")
_TAG = 16
_LARGEST = 1 << 31
_PURPOSE = b"limpet sealed bundle\0"


def file_key(key: bytes, content_sha256: str) -> bytes:
    """Return the key of a file: ``key`` is the device's, of 32 bytes."""
    import hmac  # It loads OpenSSL, which a device without sealed bundles never needs in memory.

    return hmac.digest(key, _PURPOSE + bytes.fromhex(content_sha256), "sha256")


def sealed_size(length: int) -> int:
    """Return how many bytes a sealed file takes for so many bytes of content."""
    segments = -(-length // SEGMENT)
    return _HEADER.size + length + segments * _TAG


def seal(content: IO[bytes], length: int, target: IO[bytes], key: bytes) -> str:
    """Write the sealed form of ``length`` bytes of content. Return the SHA-256 of the content.

    ``key`` is that of the file. ``DeployError`` if the content is shorter than it should be.
    """
    cipher, header, whole = _cipher(key), _HEADER.pack(MAGIC, length), sha256(length)
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
        self._file, self.name, self._cipher = file, name, _cipher(key)
        self._header = file.read(_HEADER.size)
        magic, self._length = _HEADER.unpack(self._header) if len(self._header) == _HEADER.size else (b"", 0)
        if magic != MAGIC or self._length > _LARGEST:
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
            raise ValueError(f"{self.name}: a place before the beginning")
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
            raise DeployError(f"{self.name}: it was changed on the disk, or encrypted with another key") from error
        self._number = number
        return self._segment


def device_key(config: Config) -> bytes:
    """Return the device's key, empty if bundles are not encrypted. ``ConfigError`` says why it cannot be used."""
    path = config.updates.encryption_key_file if config.updates else None
    if path is None:
        return b""
    where = "updates.encryption_key_file"
    if config.folders.memory is None:
        raise ConfigError(
            [f"{where}: encrypted bundles are unpacked into memory, and $RUNTIME_DIRECTORY names no folder there"]
        )
    path = directories.credential(path)
    try:
        with path.open("rb") as file:
            key = file.read(KEY + 1)
    except OSError as error:
        raise ConfigError([f"{where}: {path}: {error.strerror}"]) from error
    if len(key) != KEY:
        made = f"To make one, run: head -c {KEY} /dev/urandom > {path}"
        raise ConfigError([f"{where}: {path}: a key has {KEY} bytes. {made}"])
    return key


def key_of(config: Config, bundle: Deployed) -> bytes:
    """Return the key of a bundle's file, empty if bundles are not encrypted. ``ConfigError`` as ``device_key``."""
    key = device_key(config)
    return file_key(key, bundle.file_sha256) if key else b""


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise ModelError("encrypted bundles need cryptography. Run: pip install 'limpet[updates]'") from error
    return AESGCM(key)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
