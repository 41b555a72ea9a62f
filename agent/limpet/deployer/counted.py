"""Counts every byte that comes from a server, and bounds what comes before the body of an answer.

``http.client`` reads interim answers without end, and gives none of the bytes of a head that it refuses.
"""

from __future__ import annotations

import http.client
import io
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from limpet.deployer.failures import SourceFailedError

if TYPE_CHECKING:
    from limpet.deployer.meter import Meter

LARGEST_HEAD = 1 << 16
"""Bytes before the body of an answer: its headers, and all interim answers."""
_BUFFER = 1 << 13


class Tally:
    """Where the bytes of the answer that is read now are counted."""

    def __init__(self) -> None:
        self._meter: Meter | None = None
        self._left = 0
        self._in_head = False

    def begin(self, meter: Meter) -> None:
        """Take note that a request is sent."""
        self._meter, self._left, self._in_head = meter, LARGEST_HEAD, True

    def end_of_head(self) -> None:
        """Take note that the body begins. Its reader bounds it."""
        self._in_head = False

    def came(self, size: int) -> None:
        """Count bytes. ``SourceFailedError`` if a head has too many."""
        if self._meter is not None:
            self._meter.count(size)
        self._left -= size
        if self._in_head and self._left < 0:
            raise SourceFailedError(f"the server sends more than {LARGEST_HEAD} bytes of headers before the file")


class _Counted(io.RawIOBase):
    """What comes from a socket."""

    def __init__(self, raw: io.RawIOBase, tally: Tally) -> None:
        super().__init__()
        self._raw = raw
        self._tally = tally

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        size = self._raw.readinto(buffer)
        self._tally.came(size or 0)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


def counted(pools: urllib3.PoolManager, tally: Tally) -> urllib3.PoolManager:
    """Return the pools, whose connections count what they receive."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
            super().__init__(sock, *arguments, **named)
            unread, raw = self.fp, sock.makefile("rb", buffering=0)
            self.fp = io.BufferedReader(_Counted(raw, tally), _BUFFER)
            unread.close()

    class Http(HTTPConnection):
        response_class = Response

    class Https(HTTPSConnection):
        response_class = Response

    class HttpPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Http

    class HttpsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Https

    pools.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}
    return pools
