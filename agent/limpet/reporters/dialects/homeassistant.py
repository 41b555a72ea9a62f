"""Home Assistant: entities appear by themselves, through MQTT discovery.

Home Assistant cannot read batches, so this keeps a separate small retained state for each pipeline, under
``limpet/DEVICE/homeassistant/``: the newest result, the health. What a pipeline gives shows with its first result.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from limpet.bucket import Bucket
from limpet.contracts.dialect import Publish, clear
from limpet.contracts.drift import DriftEvent
from limpet.contracts.drift_words import described
from limpet.contracts.messages import DeviceHealth, ModelReported, PipelineHealth
from limpet.reporters.dialects import _discovery, _fields, _scene, _updates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.accuracy import RightShare
    from limpet.contracts.detected_events import DetectedEvent
    from limpet.contracts.drift import MonitorsHealth
    from limpet.contracts.messages import EventMessage, Origin, ResultMessage, SnapshotMessage
    from limpet.reporters.dialects._discovery import Entity

__all__ = ["Config", "HomeAssistant", "open"]

PIPELINES = 256
"""Pipelines that become entities; further ones do not."""

FIELDS = 50
"""Values of a pipeline that become entities; further ones do not."""

CHANGES_PER_SECOND, CHANGES_AT_ONCE = 0.1, 60
"""Results of a pipeline with which entities come, change or go. With the others, entities stay as they are."""

LONGEST = 255
"""Home Assistant takes no state that is longer."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Home Assistant."""

    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[^+#\x00-\x1f\x7f-\x9f]{1,100}\Z",
            extra={"use": 'a topic without "+" and "#", with at most 100 characters'},
        ),
    ] = "homeassistant"
    """Discovery prefix that Home Assistant's MQTT integration is set to."""
    discovery: Literal["device", "entity"] = "device"
    """`"device"`: one message for the whole device, for Home Assistant 2024.11 and later. `"entity"`: one for each
    entity, for all versions."""


def open(config: Config, origin: Origin, root: str) -> HomeAssistant:
    """Return a dialect that publishes states under ``root/homeassistant``, and discovery under ``prefix``."""
    return HomeAssistant(config, origin, root)


class HomeAssistant:
    """Each call that shows something new returns its discovery before its state."""

    def __init__(self, config: Config, origin: Origin, root: str) -> None:
        self.subscriptions = (f"{config.prefix}/status",)
        self.reserved = (config.prefix,)
        self._parent = root
        self._root = f"{root}/homeassistant"
        self._boot = origin.boot
        self._device = _discovery.DiscoveryDevice(origin, config.prefix, f"{root}/status")
        self._by_device = config.discovery == "device"
        self._discover = self._device.whole if config.discovery == "device" else self._device.each
        self._known: dict[str, _fields.Known] = {}
        self._places: dict[str, frozenset[str]] = {}
        """How the paths of the zones and lines of each pipeline begin."""
        self._entities: dict[str, Entity] = {}
        self._states: dict[str, Publish] = {}
        self._shown: dict[str, ResultMessage] = {}
        self._removed: set[str] = set()
        self._changes: dict[str, Bucket] = {}

    def connecting(self, protocol: str) -> None:
        """Have no separate last will: availability is that of the topic ``status``."""

    def connected(self) -> list[Publish]:
        """Return the discovery of all entities, and their states."""
        entities = list(self._entities.values())
        return [*self._discover(entities, entities), *self._states.values()]

    def results(self, results: Sequence[ResultMessage]) -> list[Publish]:
        """Return the newest result, unless a newer one is published already."""
        newest = results[-1]
        pipeline = newest.pipeline
        if pipeline in self._removed:
            return []  # It waited in the outbox.
        full = pipeline not in self._shown and len(self._shown) >= PIPELINES
        if full or self._is_older(newest):
            return []
        self._shown[pipeline] = newest
        content, units = _fields.output(newest.output)
        changes = self._changes.setdefault(pipeline, Bucket(CHANGES_PER_SECOND, CHANGES_AT_ONCE))
        may_change = changes.level(monotonic()) >= 1
        gone = self._forget_places(newest) if may_change else []
        known = self._known.setdefault(pipeline, _fields.Known(FIELDS))
        shown = [*_scene.occupancy(newest.output), *(one for one in content if not isinstance(one[1], list))]
        if _scene.hears_keywords(newest.output):
            shown = [one for one in shown if one[0] not in _scene.AS_EVENTS]
        values = known.take((one for one in shown if len(one[0]) <= _fields.LONGEST_PATH), learn=may_change)
        topic = f"{self._root}/result/{pipeline}"
        health = f"{self._root}/health/{pipeline}"
        entities = _discovery.result_entities(pipeline, topic, health, known.kinds, units)
        state = {
            "time": newest.time,
            "id": newest.id,
            "model": newest.model,
            "version": newest.version,
            "replayed": newest.replayed,
            "latency_ms": newest.latency_us / 1000,
            "fields": {path: _state(value) for path, value in values.items()},
        }
        kinds = self._event_kinds(newest)
        entities += _discovery.detected_event_entities(pipeline, f"{self._root}/event/{pipeline}", health, kinds)
        published = self._publish(entities if may_change else [], topic, state)
        if gone or len(published) > 1:
            changes.spend(1)
        return [*gone, *published]

    def _event_kinds(self, result: ResultMessage) -> list[_discovery.EventKind]:
        """Return the kinds of events that a pipeline has, by its result."""
        if _scene.hears_keywords(result.output):
            return ["keyword"]
        if not _scene.is_tracked(result.output):
            return []
        kinds: list[_discovery.EventKind] = ["object"]
        kinds += ["zone"] if "zones" in result.output else []
        return kinds + (["line"] if "lines" in result.output else [])

    def _forget_places(self, result: ResultMessage) -> list[Publish]:
        """Return what removes the entities of zones and lines that the pipeline does not have any more."""
        pipeline, places = result.pipeline, _scene.places(result.output)
        begins = self._places.get(pipeline, frozenset()) - places
        self._places[pipeline] = places
        if not begins:
            return []
        for begin in begins:
            self._known[pipeline].forget(begin)
        events = {"object", "zone", "line"}.difference(self._event_kinds(result))
        keys = (*(f"{pipeline}/{begin}" for begin in begins), *(f"{pipeline}:{kind}" for kind in events))
        gone = [entity for key, entity in self._entities.items() if key.startswith(keys)]
        self._entities = {key: entity for key, entity in self._entities.items() if not key.startswith(keys)}
        if self._by_device:
            return self._device.without(list(self._entities.values()), gone) if gone else []
        return clear(map(self._device.topic, gone))

    def event(self, event: EventMessage) -> list[Publish]:
        """Return the event as the device's last one. One with details has its own entity, and is not sent late."""
        if event.details is not None and not isinstance(event.details, DriftEvent):
            late = event.replayed or event.pipeline in self._removed
            return [] if late else self._detected_event(event, event.details)
        topic = f"{self._root}/event"
        return self._publish(_discovery.event_entities(topic), topic, event)

    def _detected_event(self, event: EventMessage, details: DetectedEvent) -> list[Publish]:
        """Return an event for Home Assistant. It is not retained: nothing happens when a program connects."""
        base, health = (f"{self._root}/{kind}/{event.pipeline}" for kind in ("event", "health"))
        kinds = [kind for kind in _discovery.EVENT_TYPES if kind == event.event]
        new = self._add(_discovery.detected_event_entities(event.pipeline, base, health, kinds))
        fields = {**msgspec.to_builtins(details), "event_type": details.type, "time": event.time}
        payload = msgspec.json.encode(fields)
        discovery = self._discover(list(self._entities.values()), new)
        return [*discovery, Publish(f"{base}/{event.event}", payload, content_type="application/json")]

    def state(self, message: PipelineHealth | DeviceHealth | ModelReported) -> list[Publish]:
        """Return the figures that a person wants to see."""
        if isinstance(message, ModelReported):
            return self._update(message)
        if isinstance(message, PipelineHealth):
            self._removed.discard(message.pipeline)
            topic = f"{self._root}/health/{message.pipeline}"
            return self._publish(
                _discovery.pipeline_entities(
                    message.pipeline,
                    topic,
                    watched=message.monitors is not None,
                    judged=message.accuracy is not None,
                ),
                topic,
                _pipeline_figures(message),
            )
        topic = f"{self._root}/health"
        figures = _device_figures(message)
        return self._publish(_discovery.device_entities(topic, figures), topic, figures)

    def _update(self, message: ModelReported) -> list[Publish]:
        """Return the versions of a pipeline's model, once there was an update."""
        if message.update is None or message.pipeline in self._removed:
            return []
        topic = f"{self._root}/update/{message.pipeline}"
        entity = _discovery.update(message.pipeline, topic, f"{self._parent}/command/install")
        return self._publish([entity], topic, _updates.state(message, progress=self._by_device))

    def snapshot(self, message: SnapshotMessage, topic: str) -> list[Publish]:
        """Return the discovery of a pipeline's pictures with the first one, and what removes it with the last."""
        entity = _discovery.picture(message.pipeline, topic)
        if message.jpeg:
            new = [] if message.pipeline in self._removed or entity.key in self._entities else [entity]
            self._entities.update((one.key, one) for one in new)
            return self._discover(list(self._entities.values()), new)
        self._entities.pop(entity.key, None)
        if self._by_device:
            return self._device.without(list(self._entities.values()), [entity])
        return clear([self._device.topic(entity)])

    def received(self, topic: str, payload: bytes) -> list[Publish]:
        """Return everything again when Home Assistant has started."""
        return self.connected() if topic in self.subscriptions and payload == b"online" else []

    def removed(self, pipeline: str) -> list[Publish]:
        """Return what removes the entities and the states of the pipeline.

        Of one of an earlier run it is not known which values of results were entities. With discovery of the
        device, all entities are removed and made again; with that of entities, those for values stay.
        """
        self._removed.add(pipeline)
        topics = [f"{self._root}/{kind}/{pipeline}" for kind in ("result", "health", "update")]
        known = any(topic in self._states for topic in topics)
        for topic in topics:
            self._states.pop(topic, None)
        self._known.pop(pipeline, None)
        self._places.pop(pipeline, None)
        self._changes.pop(pipeline, None)
        self._shown.pop(pipeline, None)
        begins = (f"{pipeline}/", f"{pipeline}:")
        gone = [entity for key, entity in self._entities.items() if key.startswith(begins)]
        if not known:
            gone = [
                *_discovery.pipeline_entities(pipeline, topics[1], watched=True, judged=True),
                _discovery.latency(pipeline, topics[0]),
            ]
            gone += _discovery.detected_event_entities(pipeline, "", "", _discovery.EVENT_TYPES)
            gone.append(_discovery.update(pipeline, topics[2], ""))
        self._entities = {k: entity for k, entity in self._entities.items() if not k.startswith(begins)}
        left = list(self._entities.values())
        if self._by_device:
            removal = self._device.without(left, gone) if known else self._device.none()
            return [*removal, *self._device.whole(left, left), *clear(topics)]
        return [*clear(map(self._device.topic, gone)), *clear(topics)]

    def leaving(self) -> list[Publish]:
        """Return nothing: the topic ``status`` says that the device leaves."""
        return []

    def _is_older(self, result: ResultMessage) -> bool:
        """Whether a later result is published already: a backlog may go out after fresh results."""
        shown = self._shown.get(result.pipeline)
        if shown is None:
            return False
        if shown.boot == result.boot:
            return result.sequence < shown.sequence
        return shown.boot == self._boot

    def _add(self, entities: list[Entity]) -> list[Entity]:
        """Take entities. Return those that are new, or others than before."""
        new = [entity for entity in entities if self._entities.get(entity.key) != entity]
        self._entities.update((entity.key, entity) for entity in new)
        return new

    def _publish(self, entities: list[Entity], topic: str, state: object) -> list[Publish]:
        new = self._add(entities)
        publish = Publish(topic, msgspec.json.encode(state), retain=True, content_type="application/json")
        self._states[topic] = publish
        return [*self._discover(list(self._entities.values()), new), publish]


def _state(value: _fields.Value) -> Any:
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    return value[:LONGEST] if isinstance(value, str) else value


def _pipeline_figures(health: PipelineHealth) -> dict[str, Any]:
    invoke = health.latency_us.get("invoke")
    return {
        "state": health.state,
        "reason": health.reason[:LONGEST],
        "degraded": _state(health.degraded),
        "model": f"{health.model} {health.version}"[:LONGEST] if health.model else None,
        "delegate": health.delegate,
        "invoke_p95_ms": invoke.p95 / 1000 if invoke and invoke.count else None,
        "results": health.results,
        **({} if health.monitors is None else _drift(health.monitors)),
        **({} if health.accuracy is None else _accuracy(health.accuracy.recent)),
    }


def _drift(monitors: MonitorsHealth) -> dict[str, Any]:
    alarms = [(name, one.alarm) for name, one in monitors.monitors.items() if one.alarm is not None]
    return {
        "drift": _state(bool(alarms)),
        "drift_reason": "; ".join(described(name, alarm) for name, alarm in alarms)[:LONGEST],
        "drift_since": min((alarm.since for _, alarm in alarms), default=None),
    }


def _accuracy(recent: RightShare) -> dict[str, Any]:
    return {
        "accuracy": round(100 * recent.right / recent.answers, 1) if recent.answers else None,
        "accuracy_low": round(100 * recent.low, 1),
        "accuracy_high": round(100 * recent.high, 1),
        "accuracy_answers": recent.answers,
    }


def _device_figures(health: DeviceHealth) -> dict[str, Any]:
    depths = [figures.get("outbox_depth") for figures in health.reporters.values()]
    known = [depth for depth in depths if isinstance(depth, int)]
    return {
        "temperature": health.temperature_c,
        "cpu": None if health.cpu_share is None else round(100 * health.cpu_share, 1),
        "memory": health.pss_mb,
        "disk_free": health.disk_free_mb,
        "throttled": None if health.throttled is None else _state(health.throttled),
        "outbox_depth": sum(known) if known else None,
    }
