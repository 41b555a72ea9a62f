"""The AsyncAPI 3.0 document of what goes over MQTT: topics, who sends, and which schema the payload has."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from limpet import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEMA_FORMAT = "application/schema+json;version=2020-12"


class _Topic(NamedTuple):
    """A topic below the device, and the schema of its messages. Those with ``{pipeline}`` are one for each.

    Without a schema, the messages are pictures.
    """

    name: str
    address: str
    schema: str
    retained: bool
    description: str


_SENT = [
    _Topic(
        "status", "status", "status", True, "Whether the device is there; the broker sends its last will here."
    ),
    _Topic("health", "health", "health", True, "Figures of the device."),
    _Topic("pipelineHealth", "health/{pipeline}", "pipeline-health", True, "Figures of a pipeline."),
    _Topic("modelReported", "model/{pipeline}/reported", "model-reported", True, "Which model runs."),
    _Topic("result", "result/{pipeline}", "result", False, "One result, or an array of them, oldest first."),
    _Topic("pipelineEvent", "event/{pipeline}", "event", False, "A change of state of a pipeline."),
    _Topic("event", "event", "event", False, "A change of state of the device."),
    _Topic(
        "snapshot",
        "snapshot/{pipeline}",
        "",
        True,
        "The last picture of a pipeline, a JPEG of at most 256 kB. Empty: there is none any more.",
    ),
]


def document(commands: Mapping[str, type]) -> dict[str, Any]:
    """Return the document. ``commands`` has the struct of each command by its name; its docstring describes it."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for topic in _SENT:
        channels[topic.name] = _channel(topic)
        operations[f"send{topic.name[0].upper()}{topic.name[1:]}"] = _sends(topic.name, retain=topic.retained)
    for name, request in commands.items():
        what = _Topic(name, f"command/{name}", f"command-{name}", False, inspect.getdoc(request) or "")
        answer = _Topic(name, f"reply/{name}", "reply", False, f"The answer to {name}.")
        channels[f"command_{name}"] = _channel(what)
        channels[f"reply_{name}"] = _channel(answer)
        operations[f"obey_{name}"] = _obeys(name)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Limpet",
            "version": __version__,
            "description": "What a device that runs Limpet says over MQTT in the dialect json, and what it obeys.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "{host}",
                "protocol": "mqtt",
                "protocolVersion": "5.0",
                "variables": {
                    "host": {"description": "Host and port of the broker, as `url` in [mqtt] names them."}
                },
            }
        },
        "channels": channels,
        "operations": operations,
    }


def _channel(topic: _Topic) -> dict[str, Any]:
    parameters = {"device": {"description": "`id` in [device]."}}
    if "{pipeline}" in topic.address:
        parameters["pipeline"] = {"description": "Name of the pipeline."}
    schema = {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"./{topic.schema}.json"}}
    message: dict[str, Any] = {"contentType": "application/json", "payload": schema}
    if not topic.schema:
        message = {"contentType": "image/jpeg", "payload": {"type": "string", "format": "binary"}}
    return {
        "address": f"limpet/{{device}}/{topic.address}",
        "description": topic.description,
        "parameters": parameters,
        "messages": {topic.schema or topic.name: message},
    }


def _sends(channel: str, *, retain: bool) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "bindings": {"mqtt": {"qos": 1, "retain": retain}},
    }


def _obeys(name: str) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/command_{name}"},
        "bindings": {"mqtt": {"qos": 1, "retain": False}},
        "reply": {
            "address": {
                "description": "The response topic of the command; reply/ below the device if it has none.",
                "location": "$message.header#/responseTopic",
            },
            "channel": {"$ref": f"#/channels/reply_{name}"},
        },
    }


def text(content: Any) -> str:
    """Return a document as YAML, which needs PyYAML."""
    import yaml

    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=115))
