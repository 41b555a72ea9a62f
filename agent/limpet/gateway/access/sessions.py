"""Sessions of browsers that logged in with a token. They are in memory, so a restart ends them."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import NamedTuple

from limpet.gateway.access.tokens import LONGEST_TOKEN, digest

SECONDS = 12 * 3600
MOST = 64
"""Sessions at once. The oldest ends when one more begins."""


class _Session(NamedTuple):
    name: str
    until: float


class Sessions:
    """Sessions by the hash of their secret. The caller brings the monotonic time."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def begin(self, name: str, now: float) -> str:
        """Begin a session of the owner of a token. Return its secret, for a cookie."""
        secret = secrets.token_urlsafe(32)
        self._sessions[digest(secret)] = _Session(name, now + SECONDS)
        while len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        return secret

    def name_of(self, secret: str, now: float) -> str:
        """Return whose session this is. Empty if there is none, or none any more."""
        if not secret.isascii() or len(secret) > LONGEST_TOKEN:
            return ""
        session = self._sessions.get(digest(secret))
        return session.name if session is not None and now < session.until else ""

    def end(self, secret: str) -> None:
        """End a session. One that does not exist is no error."""
        self._sessions.pop(digest(secret[:LONGEST_TOKEN]), None)
