"""Encryption of captures for a key whose other half is not on the device.

The body of each capture is encrypted for an X25519 public key: an ephemeral key pair, HKDF-SHA256, and AES-256-GCM
with the header as associated data. An encrypted body is: the ephemeral public key (32 bytes), then ciphertext and
tag. Each body has its own key, so the nonce is always zero. It needs the package cryptography.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet.errors import LimpetError, UnreadableError
from limpet.sha256 import sha256
from limpet.untrusted import read_linked_file, reading

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_KEY = 1 << 14
_PUBLIC = 32
_NONCE = bytes(12)
_PURPOSE = b"limpet capture\0"
_INSTALL = "encrypted captures need cryptography. Run: pip install 'limpet[updates]'"


class PublicKey:
    """A public key that captures are encrypted for. ``id``: 16 hexadecimal digits that name it."""

    def __init__(self, data: bytes, where: str) -> None:
        """Take the bytes of a PEM file. ``UnreadableError`` if it holds no X25519 public key."""
        x25519, _ = _cryptography()
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        with reading(where):
            key = load_pem_public_key(data)
        if not isinstance(key, x25519.X25519PublicKey):
            raise UnreadableError(f"{where}: holds no X25519 public key. To make one, run: limpet captures key")
        self._key = key
        self._raw = key.public_bytes_raw()
        self.id = key_id(self._raw)

    def encrypt(self, body: bytes, header: bytes) -> bytes:
        """Return the encrypted form of a body. ``header``: that of its capture file."""
        x25519, aead = _cryptography()
        own = x25519.X25519PrivateKey.generate()
        ephemeral = own.public_key().public_bytes_raw()
        key = _derive(own.exchange(self._key), ephemeral, self._raw)
        return bytes(ephemeral + aead.AESGCM(key).encrypt(_NONCE, body, header))


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

    def decrypt(self, body: bytes, header: bytes, where: str) -> bytes:
        """Return a body in clear. ``UnreadableError`` if it was changed, or is for another key."""
        from cryptography.exceptions import InvalidTag

        x25519, aead = _cryptography()
        ephemeral = body[:_PUBLIC]
        try:
            with reading(where):
                shared = self._key.exchange(x25519.X25519PublicKey.from_public_bytes(ephemeral))
                clear = aead.AESGCM(_derive(shared, ephemeral, self._raw)).decrypt(_NONCE, body[_PUBLIC:], header)
        except UnreadableError as error:
            if isinstance(error.__cause__, InvalidTag):
                raise UnreadableError(f"{where}: it was changed, or is encrypted for another key") from None
            raise
        return bytes(clear)


def read_public_key(path: Path) -> PublicKey:
    """Read a PEM file with a public key. ``UnreadableError``; ``OSError`` if it may not be read."""
    return PublicKey(read_linked_file(path, LARGEST_KEY), str(path))


def read_private_key(path: Path) -> PrivateKey:
    """Read a PEM file with a private key. ``UnreadableError``; ``OSError`` if it may not be read."""
    return PrivateKey(read_linked_file(path, LARGEST_KEY), str(path))


def make_keys() -> tuple[bytes, bytes]:
    """Return a new private key and its public key, each as PEM."""
    x25519, _ = _cryptography()
    from cryptography.hazmat.primitives import serialization as to

    key = x25519.X25519PrivateKey.generate()
    private = key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption())
    public = key.public_key().public_bytes(to.Encoding.PEM, to.PublicFormat.SubjectPublicKeyInfo)
    return private, public


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
