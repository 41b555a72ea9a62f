"""What all parts of the gateway share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from limpet.gateway.access.credentials import Credentials
    from limpet.gateway.feed import Feed
    from limpet.gateway.link import SupervisorLink
    from limpet.gateway.open_inference.service import OpenInference
    from limpet.wire.gateway_records import Begin


class Context(NamedTuple):
    """``begin``: what is served, and where. ``supervisor`` answers requests. ``feed`` has what happens.

    ``credentials``: tokens and sessions of clients. ``open_inference`` runs models.
    """

    begin: Begin
    supervisor: SupervisorLink
    feed: Feed
    credentials: Credentials
    open_inference: OpenInference
