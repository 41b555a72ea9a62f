"""Decides about each request before the rest of the application sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.gateway.accepted import CONNECTION
from limpet.gateway.access import client

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from limpet.gateway.access import Policy

CLIENT = "limpet.client"
"""Key of the ``Client`` in a request's scope."""


class Guard:
    """The application behind its checks."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope[CLIENT] = client(self._policy, scope["state"][CONNECTION])
        await self._app(scope, receive, send)
