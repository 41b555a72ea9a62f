"""Languages that messages can be told in over MQTT: one module a kind, without I/O. See docs/dialects.md."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from limpet.contracts.messages import DeviceHealth, EventMessage, Message, PipelineHealth, ResultMessage


class Publish(NamedTuple):
    """An MQTT message. What 3.1.1 cannot carry, ``content_type`` and what follows, is left out there."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    content_type: str = ""
    user_properties: tuple[tuple[str, str], ...] = ()
    response_topic: str = ""


class Exclusive(msgspec.Struct):
    """Base of the ``Config`` of a dialect whose broker takes no topics but the dialect's own.

    With it there are no other dialect, no topic ``status`` and no commands.
    """


class Sessionless:
    """The part of a dialect that has nothing to say about connections, and listens to nothing."""

    subscriptions: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()

    def connecting(self, protocol: str) -> Publish | None:  # noqa: ARG002
        """Have no last will of its own."""
        return None

    def connected(self) -> list[Publish]:
        """Say nothing."""
        return []

    def received(self, topic: str, payload: bytes) -> list[Publish]:  # noqa: ARG002
        """Say nothing."""
        return []

    def leaving(self) -> list[Publish]:
        """Say nothing."""
        return []


def subtopic(message: Message) -> str:
    """Return what follows ``limpet/DEVICE/`` in the topic of a message."""
    if isinstance(message, DeviceHealth):
        return "health"
    if isinstance(message, ResultMessage):
        return f"result/{message.pipeline}"
    if isinstance(message, EventMessage):
        return f"event/{message.pipeline}" if message.pipeline else "event"
    if isinstance(message, PipelineHealth):
        return f"health/{message.pipeline}"
    return f"model/{message.pipeline}/reported"
