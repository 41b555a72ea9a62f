"""What to ask of an HTTP server, and what its answer means. Decides, without I/O."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

from limpet.deployer.failures import SourceFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_VALIDATOR = 256
LONGEST_WAIT = 300.0
"""Seconds of a Retry-After that are waited for. The next deployer asks a server that wants more."""
_PASSING = {408, 425, 429, 407}
_REDIRECTS = {301, 302, 303, 307, 308}
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)")
_ETAG = re.compile(r'"[!#-~]*"')


class Asked(NamedTuple):
    """A request for the bytes from ``begin`` to ``end``. ``validator``: of the version that is there in part."""

    begin: int
    end: int
    length: int
    validator: str = ""

    @property
    def in_part(self) -> bool:
        """Whether this is a part of the file."""
        return self.begin > 0 or self.end < self.length

    def headers(self) -> dict[str, str]:
        """Return the headers of the request."""
        headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "limpet"}
        if self.in_part:
            headers["Range"] = f"bytes={self.begin}-{self.end - 1}"
            if self.validator:
                headers["If-Range"] = self.validator
        return headers


class Body(NamedTuple):
    """The body has the bytes from ``begin`` to ``end``. ``afresh``: of another version than what is there."""

    begin: int
    end: int
    validator: str
    afresh: bool


class Redirect(NamedTuple):
    """The file is elsewhere."""

    location: str


def read(status: int, headers: Mapping[str, str], asked: Asked, now: datetime) -> Body | Redirect:
    """Return what an answer means. ``SourceFailedError`` if it has no bytes that can be used.

    Names in ``headers`` may have any case.
    """
    if status in _REDIRECTS:
        if not (location := headers.get("Location")):
            raise SourceFailedError("the server redirects to nowhere", final=True)
        return Redirect(location)
    if status == 416:
        raise SourceFailedError("the server has no such range (416)", afresh=True)
    if status not in {200, 206}:
        passing = status in _PASSING or status >= 500
        wait = _retry_after(headers.get("Retry-After", ""), now) if passing else 0.0
        raise SourceFailedError(f"the server answers {status}", final=not passing, wait=wait)
    if headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise SourceFailedError("the server sends the file compressed, though Limpet asks it not to", final=True)
    return _whole(headers, asked) if status == 200 else _part(headers, asked)


def validator_of(headers: Mapping[str, str]) -> str:
    """Return what stands for the version of a file: a strong ETag, or Last-Modified; empty if there is none."""
    etag, modified = headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip()
    found = etag if _ETAG.fullmatch(etag) else modified
    return found if len(found) <= LONGEST_VALIDATOR and found.isascii() and found.isprintable() else ""


def _whole(headers: Mapping[str, str], asked: Asked) -> Body:
    length = headers.get("Content-Length", "")
    if length and length != str(asked.length):
        raise SourceFailedError(f"the server's file has {length[:20]} bytes, not {asked.length}", final=True)
    validator = validator_of(headers)
    return Body(0, asked.length, validator, afresh=bool(asked.validator) and validator != asked.validator)


def _part(headers: Mapping[str, str], asked: Asked) -> Body:
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if not found:
        raise SourceFailedError("the server sends a part without saying which one", afresh=True)
    begin, end = int(found[1]), int(found[2]) + 1
    if found[3] not in {"*", str(asked.length)}:
        raise SourceFailedError(f"the server's file has {found[3]} bytes, not {asked.length}", final=True)
    if begin != asked.begin or not begin < end <= asked.end:
        raise SourceFailedError(f"the server sends bytes {begin} to {end} unasked", afresh=True)
    if headers.get("Content-Length", str(end - begin)) != str(end - begin):
        raise SourceFailedError("the server contradicts itself about the length of a part", afresh=True)
    validator = validator_of(headers)
    if asked.validator and validator and validator != asked.validator:
        raise SourceFailedError("the file on the server changed", afresh=True)
    return Body(begin, end, validator or asked.validator, afresh=False)


def _retry_after(text: str, now: datetime) -> float:
    """Return the seconds that a server wants to be left alone."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return min(float(text), LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(text)
        when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
        return min(max((when - now).total_seconds(), 0.0), LONGEST_WAIT)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
