"""CloudEvents 1.0 under ``limpet/DEVICE/cloudevents/``, one a message.

In MQTT 5 the attributes are user properties (binary mode), in 3.1.1 they stand in the payload (structured mode).
See the CloudEvents MQTT protocol binding, https://github.com/cloudevents/spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from limpet.contracts.detected_events import KeywordEvent, ObjectEvent, ZoneEvent
from limpet.contracts.dialect import Publish, Sessionless, clear
from limpet.contracts.drift import DriftEvent
from limpet.contracts.messages import DeviceHealth, EventMessage, Message, PipelineHealth, ResultMessage
from limpet.delivery.mqtt.topics import retained, subtopic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.messages import EventDetails, ModelReported, Origin

__all__ = ["CloudEvents", "Config", "open"]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """CloudEvents."""

    source: str = ""
    """Attribute `source`, a URI reference. Default: `/limpet/DEVICE`. Example: `"//plant-2.example/press-07"`."""


def open(config: Config, origin: Origin, root: str) -> CloudEvents:  # noqa: ARG001
    """Return a dialect that publishes under ``root/cloudevents``."""
    return CloudEvents(f"{root}/cloudevents", config.source or "/" + quote(root))


class CloudEvents(Sessionless):
    """Each message is an event. ``replayed`` is an extension attribute, there only where it is true."""

    def __init__(self, root: str, source: str) -> None:
        self._root = root
        self._source = source
        self._binary = True

    def connecting(self, protocol: str) -> None:
        """Choose the mode that the protocol, "5" or "3.1.1", allows."""
        self._binary = protocol == "5"

    def results(self, results: Sequence[ResultMessage]) -> list[Publish]:
        """Return a message for each result: the MQTT binding knows no batches."""
        return [self._publish(result, retain=False) for result in results]

    def event(self, event: EventMessage) -> list[Publish]:
        """Return the event."""
        return [self._publish(event, retain=False)]

    def state(self, message: PipelineHealth | DeviceHealth | ModelReported) -> list[Publish]:
        """Return the state as a retained message."""
        return [self._publish(message, retain=True)]

    def removed(self, pipeline: str) -> list[Publish]:
        """Clear the retained states."""
        return clear(f"{self._root}/{topic}" for topic in retained(pipeline))

    def _publish(self, message: Message, *, retain: bool) -> Publish:
        topic = f"{self._root}/{subtopic(message)}"
        attributes = self._attributes(message)
        if self._binary:
            payload = msgspec.json.encode(message)
            return Publish(topic, payload, 1, retain, "application/json", tuple(attributes.items()))
        replayed = {"replayed": True} if "replayed" in attributes else {}
        event = attributes | replayed | {"datacontenttype": "application/json", "data": message}
        return Publish(topic, msgspec.json.encode(event), 1, retain, "application/cloudevents+json")

    def _attributes(self, message: Message) -> dict[str, str]:
        time = str(msgspec.to_builtins(message.time))
        pipeline = "" if isinstance(message, DeviceHealth) else message.pipeline
        attributes = {
            "specversion": "1.0",
            "id": _id(message, time),
            "source": self._source,
            "type": f"io.limpet.{_kind(message)}",
            "time": time,
        }
        if pipeline:
            attributes["subject"] = pipeline
        if isinstance(message, ResultMessage | EventMessage) and message.replayed:
            attributes["replayed"] = "true"
        return attributes


def _id(message: Message, time: str) -> str:
    """Return what is the same for a redelivery and no other message."""
    if isinstance(message, ResultMessage):
        return message.id
    if isinstance(message, EventMessage):
        about = f"{message.event}{_about(message.details)}"
        return f"{message.device}/{subtopic(message)}/{message.boot}/{about}/{time}"
    return f"{message.device}/{subtopic(message)}/{time}"


def _about(details: EventDetails | None) -> str:
    """Return what distinguishes the events of one moment."""
    if details is None:
        return ""
    if isinstance(details, DriftEvent):
        return f"/{details.type}/{quote(details.monitor)}"
    if isinstance(details, KeywordEvent):
        return f"/{quote(details.label)}"
    about = f"/{details.type}/{details.id}"
    if isinstance(details, ObjectEvent):
        return about
    return f"{about}/{quote(details.zone if isinstance(details, ZoneEvent) else details.line)}"


def _kind(message: Message) -> str:
    if isinstance(message, ResultMessage):
        return "result"
    if isinstance(message, EventMessage):
        return "event"
    if isinstance(message, DeviceHealth):
        return "health"
    return "pipeline-health" if isinstance(message, PipelineHealth) else "model-reported"
