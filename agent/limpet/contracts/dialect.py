"""What a dialect of MQTT is: messages to topics and payloads, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.messages import (
        DeviceHealth,
        EventMessage,
        ModelReported,
        Origin,
        PipelineHealth,
        ResultMessage,
    )


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


class Dialect(Protocol):
    """How messages are told over MQTT, without I/O. All calls come from one thread.

    What the calls return is published in that order, and nothing else in between of the same dialect. A call may
    return nothing. ``subscriptions`` are topics that it wants to hear, with QoS 1, on each connection.
    ``reserved`` are roots of topics on which other systems act, so that no reply to a command may go there.
    """

    subscriptions: tuple[str, ...]
    reserved: tuple[str, ...]

    def connecting(self, protocol: Literal["5", "3.1.1"]) -> Publish | None:
        """Return the last will for the connection now tried; none: that of the topic ``status`` will do."""

    def connected(self) -> list[Publish]:
        """Return what to say first on a new connection, after subscribing. What was unsent before is void."""

    def results(self, results: Sequence[ResultMessage]) -> list[Publish]:
        """Tell results of one pipeline, at least one, oldest first. Their outputs are as decoded from JSON."""

    def event(self, event: EventMessage) -> list[Publish]:
        """Tell an event."""

    def state(self, message: PipelineHealth | DeviceHealth | ModelReported) -> list[Publish]:
        """Tell a state; it replaces the one before."""

    def received(self, topic: str, payload: bytes) -> list[Publish]:
        """Answer what came on one of the subscriptions; it is not to be trusted."""

    def leaving(self) -> list[Publish]:
        """Return what to say last before a clean end."""


class DialectPlugin(Protocol):
    """A language that messages are told in over MQTT.

    ``root`` is ``limpet/DEVICE``, where its topics begin unless a standard says where.
    """

    Config: Any

    def open(self, config: Any, origin: Origin, root: str) -> Dialect:
        """Begin as after a start of the daemon: nothing is known yet."""
