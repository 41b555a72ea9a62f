"""Whether a request was meant for this device, and comes from its own pages. Decides, without I/O.

A page of any other site can have a browser send requests to loopback and to the local network. It can even give
its own name the address of this device (DNS rebinding). Such requests have foreign names in ``Host`` or
``Origin``.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SAME = ("same-origin", "none")
_READING = ("GET", "HEAD")


def names_of(host_name: str, further: Iterable[str]) -> frozenset[str]:
    """Return the names of this device: its host name, also with ``.local``, ``localhost``, and further ones."""
    own = host_name.lower().rstrip(".")
    short = own.partition(".")[0]
    named = {"localhost", own, short, f"{short}.local", *(name.lower().rstrip(".") for name in further)}
    return frozenset(named - {"", ".local"})


@lru_cache(maxsize=64)
def is_ours(host: str, local: str, names: frozenset[str]) -> bool:
    """Whether a header ``Host`` names this device. ``local``: the address at which the connection came in."""
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not name or parts.netloc != host or "@" in host:
        return False
    with suppress(ValueError):
        if ipaddress.ip_address(name) == ipaddress.ip_address(local):
            return True
    return name.rstrip(".") in names


def without_port(host: str) -> str:
    """Return the name in a header ``Host``, as ``hosts`` in ``[api]`` wants it."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def is_foreign(method: str, host: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser sends a request on behalf of another site. ``headers`` have names in small letters.

    Following a link to this device is no such request, as the other site sees nothing of the answer.
    """
    origin = headers.get("origin")
    if origin is not None:
        scheme, _, authority = origin.partition("://")
        if scheme not in {"http", "https"} or authority.lower() != host.lower():
            return True
    site = headers.get("sec-fetch-site", "none")
    follows_link = method in _READING and headers.get("sec-fetch-mode") == "navigate"
    return site not in _SAME and not follows_link
