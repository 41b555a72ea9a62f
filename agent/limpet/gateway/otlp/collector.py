"""The HTTP connection to an OpenTelemetry collector. It blocks, so ``export.py`` has a thread for it.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp.
"""

from __future__ import annotations

import gzip
import re
import ssl
from http.client import HTTPException
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import urllib3

from limpet.device import directories
from limpet.errors import LimpetError, TransportError, UnreadableError
from limpet.untrusted import read_file, reading
from limpet.wire.border import cleaned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from google.protobuf.message import Message

    from limpet.tables import OtlpTable

A = TypeVar("A", bound="Message")

TIMEOUT = 10.0
"""Seconds for each wait for the collector, and for the whole answer."""
LARGEST_ANSWER = 1 << 16
LARGEST_HEADERS = 1 << 14
"""Bytes of the file with headers."""
_RETRYABLE = frozenset({429, 502, 503, 504})
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN = frozenset({"host", "content-type", "content-length", "content-encoding", "transfer-encoding", "connection"})


class RefusedError(LimpetError):
    """The collector will not take this request, however often it is sent."""


class Collector:
    """Sends requests. Files are read now, before the sandbox is entered. ``OSError``, ``UnreadableError``."""

    def __init__(self, table: OtlpTable) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if table.ca_file is not None:
            context.load_verify_locations(table.ca_file)
        elif table.url.startswith("https"):
            context.load_default_certs()
        self._url = table.url.rstrip("/")
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            "User-Agent": "OTLP-Exporter-Limpet",
            **(read_headers(table.headers_file) if table.headers_file else {}),
        }
        self._pool = urllib3.PoolManager(ssl_context=context, num_pools=1, maxsize=1)

    def send(self, path: str, request: Message, answer: type[A]) -> A:
        """Send a request, and return the answer.

        ``TransportError`` if it may be sent again, else ``RefusedError``.
        """
        body = gzip.compress(request.SerializeToString(), 1)
        try:
            response = self._pool.request(
                "POST",
                self._url + path,
                body=body,
                headers=self._headers,
                timeout=TIMEOUT,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                data = _read(response)
            finally:
                response.release_conn()
        except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            raise TransportError(cleaned(f"the collector cannot be reached: {_reason(error)}")) from error
        if response.status in _RETRYABLE:
            raise TransportError(f"the collector is busy: HTTP status {response.status}")
        if response.status != 200:
            raise RefusedError(f"the collector refuses it: HTTP status {response.status}")
        try:
            with reading("the collector's answer"):
                found: A = answer.FromString(data)
        except UnreadableError as error:
            raise RefusedError(str(error)) from error
        return found


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    """Return the body. ``OSError`` if it is too large, or takes too long."""
    data, until = bytearray(), monotonic() + TIMEOUT
    while chunk := response.read1(LARGEST_ANSWER, decode_content=False):
        data += chunk
        if len(data) > LARGEST_ANSWER or monotonic() > until:
            response.close()
            raise OSError(f"its answer has more than {LARGEST_ANSWER} bytes, or takes more than {TIMEOUT:g} s")
    return bytes(data)


def _reason(error: Exception) -> str:
    """Return the innermost reason, without the objects that urllib3 puts before it."""
    found: BaseException = error
    while isinstance(inner := getattr(found, "reason", None), BaseException):
        found = inner
    return str(found).rpartition(">: ")[2] or type(found).__name__


def read_headers(path: Path) -> Mapping[str, str]:
    """Return the headers of a file that has one a line. ``UnreadableError``, ``OSError``."""
    with reading(str(path)):
        text = read_file(directories.credential(path).resolve(), LARGEST_HEADERS).decode("ascii")
    headers = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not line.strip():
            continue
        if not colon or not _NAME.fullmatch(name) or not value.isprintable() or name.lower() in _OWN:
            raise UnreadableError(
                f"{path}:{number}: write a header as `NAME: VALUE`. Limpet sets {', '.join(sorted(_OWN))}"
            )
        headers[name] = value
    return headers
