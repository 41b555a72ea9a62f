"""What a dialect of MQTT must do: turn messages into topics and payloads, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from limpet.contracts.messages import (
        DeviceHealth,
        EventMessage,
        ModelReported,
        Origin,
        PipelineHealth,
        ResultMessage,
        SnapshotMessage,
    )


class Publish(NamedTuple):
    """An MQTT message. MQTT 3.1.1 has no ``content_type`` and none of the fields after it: they are left out."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    content_type: str = ""
    user_properties: tuple[tuple[str, str], ...] = ()
    response_topic: str = ""


def clear(topics: Iterable[str]) -> list[Publish]:
    """Return what has the broker forget the retained messages of these topics."""
    return [Publish(topic, b"", retain=True) for topic in topics]


class Exclusive(msgspec.Struct):
    """Base of the ``Config`` of a dialect whose broker accepts only the topics of that dialect.

    Then there is no other dialect, no topic ``status`` and no command.
    """


class Sessionless:
    """Base of a dialect that publishes nothing about connections and subscribes to nothing."""

    subscriptions: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()

    def connecting(self, protocol: str) -> Publish | None:  # noqa: ARG002
        """Return no last will."""
        return None

    def connected(self) -> list[Publish]:
        """Publish nothing."""
        return []

    def snapshot(self, message: SnapshotMessage, topic: str) -> list[Publish]:  # noqa: ARG002
        """Publish nothing about pictures."""
        return []

    def received(self, topic: str, payload: bytes) -> list[Publish]:  # noqa: ARG002
        """Publish nothing."""
        return []

    def removed(self, pipeline: str) -> list[Publish]:  # noqa: ARG002
        """Clear nothing."""
        return []

    def leaving(self) -> list[Publish]:
        """Publish nothing."""
        return []


class Dialect(Protocol):
    """A message format, without I/O. All calls come from one thread.

    Each call returns what is to be published, which may be nothing. It is published in that order, with nothing
    else of the same dialect in between. ``subscriptions``: topics to subscribe to, with QoS 1, on each connection.
    ``reserved``: roots of topics on which other systems act, so no reply to a command may go there.
    """

    subscriptions: tuple[str, ...]
    reserved: tuple[str, ...]

    def connecting(self, protocol: Literal["5", "3.1.1"]) -> Publish | None:
        """Return the last will for the next connection. Default: that of the topic ``status``."""

    def connected(self) -> list[Publish]:
        """Return what to publish first on a new connection, after subscribing. What was unsent is dropped."""

    def results(self, results: Sequence[ResultMessage]) -> list[Publish]:
        """Return what results of one pipeline become. There is at least one, and the oldest is first.

        Their outputs are as decoded from JSON.
        """

    def event(self, event: EventMessage) -> list[Publish]:
        """Return what an event becomes."""

    def state(self, message: PipelineHealth | DeviceHealth | ModelReported) -> list[Publish]:
        """Return what a state becomes. It replaces the one before."""

    def snapshot(self, message: SnapshotMessage, topic: str) -> list[Publish]:
        """Return what to say about a picture, such as where it is. The picture itself is published on ``topic``.

        An empty ``jpeg`` says that there is none any more.
        """

    def removed(self, pipeline: str) -> list[Publish]:
        """Return what clears the retained messages of a pipeline that is not configured any more.

        It may be one of an earlier run, of which the dialect knows nothing.
        """

    def received(self, topic: str, payload: bytes) -> list[Publish]:
        """Return the answer to a message on one of the subscriptions. The payload is not to be trusted."""

    def leaving(self) -> list[Publish]:
        """Return what to publish last before a clean end."""


class DialectPlugin(Protocol):
    """A message format, such as Home Assistant discovery or Sparkplug B.

    ``root`` is ``limpet/DEVICE``, where its topics begin unless a standard says where.
    """

    Config: Any

    def open(self, config: Any, origin: Origin, root: str) -> Dialect:
        """Return a dialect as after a start of the daemon, which knows nothing yet."""
