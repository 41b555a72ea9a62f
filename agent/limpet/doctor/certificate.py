"""When a certificate expires, read from its file. Python's ``ssl`` shows only the other side's."""

from __future__ import annotations

import ssl
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0
_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"


class _Element(NamedTuple):
    """One element of DER (ITU-T X.690): tag and content, and what follows it."""

    tag: int
    content: bytes
    rest: bytes


def expires(path: Path) -> float:
    """Return when the first certificate of a PEM file ends, in seconds since 1970.

    ``ValueError`` where there is none that can be read, ``OSError`` where there is no file.
    """
    text = path.read_text(encoding="ascii", errors="replace")
    begin, end = text.find(_BEGIN), text.find(_END)
    if begin < 0 or end < begin:
        raise ValueError(f"{path} holds no certificate in PEM form")
    return not_after(ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)]))


def not_after(der: bytes) -> float:
    """Return the end of a certificate's validity (RFC 5280, 4.1), in seconds since 1970. ``ValueError``."""
    inner = _element(_element(der).content).content
    element = _element(inner)
    fields = 3 if element.tag == _VERSION else 2  # [version,] serial number, algorithm, issuer, then validity
    for _ in range(fields + 1):
        element = _element(element.rest)
    if element.tag != _SEQUENCE:
        raise ValueError("no validity where a certificate has it")
    return _time(_element(_element(element.content).rest))


def _element(data: bytes) -> _Element:
    if len(data) < 2:
        raise ValueError("the certificate ends too early")
    start, length = 2, data[1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("the certificate ends too early")
    return _Element(data[0], data[start : start + length], data[start + length :])


def _time(element: _Element) -> float:
    if element.tag not in {_UTC_TIME, _GENERALIZED_TIME}:
        raise ValueError("no time where a certificate has it")
    text = element.content.decode("ascii")
    if element.tag == _UTC_TIME:  # two digits of the year: 50 to 99 are 1950 to 1999
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
