"""A command that came over MQTT, and the way back to who sent it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.reporters.dialects import Publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.messages import Reply
    from limpet.mqtt.link import Incoming


class Request:
    """A ``limpet.plugin.Command``. The answer goes to the response topic that came with it.

    In MQTT 3.1.1, which has none, it goes to ``reply/<name>`` below the device.
    """

    def __init__(self, incoming: Incoming, root: str, send: Callable[[Publish, bytes], None]) -> None:
        self.name = incoming.topic.rpartition("/")[2]
        self.payload = incoming.payload
        self._topic = incoming.response_topic or f"{root}/reply/{self.name}"
        self._correlation = incoming.correlation
        self._send = send

    def reply(self, reply: Reply) -> None:
        """Have the network thread send the answer. From any thread."""
        payload = msgspec.json.encode(reply)
        self._send(Publish(self._topic, payload, content_type="application/json"), self._correlation)
