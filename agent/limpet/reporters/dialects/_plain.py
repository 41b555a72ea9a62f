"""Dialects that encode each message as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet.contracts.dialect import Publish, Sessionless, clear
from limpet.delivery.mqtt.topics import retained, subtopic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.messages import DeviceHealth, EventMessage, ModelReported, PipelineHealth, ResultMessage


class Plain(Sessionless):
    """A batch is an array, one result alone is not; ``root`` begins each topic."""

    def __init__(self, root: str, encode: Callable[[Any], bytes], content_type: str) -> None:
        self._root = root
        self._encode = encode
        self._content_type = content_type

    def results(self, results: Sequence[ResultMessage]) -> list[Publish]:
        """Return one message with all results."""
        return [self._publish(subtopic(results[0]), results if len(results) > 1 else results[0], retain=False)]

    def event(self, event: EventMessage) -> list[Publish]:
        """Return the event."""
        return [self._publish(subtopic(event), event, retain=False)]

    def state(self, message: PipelineHealth | DeviceHealth | ModelReported) -> list[Publish]:
        """Return the state as a retained message."""
        return [self._publish(subtopic(message), message, retain=True)]

    def removed(self, pipeline: str) -> list[Publish]:
        """Clear the retained states."""
        return clear(f"{self._root}/{topic}" for topic in retained(pipeline))

    def _publish(self, topic: str, content: object, *, retain: bool) -> Publish:
        return Publish(
            f"{self._root}/{topic}", self._encode(content), retain=retain, content_type=self._content_type
        )
