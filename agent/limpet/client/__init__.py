"""Programs use the daemon on the same device: results and events as they come, inference, commands.

``Client`` blocks, ``AsyncClient`` is for asyncio. Both have the same methods. They need the extra ``client`` and a
daemon with the table ``[api]``, on whose Unix socket they send HTTP. Only inference needs numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limpet.client.asynchronous import AsyncClient, AsyncStream
    from limpet.client.blocking import Client, Stream
    from limpet.client.errors import ClientError, RefusedError, UnavailableError
    from limpet.client.messages import Health, Model, ModelFacts, TensorFacts
    from limpet.contracts.api import PipelineView
    from limpet.contracts.messages import DeviceHealth, EventMessage, PipelineHealth, ResultMessage

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Client",
    "ClientError",
    "DeviceHealth",
    "EventMessage",
    "Health",
    "Model",
    "ModelFacts",
    "PipelineHealth",
    "PipelineView",
    "RefusedError",
    "ResultMessage",
    "Stream",
    "TensorFacts",
    "UnavailableError",
]

_MODULES = {
    **dict.fromkeys(("AsyncClient", "AsyncStream"), "limpet.client.asynchronous"),
    **dict.fromkeys(("Client", "Stream"), "limpet.client.blocking"),
    **dict.fromkeys(("ClientError", "RefusedError", "UnavailableError"), "limpet.client.errors"),
    **dict.fromkeys(("Health", "Model", "ModelFacts", "TensorFacts"), "limpet.client.messages"),
    "PipelineView": "limpet.contracts.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a program without asyncio does not load it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES.get(name, "limpet.contracts.messages")), name)
