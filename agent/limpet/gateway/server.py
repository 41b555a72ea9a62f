"""The HTTP server: uvicorn on sockets that were opened before the sandbox was entered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from starlette.types import ASGIApp


def server(app: ASGIApp) -> uvicorn.Server:
    """Return the server. ``serve(sockets=...)`` serves until ``should_exit`` is set."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        loop="asyncio",
    )
    return uvicorn.Server(config)


async def serve(app: ASGIApp, sockets: Sequence[socket.socket]) -> None:
    """Serve until the process ends."""
    await server(app).serve(sockets=list(sockets))
