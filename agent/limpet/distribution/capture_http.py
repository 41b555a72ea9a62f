"""Sends captures over HTTP or HTTPS, each with one PUT. Needs urllib3."""

from __future__ import annotations

import io
import signal
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from limpet.errors import LimpetError, TransportError
from limpet.untrusted import read_linked_file, reading
from limpet.updates import address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.contracts.captures import Capture

TIMEOUT = 60.0
"""Seconds that a server may be silent."""
LONGEST, LEAST_RATE = 120.0, 4096.0
"""Seconds that a capture may take, and bytes a second that it may take longer for."""
_LONGEST_REASON = 200
_LARGEST_HEADERS = 1 << 14


class HttpSender:
    """Sends captures below a URL: ``URL/DEVICE/PIPELINE/NUMBER.capture``. ``LimpetError`` if it cannot.

    ``headers``: a file with a header a line, such as ``Authorization: Bearer ...``. ``longest``: seconds that a
    capture may take, beside those for its size.
    """

    def __init__(self, url: str, ca_file: Path | None, headers: Path | None, *, longest: float = LONGEST) -> None:
        try:
            import urllib3
        except ModuleNotFoundError as error:
            raise LimpetError("sending over HTTP needs urllib3. Run: pip install 'limpet[updates]'") from error
        try:
            at = address.parse(url)
        except ValueError as error:
            raise LimpetError(f"{url}: {error}") from error
        if "?" in url:
            raise LimpetError(f'{url}: leave out what follows the "?"')
        if headers is not None and at.scheme == "http" and not at.is_local:
            raise LimpetError(f"{url}: the headers hold secrets, so the URL must begin with https://")
        self._url = at.text.rstrip("/")
        self._headers = {} if headers is None else read_headers(headers)
        self._longest = longest
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._failures = (urllib3.exceptions.HTTPError, OSError)
        self._pool = urllib3.PoolManager(ssl_context=context, retries=False, timeout=TIMEOUT)

    def send(self, capture: Capture, data: bytes) -> None:
        """Send a capture file. ``TransportError`` if the server does not take it."""
        url = f"{self._url}/{capture.device}/{capture.pipeline}/{capture.number:010d}.capture"
        length = {"content-type": "application/octet-stream", "content-length": str(len(data))}
        # As a file: then the time that a server may be silent holds for each block of it.
        body = io.BytesIO(data)
        try:
            with _limited(self._longest + len(data) / LEAST_RATE, url):
                answer = self._pool.request(
                    "PUT", url, body=body, headers=length | self._headers, redirect=False, preload_content=False
                )
                # An answer beside its status is not needed, and may have no end.
                answer.release_conn() if answer.length_remaining == 0 else answer.close()
        except self._failures as error:
            raise TransportError(f"{url}: {error}") from error
        if not 200 <= answer.status < 300:
            reason = (answer.reason or "")[:_LONGEST_REASON]
            raise TransportError(f"{url}: the server answers {answer.status} {reason}".rstrip())

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()


@contextmanager
def _limited(seconds: float, url: str) -> Iterator[None]:
    """End what takes longer: a server could take or send one byte after the other, each in time.

    Only for the main thread. ``TransportError``.
    """

    def late(*_: object) -> None:
        raise TransportError(f"{url}: the server takes longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def read_headers(path: Path) -> dict[str, str]:
    """Return the headers of a file that has one a line. ``LimpetError``."""
    with reading(str(path)):
        text = read_linked_file(path, _LARGEST_HEADERS).decode("ascii")
    headers = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if line.strip() and not (colon and name.replace("-", "").isalnum() and value.isprintable()):
            raise LimpetError(f"{path}, line {number}: write a header as `NAME: VALUE`")
        if line.strip():
            headers[name] = value
    return headers
