"""The HTTP connection to an OpenTelemetry collector. It blocks, so ``export.py`` has a thread for it.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp.
"""

from __future__ import annotations

import gzip
from http.client import HTTPException
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import urllib3

from limpet.errors import LimpetError, TransportError, UnreadableError
from limpet.untrusted import reading
from limpet.wire.border import cleaned

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from limpet.gateway.otlp.collector_files import CollectorFiles

A = TypeVar("A", bound="Message")

TIMEOUT = 10.0
"""Seconds for each wait for the collector, and for the whole answer."""
LARGEST_ANSWER = 1 << 16
_RETRYABLE = frozenset({429, 502, 503, 504})
LONGEST_WAIT = 3600.0
"""Seconds for which a collector can ask to be left alone."""


class RefusedError(LimpetError):
    """The collector will not take this request, however often it is sent."""


class BusyError(TransportError):
    """The collector is busy. ``seconds``: for how long it wants to be left alone. 0 if it does not say."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


class Collector:
    """Sends requests. ``url`` is without a path of OTLP. ``files`` were read before."""

    def __init__(self, url: str, files: CollectorFiles) -> None:
        self._url = url.rstrip("/")
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            "User-Agent": "OTLP-Exporter-Limpet",
            **files.headers,
        }
        self._pool = urllib3.PoolManager(ssl_context=files.tls, num_pools=1, maxsize=1)

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
            seconds = _seconds(response.headers.get("Retry-After", ""))
            raise BusyError(f"the collector is busy: HTTP status {response.status}", seconds)
        if not 200 <= response.status < 300:
            raise RefusedError(f"the collector refuses it: HTTP status {response.status}")
        if response.status != 200:  # some accept it so, against the protocol, and their answer is no message
            data = b""
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


def _seconds(retry_after: str) -> float:
    """Return the seconds of a header ``Retry-After``. 0 if it has a date, as the clock may be wrong."""
    is_number = retry_after.isascii() and retry_after.isdecimal()
    return min(float(retry_after), LONGEST_WAIT) if is_number else 0.0


def _reason(error: Exception) -> str:
    """Return the innermost reason, without the objects that urllib3 puts before it."""
    found: BaseException = error
    while isinstance(inner := getattr(found, "reason", None), BaseException):
        found = inner
    return str(found).rpartition(">: ")[2] or type(found).__name__
