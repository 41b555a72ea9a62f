"""Fetches a file from an HTTP server into a ``Part``. ``limpet.deployer.answers`` decides what answers mean."""

from __future__ import annotations

import http.client
import signal
import ssl
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from time import monotonic
from typing import TYPE_CHECKING

import urllib3

from limpet.deployer import answers, ranges
from limpet.deployer.answers import Asked, Redirect
from limpet.deployer.attempts import Pace
from limpet.deployer.counted import Tally, counted
from limpet.deployer.failures import SourceFailedError
from limpet.updates import address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.deployer.meter import Meter
    from limpet.deployer.part import Part
    from limpet.wire.deploy_records import Links

MOST_REDIRECTS = 5
LARGEST_READ = 1 << 16
_UNREACHABLE = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)


class Web:
    """How this device reaches servers. Certificates are read now, before the sandbox is entered. ``OSError``.

    Proxies of the environment are ignored, as urllib3 does by itself.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if links.ca_file:
            context.load_verify_locations(links.ca_file)
        else:
            context.load_default_certs()
        if links.certificate:
            # Without a password: OpenSSL would ask for one at the terminal.
            context.load_cert_chain(links.certificate, links.key, password="")
        self._tally = Tally()
        self._pool = counted(_pool(links.proxy, context), self._tally)

    def fetch(self, url: str, part: Part, meter: Meter) -> None:
        """Fetch what is missing, one range after the other. ``SourceFailedError`` if that stops on the way."""
        while not part.complete:
            begin, end = ranges.missing(part.ranges, part.length)[0]
            self._fetch_range(url, Asked(begin, end, part.length, part.validator_at(url)), part, meter)

    def fetch_whole(self, url: str, part: Part, meter: Meter) -> None:
        """Fetch the file from its first byte, for a server that cannot send parts."""
        self._fetch_range(url, Asked(0, part.length, part.length), part, meter)

    def _fetch_range(self, url: str, asked: Asked, part: Part, meter: Meter) -> None:
        at = self._checked(url)
        for _ in range(MOST_REDIRECTS + 1):
            with closing(self._request(at, asked, meter)) as response:
                answer = answers.read(response.status, response.headers, asked, datetime.now(timezone.utc))
                if isinstance(answer, Redirect):
                    at = self._redirected(at, answer)
                    continue
                if answer.afresh:
                    part.forget()
                part.came_from(url, answer.validator)
                self._take(response, answer.begin, answer.end, part, meter)
                return
        raise SourceFailedError(f"the server redirects more than {MOST_REDIRECTS} times", final=True)

    def _checked(self, url: str) -> address.Address:
        try:
            return self._allowed(address.parse(url))
        except ValueError as error:
            raise SourceFailedError(f"the URL cannot be used: {error}", final=True) from error

    def _redirected(self, at: address.Address, answer: Redirect) -> address.Address:
        try:
            return self._allowed(address.follow(at, answer.location))
        except ValueError as error:
            raise SourceFailedError(f"redirected: {error}", final=True) from error

    def _allowed(self, at: address.Address) -> address.Address:
        if not address.is_allowed(at, self._links.allow):
            raise ValueError(f"{at.scheme}://{at.host}:{at.port} with this path is not in updates.allow")
        return at

    def _request(self, at: address.Address, asked: Asked, meter: Meter) -> urllib3.BaseHTTPResponse:
        timeout = min(self._links.timeout, meter.left())
        self._tally.begin(meter)
        try:
            with _limited(timeout):
                response = self._pool.request(
                    "GET",
                    at.text,
                    headers=asked.headers(),
                    timeout=timeout + 1.0,  # ``_limited`` ends it before
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
        except _UNREACHABLE as error:
            raise SourceFailedError(_reason(error)) from error
        self._tally.end_of_head()
        return response

    def _take(self, response: urllib3.BaseHTTPResponse, position: int, end: int, part: Part, meter: Meter) -> None:
        rate, timeout = self._links.bytes_per_second, self._links.timeout
        pace = Pace(rate, timeout, monotonic())
        largest = max(1024, min(LARGEST_READ, int(rate / 4))) if rate else LARGEST_READ
        while position < end:
            try:
                with _limited(min(timeout, meter.left())):
                    data = response.read1(min(largest, end - position), decode_content=False)
            except _UNREACHABLE as error:
                raise SourceFailedError(
                    f"cut off after {position} of {part.length} bytes: {_reason(error)}"
                ) from error
            if not data:
                raise SourceFailedError(f"cut off after {position} of {part.length} bytes")
            part.write(position, data)
            position += len(data)
            meter.check_budget()
            meter.report(part.present)
            if pace.too_slow(monotonic()):
                reason = f"the server sends too slowly; {position} of {part.length} bytes are here"
                raise SourceFailedError(reason, slow=True)
            if (wait := pace.took(len(data), monotonic())) > 0:
                meter.sleep(wait)


def _pool(proxy: str, context: ssl.SSLContext) -> urllib3.PoolManager:
    if not proxy:
        return urllib3.PoolManager(ssl_context=context)
    found = urllib3.util.parse_url(proxy)
    headers = urllib3.make_headers(proxy_basic_auth=found.auth) if found.auth else None
    return urllib3.ProxyManager(found._replace(auth=None).url, proxy_headers=headers, ssl_context=context)


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """End what takes longer. A server could send one byte after the other, each in time."""

    def late(*_: object) -> None:
        raise SourceFailedError(f"the server takes longer than {seconds:.0f} s", slow=True)

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _reason(error: BaseException) -> str:
    """Return in words why a server cannot be reached: of a chain of errors the first one says it."""
    cause = error
    while deeper := cause.__cause__ or _wrapped(cause):
        cause = deeper
    text = (cause.strerror if isinstance(cause, OSError) else "") or str(cause) or type(cause).__name__
    return " ".join(str(text).split())[:200]


def _wrapped(error: BaseException) -> BaseException | None:
    """Return the error that urllib3 gave up after."""
    return error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else None
