"""Which URLs bundles may be fetched from: URLs are compared by their parts, never as texts. No I/O.

What two readers of URLs could understand differently is refused: user names, backslashes, encoded slashes.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urljoin

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 2048
_PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?P<port>:[0-9]{1,5})?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@/%-]*)?(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?",
    re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})?")
_HIDING = frozenset("./\\%;?#")
"""Characters that change what a path means. They must not be hidden by percent-encoding."""


class Address(NamedTuple):
    """A URL in one form. ``segments`` are those of its path, decoded, without an empty one at the end."""

    scheme: str
    host: str
    port: int
    segments: tuple[str, ...]
    text: str

    @property
    def site(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.scheme, self.host, self.port

    @property
    def is_local(self) -> bool:
        """Whether it is an address of this device's own, of loopback."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


def parse(url: str) -> Address:
    """Return what a URL leads to. ``ValueError`` says what is wrong with it."""
    if len(url) > LONGEST:
        raise ValueError(f"the URL has more than {LONGEST} characters")
    found = _URL.fullmatch(url)
    if not found:
        raise ValueError("it is no plain URL of http or https: no user name, no fragment, ASCII only")
    scheme, path = found["scheme"].lower(), found["path"] or "/"
    host, port = _host(found["host"].lower()), int((found["port"] or ":0")[1:] or 0) or _PORTS[scheme]
    if found["port"] and not 1 <= int(found["port"][1:]) <= 65535:
        raise ValueError(f"there is no port {found['port'][1:]}")
    segments = tuple(_segment(part) for part in path.split("/")[1:])
    while segments and not segments[-1]:
        segments = segments[:-1]
    _check_encoding(found["query"] or "", hiding=frozenset())
    return Address(scheme, host, port, segments, f"{scheme}://{host}:{port}{path}{found['query'] or ''}")


def is_allowed(address: Address, allow: Iterable[str]) -> bool:
    """Whether an address is at one of these URLs or below it. An entry that is no URL allows nothing."""
    return any(_is_below(address, entry) for entry in allow)


def follow(address: Address, location: str) -> Address:
    """Return where a redirect leads. ``ValueError`` if it leads from https to http, or is no proper URL."""
    if len(location) > LONGEST or not (location.isascii() and location.isprintable()) or "\\" in location:
        raise ValueError("the redirect leads to no proper URL")
    leads = parse(urljoin(address.text, location.partition("#")[0]))
    if address.scheme == "https" and leads.scheme != "https":
        raise ValueError("the redirect leads from https to http")
    return leads


def _is_below(address: Address, entry: str) -> bool:
    try:
        allowed = parse(entry)
    except ValueError:
        return False
    below = address.segments[: len(allowed.segments)] == allowed.segments
    return "?" not in entry and address.site == allowed.site and below


def _host(host: str) -> str:
    if host.startswith("["):
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError(f'"{host}" is no name of a host')
    return host


def _segment(part: str) -> str:
    _check_encoding(part, _HIDING)
    decoded = unquote(part, errors="strict")
    if decoded.partition(";")[0] in {".", ".."}:
        raise ValueError('its path has the step "." or ".."')
    if not decoded.isprintable():
        raise ValueError("its path has characters that cannot be printed")
    return decoded


def _check_encoding(text: str, hiding: frozenset[str]) -> None:
    for found in _ENCODED.finditer(text):
        if not found[1]:
            raise ValueError("it has a % that encodes nothing")
        if chr(int(found[1], 16)) in hiding:
            raise ValueError(f"its path hides a character as {found[0]}")
