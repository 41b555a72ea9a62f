"""Encryption of captures for a key whose other half is not on the device.

Each body is encrypted for an X25519 public key. A new key pair for each, HKDF-SHA256 and AES-256-GCM do that.
Parts of the header are associated data. The worker does it, so nothing in clear leaves its process. An encrypted
body is the new public key in 32 bytes, then ciphertext and tag. A key is used once, so the nonce is always zero.
This needs the package cryptography.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.errors import LimpetError, UnreadableError
from limpet.sha256 import sha256
from limpet.untrusted import read_linked_file, reading

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.captures.form import CaptureFile
    from limpet.contracts.captures import WindowForm

LARGEST_KEY = 1 << 14
_PUBLIC = 32
_NONCE = bytes(12)
_PURPOSE = b"limpet capture\0"
_INSTALL = "encrypted captures need cryptography. Run: pip install 'limpet[updates]'"


class PublicKey:
    """A public key that captures are encrypted for. ``id``: 16 hexadecimal digits that name it."""

    def __init__(self, text: str) -> None:
        """Take it as base64 of 32 bytes, as ``limpet captures key`` prints it. ``UnreadableError``."""
        x25519, _ = _cryptography()
        with reading("the public key"):
            self._raw = base64.b64decode(text, validate=True)
            self._key = x25519.X25519PublicKey.from_public_bytes(self._raw)
        self.id = key_id(self._raw)

    def encrypt(self, body: bytes, bound: bytes) -> bytes:
        """Return the encrypted form of a body. ``bound``: what only the right capture has, see ``bound_to``."""
        x25519, aead = _cryptography()
        own = x25519.X25519PrivateKey.generate()
        ephemeral = own.public_key().public_bytes_raw()
        key = _derive(own.exchange(self._key), ephemeral, self._raw)
        return bytes(ephemeral + aead.AESGCM(key).encrypt(_NONCE, body, bound))


class PrivateKey:
    """The other half, which decrypts captures. ``id`` is that of the public key."""

    def __init__(self, data: bytes, where: str) -> None:
        """Take the bytes of a PEM file. ``UnreadableError`` if it holds no X25519 private key."""
        x25519, _ = _cryptography()
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        with reading(where):
            key = load_pem_private_key(data, None)
        if not isinstance(key, x25519.X25519PrivateKey):
            raise UnreadableError(f"{where}: holds no X25519 private key")
        self._key = key
        self._raw = key.public_key().public_bytes_raw()
        self.id = key_id(self._raw)

    def decrypt(self, one: CaptureFile, where: str) -> bytes:
        """Return the body of a capture in clear. ``UnreadableError`` if it was changed, or is for another key."""
        from cryptography.exceptions import InvalidTag

        x25519, aead = _cryptography()
        if one.capture.encrypted_for != self.id:
            raise UnreadableError(
                f"{where}: it is encrypted for the key {one.capture.encrypted_for}, not {self.id}"
            )
        ephemeral = one.body[:_PUBLIC]
        capture = one.capture
        bound = bound_to(capture.pipeline, capture.sample, capture.model, capture.version, capture.window)
        try:
            with reading(where):
                shared = self._key.exchange(x25519.X25519PublicKey.from_public_bytes(ephemeral))
                key = _derive(shared, ephemeral, self._raw)
                return bytes(aead.AESGCM(key).decrypt(_NONCE, one.body[_PUBLIC:], bound))
        except UnreadableError as error:
            if isinstance(error.__cause__, InvalidTag):
                raise UnreadableError(f"{where}: it was changed since it was encrypted") from None
            raise


def bound_to(pipeline: str, sample: int, model: str, version: int, window: WindowForm) -> bytes:
    """Return the part of a header that encryption authenticates: the worker knows no more of it."""
    return msgspec.json.encode([pipeline, sample, model, version, window])


def read_private_key(path: Path) -> PrivateKey:
    """Read a PEM file with a private key. ``UnreadableError``; ``OSError`` if it may not be read."""
    return PrivateKey(read_linked_file(path, LARGEST_KEY), str(path))


def make_keys() -> tuple[bytes, str]:
    """Return a new private key as PEM, and its public key as base64."""
    x25519, _ = _cryptography()
    from cryptography.hazmat.primitives import serialization as to

    key = x25519.X25519PrivateKey.generate()
    private = key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption())
    return bytes(private), base64.b64encode(key.public_key().public_bytes_raw()).decode()


def key_id(raw: bytes) -> str:
    """Return the name of a public key."""
    digest = sha256(len(raw))
    digest.update(raw)
    return digest.hexdigest()[:16]


def _derive(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return bytes(HKDF(SHA256(), 32, ephemeral + recipient, _PURPOSE).derive(shared))


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives.asymmetric import x25519
        from cryptography.hazmat.primitives.ciphers import aead
    except ModuleNotFoundError as error:
        raise LimpetError(_INSTALL) from error
    return x25519, aead
