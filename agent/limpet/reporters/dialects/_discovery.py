"""Home Assistant's MQTT discovery: which entities there are, and the messages that announce them.

Keys are those of https://www.home-assistant.io/integrations/mqtt/, written out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from limpet.contracts.dialect import Publish, clear
from limpet.contracts.messages import State
from limpet.reporters.dialects._scene import OCCUPIED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from limpet.contracts.messages import Origin
    from limpet.reporters.dialects._fields import Kind

EventKind: TypeAlias = Literal["object", "zone", "line", "keyword"]

_CLASSES = {
    "°C": "temperature", "°F": "temperature", "K": "temperature", "V": "voltage", "mV": "voltage", "A": "current",
    "mA": "current", "W": "power", "kW": "power", "Pa": "pressure", "hPa": "pressure", "kPa": "pressure",
    "bar": "pressure", "Hz": "frequency", "lx": "illuminance",
}  # fmt: skip
"""Device classes of sensors whose unit leaves no doubt; Home Assistant can then convert it."""
_SCORES = {"score", "threshold"}
"""Values of which Home Assistant shows three digits behind the point. Its state has all of them."""

_COUNTED = ("totals/", "lines/")
"""Values that only rise until the pipeline is started again."""
EVENT_TYPES: dict[EventKind, tuple[str, ...]] = {
    "object": ("new", "update", "end"),
    "zone": ("entered", "left"),
    "line": ("crossed",),
    "keyword": ("heard",),
}
"""What the events of each kind may be."""

_ASIDE = {
    *("threshold", "untrained", "learned", "abstained", "in_range"),
    *("set", "rate/low", "rate/high", "rate/windows"),
}
"""Values of Limpet's decoders and postprocess stages that explain others."""
_POSTERIOR = "posterior/"

_PLATFORMS: dict[Kind, str] = {"number": "sensor", "text": "sensor", "flag": "binary_sensor"}


_WITHOUT_TEMPLATE = {"event", "update"}
"""Platforms that read JSON as it comes."""
_GIVES_RESULTS = "{{ 'online' if value and value_json.state == 'running' else 'offline' }}"
"""In every other state a pipeline's last result is old, or may be."""
_ALL = "{{ value or '{}' }}"
_ABOUT = (
    "{{ {'time': value_json.time, 'model': value_json.model, 'replayed': value_json.replayed} | tojson "
    "if value else '{}' }}"
)
"""Attributes. If a state is cleared, Home Assistant renders all templates with an empty ``value`` and no
``value_json``."""


_DRIFT = {
    "device_class": "problem",
    "json_attributes_template": (
        "{{ {'reason': value_json.drift_reason, 'since': value_json.drift_since} | tojson if value else '{}' }}"
    ),
}
"""An alarm of any monitor, with what moved as an attribute."""
_ACCURACY = {
    "json_attributes_template": (
        "{{ {'low': value_json.accuracy_low, 'high': value_json.accuracy_high, 'answers': "
        "value_json.accuracy_answers} | tojson if value else '{}' }}"
    ),
}
"""Share of the last results with feedback that were right, with its interval as attributes."""


class Entity(NamedTuple):
    """``key`` is unique within the device and lasting; ``options`` are further keys of its platform.

    ``health`` is the topic with the health of the pipeline on which the entity depends, empty for none.
    """

    key: str
    platform: str
    name: str
    topic: str
    template: str
    options: dict[str, Any]
    health: str = ""


class DiscoveryDevice:
    """What all entities of a device have in common."""

    def __init__(self, origin: Origin, prefix: str, status: str) -> None:
        self._name = origin.device
        self._prefix = prefix
        self._status = _available(status, "{{ value_json.status }}")
        self._common = {
            "device": {
                "identifiers": [f"limpet_{origin.device}"],
                "name": origin.device,
                "manufacturer": "Limpet",
                "model": "on-device inference agent",
                "sw_version": origin.version,
            },
            "origin": {"name": "Limpet", "sw_version": origin.version},
            "availability": [self._status],
            "qos": 1,
        }

    def whole(self, entities: Sequence[Entity], new: Sequence[Entity]) -> list[Publish]:
        """Return one message with all entities, if any is new."""
        if not new:
            return []
        return [self._announced(self._components(entities))]

    def without(self, entities: Sequence[Entity], gone: Sequence[Entity]) -> list[Publish]:
        """Return the message that keeps entities and removes others: those have nothing but a platform."""
        removed = {_slug(entity.key): {"platform": entity.platform} for entity in gone}
        return [self._announced(self._components(entities) | removed)]

    def none(self) -> list[Publish]:
        """Return the message that removes all entities of the device."""
        return clear([self._topic_of_all])

    def _announced(self, components: Mapping[str, Any]) -> Publish:
        return _publish(self._topic_of_all, self._common | {"components": components})

    @property
    def _topic_of_all(self) -> str:
        return f"{self._prefix}/device/{_slug(self._name)}/config"

    def _components(self, entities: Sequence[Entity]) -> dict[str, Any]:
        return {_slug(entity.key): {"platform": entity.platform, **self._component(entity)} for entity in entities}

    def topic(self, entity: Entity) -> str:
        """Return the topic on which an entity is announced alone."""
        return f"{self._prefix}/{entity.platform}/{_slug(self._name)}/{_slug(entity.key)}/config"

    def each(self, entities: Sequence[Entity], new: Sequence[Entity]) -> list[Publish]:  # noqa: ARG002
        """Return a message for each new entity."""
        return [_publish(self.topic(entity), self._common | self._component(entity)) for entity in new]

    def _component(self, entity: Entity) -> dict[str, Any]:
        component = {"unique_id": f"limpet_{self._name}_{entity.key}", "name": entity.name, **entity.options}
        if entity.platform == "image":
            component["image_topic"] = entity.topic
        elif entity.platform in _WITHOUT_TEMPLATE:
            component["state_topic"] = entity.topic
        else:
            component |= {"state_topic": entity.topic, "value_template": entity.template}
        if entity.health:
            # What a component says replaces what all have in common.
            both = [self._status, _available(entity.health, _GIVES_RESULTS)]
            component |= {"availability": both, "availability_mode": "all"}
        return component


def picture(pipeline: str, topic: str) -> Entity:
    """Return the entity for the last picture of a pipeline. It stays available: it says when it was taken."""
    options = {"content_type": "image/jpeg"}
    return Entity(f"{pipeline}:snapshot", "image", f"{pipeline} snapshot", topic, "", options)


def result_entities(
    pipeline: str, topic: str, health: str, kinds: Mapping[str, Kind], units: Mapping[str, str]
) -> list[Entity]:
    """Return an entity for each value of a pipeline's output, and one for its latency.

    They are available while the pipeline, whose health is on the topic ``health``, gives results.
    """
    entities = []
    for path, kind in kinds.items():
        name = path.removeprefix("values/")
        options: dict[str, Any] = {"json_attributes_topic": topic, "json_attributes_template": _ABOUT}
        if kind == "number":
            options |= {"state_class": "measurement", **_unit(units.get(path, ""))}
        if kind == "number" and path in _SCORES:
            options["suggested_display_precision"] = 3
        if path.startswith(_COUNTED):
            options["state_class"] = "total_increasing"
        if path.startswith(OCCUPIED):
            options["device_class"] = "occupancy"
            name = f"{path.removeprefix(OCCUPIED).partition('/')[2].removesuffix('/any')} occupied"
        if path == "anomalous":
            options["device_class"] = "problem"
        if path in _ASIDE or path.startswith(_POSTERIOR):
            options["entity_category"] = "diagnostic"
        # A JSON string is a string of the template language, too. A result may lack what others had: get.
        template = _template(f"value_json.fields.get({msgspec.json.encode(path).decode()})")
        title = f"{pipeline} {name.replace('/', ' ').replace('_', ' ')}"
        entities.append(Entity(f"{pipeline}/{path}", _PLATFORMS[kind], title, topic, template, options, health))
    return [*entities, latency(pipeline, topic)._replace(health=health)]


def detected_event_entities(pipeline: str, topic: str, health: str, kinds: Collection[EventKind]) -> list[Entity]:
    """Return what shows the newest event of each kind; its details are attributes."""
    return [
        Entity(
            f"{pipeline}:{kind}",
            "event",
            f"{pipeline} {kind}",
            f"{topic}/{kind}",
            "",
            {"event_types": list(EVENT_TYPES[kind])},
            health,
        )
        for kind in EVENT_TYPES
        if kind in kinds
    ]


def update(pipeline: str, topic: str, command: str) -> Entity:
    """Return the entity of the model's version: the installed one, the one on offer, and a button."""
    options = {
        "command_topic": command,
        "payload_install": msgspec.json.encode({"pipeline": pipeline}).decode(),
        "entity_category": "config",
    }
    return Entity(f"{pipeline}:update", "update", f"{pipeline} model", topic, "", options)


def latency(pipeline: str, topic: str) -> Entity:
    """Return the entity of the latency of a pipeline's results."""
    figure = {**_figure("ms", digits=2), "entity_category": "diagnostic"}
    return _of(pipeline, "sensor", topic, "latency_ms", figure)


def pipeline_entities(pipeline: str, topic: str, *, watched: bool, judged: bool) -> list[Entity]:
    """Return the entities of a pipeline's state. ``watched``: it has monitors of drift; ``judged``: feedback."""
    state = {
        "device_class": "enum",
        "options": list(get_args(State)),
        "json_attributes_topic": topic,
        "json_attributes_template": _ALL,
        "entity_category": "diagnostic",
    }
    problem = {"device_class": "problem", "entity_category": "diagnostic"}
    invoke = {**_figure("ms", digits=2), "entity_category": "diagnostic"}
    attributes = {"json_attributes_topic": topic}
    drift = _of(pipeline, "binary_sensor", topic, "drift", _DRIFT | attributes)
    accuracy = _of(pipeline, "sensor", topic, "accuracy", _figure("%", digits=1) | _ACCURACY | attributes)
    return [
        _of(pipeline, "sensor", topic, "state", state),
        _of(pipeline, "sensor", topic, "reason", {"entity_category": "diagnostic"}),
        _of(pipeline, "binary_sensor", topic, "degraded", problem),
        _of(pipeline, "sensor", topic, "model", {"entity_category": "diagnostic"}),
        _of(pipeline, "sensor", topic, "invoke_p95_ms", invoke),
        *([drift] if watched else []),
        *([accuracy] if judged else []),
    ]


def device_entities(topic: str, figures: Mapping[str, Any]) -> list[Entity]:
    """Return the entities of the figures that this device has."""
    options: dict[str, tuple[str, dict[str, Any]]] = {
        "temperature": ("sensor", _figure("°C", "temperature", digits=1)),
        "cpu": ("sensor", _figure("%", digits=0)),
        "memory": ("sensor", _figure("MB", "data_size", digits=0)),
        "disk_free": ("sensor", _figure("MB", "data_size", digits=0)),
        "throttled": ("binary_sensor", {"device_class": "problem"}),
        "outbox_depth": ("sensor", {"state_class": "measurement"}),
    }
    return [
        _of("", platform, topic, key, {**more, "entity_category": "diagnostic"})
        for key, (platform, more) in options.items()
        if figures[key] is not None
    ]


def event_entities(topic: str) -> list[Entity]:
    """Return the last event; its reason and pipeline are attributes."""
    options = {"json_attributes_topic": topic, "entity_category": "diagnostic"}
    return [_of("", "sensor", topic, "event", options)]


def _of(pipeline: str, platform: str, topic: str, field: str, options: dict[str, Any]) -> Entity:
    """Return an entity of Limpet's own; the colon in its key keeps it apart from values of a pipeline's output."""
    key = f"{pipeline}:{field}" if pipeline else field
    name = f"{pipeline} {field.removesuffix('_ms').replace('_', ' ')}".strip()
    return Entity(key, platform, name, topic, _template(f"value_json.{field}"), options)


def _template(expression: str) -> str:
    """Return what renders an expression, and ``None``, which is unknown, of a state that is cleared."""
    return f"{{{{ {expression} if value else None }}}}"


def _available(topic: str, template: str) -> dict[str, str]:
    return {"topic": topic, "value_template": template}


def _figure(unit: str, device_class: str = "", *, digits: int) -> dict[str, Any]:
    """Return the options of a figure with a unit. ``digits`` are those behind the point that Home Assistant shows.

    Home Assistant shows the device class ``duration`` in whole seconds, so a figure in milliseconds has none.
    """
    figure = {
        "state_class": "measurement",
        "unit_of_measurement": unit,
        "suggested_display_precision": digits,
    }
    return figure | ({"device_class": device_class} if device_class else {})


def _unit(unit: str) -> dict[str, str]:
    if not unit:
        return {}
    device_class = _CLASSES.get(unit)
    return {"unit_of_measurement": unit} | ({"device_class": device_class} if device_class else {})


def _slug(text: str) -> str:
    """Return the text as a part of a discovery topic, where only letters, digits, ``_`` and ``-`` may stand."""
    text = text.replace("/", "__").replace(":", "_")
    return re.sub(r"[^A-Za-z0-9_-]", lambda match: f"_{ord(match[0]):x}_", text)


def _publish(topic: str, config: Mapping[str, Any]) -> Publish:
    return Publish(topic, msgspec.json.encode(config), retain=True, content_type="application/json")
