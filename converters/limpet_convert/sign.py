"""Ed25519 keys that sign: in a file, or in a running ssh-agent. They sign TUF's metadata and DSSE envelopes.

A private key is PKCS#8 in PEM, its public half SubjectPublicKeyInfo in PEM beside it, as OpenSSL and others read
them. A signature is the plain 64 bytes of RFC 8032. An agent's key never leaves the agent. Its signature of an
``ssh-ed25519`` key is the same 64 bytes (RFC 8709), so a device need not distinguish the two.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from limpet_convert.errors import ConvertError
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

AGENT = "agent:"
_LIST, _KEYS, _SIGN, _SIGNED = 11, 12, 13, 14
_KIND = b"ssh-ed25519"
_LARGEST = 1 << 20


class Signer(Protocol):
    """Who signs. ``public``: the 32 bytes of the public key."""

    public: bytes

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of the signature."""


def documents() -> Any:
    """Return ``limpet.trust.documents``. ``ConvertError`` where python-tuf is not installed."""
    need("tuf.api.metadata")
    return need("limpet.trust.documents")


def key_id(public: bytes) -> str:
    """Return the id of a public key of 32 bytes, as TUF computes it."""
    found: str = documents().key_id(public)
    return found


def sign(signatures: dict[str, Any], data: bytes, signers: Iterable[Signer]) -> None:
    """Add signatures over ``data`` to those of TUF's metadata or of a DSSE envelope, by the ids of keys."""
    containers: Any = need("securesystemslib.signer")
    for one in signers:
        keyid = key_id(one.public)
        signatures[keyid] = containers.Signature(keyid, one.sign(data).hex())


def keygen(path: Path) -> str:
    """Write a new private key to ``path``, for its owner's eyes only, and the public one beside it; return its id.

    ``ConvertError`` where a file of either name is there already: a key is not replaced by accident.
    """
    keys: Any = need("cryptography.hazmat.primitives.asymmetric.ed25519")
    forms: Any = need("cryptography.hazmat.primitives.serialization")
    private = keys.Ed25519PrivateKey.generate()
    pem = private.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    public = private.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
    with ExitStack() as undo:  # Neither half without the other.
        for place, content, mode in ((path, pem, 0o600), (public_path(path), public, 0o644)):
            _write_new(place, content, mode, undo)
        undo.pop_all()
    raw: bytes = private.public_key().public_bytes_raw()
    return key_id(raw)


def _write_new(path: Path, content: bytes, mode: int, undo: ExitStack) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ConvertError(f"{path}: there already; choose another name, or remove it yourself") from error
    undo.callback(path.unlink)
    with os.fdopen(file, "wb") as opened:
        opened.write(content)


def public_path(path: Path) -> Path:
    """Return where the public half of a private key's file is."""
    return path.with_name(path.name + ".pub")


def signer(where: str | Path) -> Signer:
    """Return who signs: a private key's file, or ``agent:COMMENT`` for a key that an ssh-agent holds."""
    if str(where).startswith(AGENT):
        return AgentKey(str(where).removeprefix(AGENT))
    return FileKey(where)


def public_key(path: Path) -> bytes:
    """Return the 32 bytes of a public key's file, PEM or OpenSSH's; or those of a private key's public half."""
    forms: Any = need("cryptography.hazmat.primitives.serialization")
    keys: Any = need("cryptography.hazmat.primitives.asymmetric.ed25519")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}") from error
    if b"PRIVATE KEY-----" in text:
        return FileKey(path).public
    try:
        key = (forms.load_ssh_public_key if text.startswith(b"ssh-") else forms.load_pem_public_key)(text)
    except ValueError as error:
        raise ConvertError(f"{path}: not a public key, as keygen writes it beside the private one") from error
    if not isinstance(key, keys.Ed25519PublicKey):
        raise ConvertError(f"{path}: not an Ed25519 key")
    raw: bytes = key.public_bytes_raw()
    return raw


class FileKey:
    """A private key in a file."""

    def __init__(self, path: Path | str) -> None:
        forms: Any = need("cryptography.hazmat.primitives.serialization")
        keys: Any = need("cryptography.hazmat.primitives.asymmetric.ed25519")
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - a path as it was given
                self._key = forms.load_pem_private_key(file.read(), None)
        except OSError as error:
            raise ConvertError(
                f"{path}: {error.strerror}; make a key with: limpet-convert keygen {path}"
            ) from error
        except (ValueError, TypeError) as error:
            raise ConvertError(f"{path}: not a private key in PEM without a password") from error
        if not isinstance(self._key, keys.Ed25519PrivateKey):
            raise ConvertError(f"{path}: not an Ed25519 key; make one with limpet-convert keygen")
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """See ``Signer``."""
        made: bytes = self._key.sign(data)
        return made


class AgentKey:
    """A key of the ssh-agent at ``SSH_AUTH_SOCK``, found by its comment (draft-ietf-sshm-ssh-agent)."""

    def __init__(self, comment: str) -> None:
        held = dict(self._held())
        if comment not in held:
            known = ", ".join(held) or "none"
            raise ConvertError(f"the ssh-agent holds no Ed25519 key {comment!r}; it holds: {known}")
        self._blob = held[comment]
        self.public = _strings(self._blob)[1]

    def sign(self, data: bytes) -> bytes:
        """See ``Signer``."""
        answer = _ask(bytes([_SIGN]) + _string(self._blob) + _string(data) + struct.pack(">I", 0))
        if answer[0] != _SIGNED:
            raise ConvertError("the ssh-agent refuses to sign")
        kind, signature = _strings(_strings(answer[1:])[0])
        if kind != _KIND:
            raise ConvertError(f"the ssh-agent signed with {kind.decode()}, not with Ed25519")
        return signature

    @staticmethod
    def _held() -> list[tuple[str, bytes]]:
        answer = _ask(bytes([_LIST]))
        if answer[0] != _KEYS:
            raise ConvertError("the ssh-agent does not list its keys")
        parts = _strings(answer[5:])
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return [(comment.decode(), blob) for blob, comment in pairs if _strings(blob)[0] == _KIND]


def _ask(message: bytes) -> bytes:
    where = os.environ.get("SSH_AUTH_SOCK")
    if not where:
        raise ConvertError("there is no ssh-agent: SSH_AUTH_SOCK is not set")
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(where)
            connection.sendall(_string(message))
            return _exactly(connection, min(struct.unpack(">I", _exactly(connection, 4))[0], _LARGEST))
    except OSError as error:
        raise ConvertError(f"the ssh-agent at {where} does not answer: {error}") from error


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            raise ConnectionResetError("it closed the connection")
        received += part
    return bytes(received)


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _strings(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found
