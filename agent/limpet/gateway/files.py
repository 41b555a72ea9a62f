"""The files that the gateway reads before it enters its sandbox: tokens, certificates, its key."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NamedTuple

from limpet.device import directories
from limpet.errors import LimpetError
from limpet.gateway.access import tokens
from limpet.untrusted import read_linked_file

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.gateway.access.tokens import Token
    from limpet.tables import ApiTable

LARGEST_CERTIFICATES = 1 << 20
"""Bytes of a file with certificates or a key."""


class FileError(LimpetError):
    """A file of ``[api]`` cannot be used. The text says which one and why."""


class Pem(NamedTuple):
    """Certificate, key and authorities of clients, as their files have them. For gRPC."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


def read_tokens(table: ApiTable) -> tuple[Token, ...]:
    """Return the tokens of the device. ``FileError``."""
    if table.token_file is None:
        return ()
    path = directories.credential(table.token_file)
    try:
        return tokens.parse(_read(path, tokens.LARGEST_FILE, "token_file"), str(path))
    except FileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise FileError(f"{error}. To make a token, run: limpet token NAME >> {path}") from error.__cause__
        raise


def read_pem(table: ApiTable) -> Pem | None:
    """Return what TLS needs. ``None`` without TLS. ``FileError``."""
    if table.certificate is None or table.key is None:
        return None
    authorities = table.client_ca and _read(table.client_ca, LARGEST_CERTIFICATES, "client_ca")
    return Pem(
        _read(table.certificate, LARGEST_CERTIFICATES, "certificate"),
        _read(directories.credential(table.key), LARGEST_CERTIFICATES, "key"),
        authorities or None,
    )


def tls(table: ApiTable) -> ssl.SSLContext | None:
    """Return the settings of TLS for HTTP. ``None`` without TLS. ``FileError``."""
    if table.certificate is None or table.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    certificate, key = table.certificate, directories.credential(table.key)
    _read(certificate, LARGEST_CERTIFICATES, "certificate")
    _read(key, LARGEST_CERTIFICATES, "key")
    try:
        # An empty password, so that OpenSSL does not ask for one.
        context.load_cert_chain(certificate, key, "")
    except (OSError, ValueError) as error:
        raise FileError(f"api.certificate {certificate}, api.key {key}: {error}") from error
    if table.client_ca is not None:
        _trust(context, table.client_ca)
    return context


def _trust(context: ssl.SSLContext, authorities: Path) -> None:
    # Optional: a client without a certificate gets an answer that says what it needs.
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(authorities)
    except OSError as error:
        raise FileError(f"api.client_ca {authorities}: {error}") from error


def _read(path: Path, largest: int, key: str) -> bytes:
    try:
        return read_linked_file(path, largest)
    except OSError as error:
        raise FileError(f"api.{key} {path}: {error.strerror}") from error
