"""A client for a short visit at a broker: no last will, no lasting session, its own client id.

The reporter's own connection has all three, and a second one of it would end the running daemon's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from limpet.delivery.mqtt.broker_settings import endpoint, password, tls_context
from limpet.delivery.mqtt.guarded_client import GuardedClient

if TYPE_CHECKING:
    from limpet.delivery.mqtt.broker_settings import BrokerSettings

CONNECT_TIMEOUT = 5.0
"""Seconds until a broker must answer."""


def plain_client(broker: BrokerSettings, client_id: str, version: str) -> GuardedClient:
    """Return a client that is not connected yet. ``TransportError`` if a file with a secret cannot be read."""
    to = endpoint(broker.url)
    client = GuardedClient(
        version,
        CallbackAPIVersion.VERSION2,
        client_id,
        protocol=MQTTProtocolVersion.MQTTv5 if version == "5" else MQTTProtocolVersion.MQTTv311,
        transport="websockets" if to.path else "tcp",
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_TIMEOUT
    if to.path:
        client.ws_set_options(to.path)
    if to.tls:
        client.tls_set_context(tls_context(broker))
    if broker.username:
        client.username_pw_set(broker.username, password(broker))
    return client
