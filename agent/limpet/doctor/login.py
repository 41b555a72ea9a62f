"""A login at the broker and nothing else: no last will, no lasting session, its own client id.

The reporter's own connection has all three, and a second one of it would end the running daemon's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from paho.mqtt.enums import MQTTErrorCode

from limpet.delivery.mqtt import reasons
from limpet.delivery.mqtt.broker_settings import endpoint
from limpet.delivery.mqtt.plain_client import plain_client
from limpet.errors import TransportError

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

    from limpet.delivery.mqtt.broker_settings import BrokerSettings

_TIMEOUT = 5.0
_UNSUPPORTED_VERSION = 0x84


def log_in(broker: BrokerSettings, client_id: str) -> str:
    """Return the version of MQTT in which the login succeeded. ``TransportError`` says why it failed.

    "auto" tries 3.1.1 if the broker says that it does not know 5, or closes the connection.
    """
    if broker.protocol != "auto":
        return _attempt(broker, client_id, broker.protocol)
    answer = _answer(broker, client_id, "5")
    if answer is None or answer.value == _UNSUPPORTED_VERSION:
        return _attempt(broker, client_id, "3.1.1")
    return _judge(answer, "5")


def _attempt(broker: BrokerSettings, client_id: str, version: str) -> str:
    return _judge(_answer(broker, client_id, version), version)


def _judge(answer: ReasonCode | None, version: str) -> str:
    if answer is None:
        raise TransportError(reasons.silence(""))
    if answer.is_failure:
        raise TransportError(reasons.refusal(answer.value, answer.getName()))
    return version


def _answer(broker: BrokerSettings, client_id: str, version: str) -> ReasonCode | None:
    """Connect and disconnect. Return the broker's answer, ``None`` if there was none. ``TransportError``."""
    answers: list[ReasonCode] = []
    to = endpoint(broker.url)
    client = plain_client(broker, client_id, version)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(reason)
    try:
        client.connect(to.host, to.port, broker.keepalive)
        end = time.monotonic() + _TIMEOUT
        while not answers and time.monotonic() < end and client.loop(0.25) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass
    except Exception as error:  # what paho raises on bytes that are not MQTT
        raise TransportError(reasons.failure(error, to)) from error
    client.disconnect()
    return answers[0] if answers else None
