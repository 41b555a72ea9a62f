"""Why a client's request is refused, whatever protocol it came by."""

from __future__ import annotations

from typing import Literal, TypeAlias

from limpet.errors import LimpetError

Cause: TypeAlias = Literal["invalid", "denied", "unknown", "too large", "busy", "failed"]
"""``invalid``: the request is wrong. ``denied``: this client may not do that. ``unknown``: there is no such thing.
``busy``: another try may help. ``failed``: the model or its process failed."""


class RequestError(LimpetError):
    """A request gets this text as its answer. The client that sent it is the only one that fails."""

    def __init__(self, cause: Cause, text: str) -> None:
        super().__init__(text)
        self.cause: Cause = cause
