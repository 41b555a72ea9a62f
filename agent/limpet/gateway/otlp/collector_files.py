"""The files that are read for an OpenTelemetry collector, before the sandbox: certificates, and headers."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, NamedTuple

from limpet.device import directories
from limpet.gateway.files import FileError
from limpet.untrusted import read_linked_file, reading

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.tables import OtlpTable

LARGEST = 1 << 14
"""Bytes of the file with headers."""
OWN = frozenset({"host", "content-type", "content-length", "content-encoding", "transfer-encoding", "connection"})
"""Headers that Limpet sets."""
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class CollectorFiles(NamedTuple):
    """Settings of TLS, and headers of each request."""

    tls: ssl.SSLContext
    headers: dict[str, str]


def read(table: OtlpTable) -> CollectorFiles:
    """Read the files. ``LimpetError``."""
    headers = read_headers(table.headers_file) if table.headers_file is not None else {}
    return CollectorFiles(_tls(table), headers)


def _tls(table: OtlpTable) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if table.ca_file is None:
        if table.url.startswith("https"):
            context.load_default_certs()
        return context
    try:
        context.load_verify_locations(table.ca_file)
    except OSError as error:
        raise FileError(f"api.otlp.ca_file {table.ca_file}: {error}") from error
    return context


def read_headers(path: Path) -> dict[str, str]:
    """Return the headers of a file that has one a line. ``LimpetError``."""
    key = f"api.otlp.headers_file {path}"
    try:
        data = read_linked_file(directories.credential(path), LARGEST)
    except OSError as error:
        raise FileError(f"{key}: {error.strerror}") from error
    with reading(key):
        text = data.decode("ascii")
    headers = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not line.strip():
            continue
        if not colon or not _NAME.fullmatch(name) or not value.isprintable():
            raise FileError(f"{key}, line {number}: write a header as `NAME: VALUE`")
        if name.lower() in OWN:
            raise FileError(f"{key}, line {number}: Limpet sets {name} itself. Remove this line")
        headers[name] = value
    return headers
