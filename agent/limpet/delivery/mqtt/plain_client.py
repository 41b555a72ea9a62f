"""A client for a short visit at a broker: no last will, no lasting session, its own client id.

The reporter's own connection has all three, and a second one of it would end the running daemon's.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from limpet.delivery.mqtt import reasons
from limpet.delivery.mqtt.broker_settings import endpoint, password, tls_context
from limpet.delivery.mqtt.guarded_client import GuardedClient
from limpet.delivery.mqtt.negotiation import UNSUPPORTED_VERSION
from limpet.errors import TransportError

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

    from limpet.delivery.mqtt.broker_settings import BrokerSettings

CONNECT_TIMEOUT = 5.0
"""Seconds until a broker must answer."""


def log_in(broker: BrokerSettings, client_id: str) -> tuple[GuardedClient, str]:
    """Return a client that is logged in, and the version of MQTT. ``TransportError`` says why it failed.

    "auto" tries 3.1.1 if the broker says that it does not know 5, or closes the connection.
    """
    version = "5" if broker.protocol == "auto" else broker.protocol
    client, answer = _attempt(broker, client_id, version)
    if broker.protocol == "auto" and (answer is None or answer.value == UNSUPPORTED_VERSION):
        version = "3.1.1"
        client, answer = _attempt(broker, client_id, version)
    if answer is None:
        raise TransportError(reasons.silence(""))
    if answer.is_failure:
        raise TransportError(reasons.refusal(answer.value, answer.getName()))
    return client, version


def _attempt(broker: BrokerSettings, client_id: str, version: str) -> tuple[GuardedClient, ReasonCode | None]:
    """Connect. Return the client and the broker's answer, ``None`` if there was none. ``TransportError``."""
    answers: list[ReasonCode] = []
    to = endpoint(broker.url)
    client = _client(broker, client_id, version)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(reason)
    try:
        client.connect(to.host, to.port, broker.keepalive)
        end = monotonic() + CONNECT_TIMEOUT
        while not answers and monotonic() < end and client.loop(0.1) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass
    except Exception as error:  # what paho raises on bytes that are not MQTT
        raise TransportError(reasons.failure(error, to)) from error
    if not answers or answers[0].is_failure:
        client.disconnect()
    return client, answers[0] if answers else None


def _client(broker: BrokerSettings, client_id: str, version: str) -> GuardedClient:
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
