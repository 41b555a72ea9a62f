"""Writes the JSON Schemas of what goes out and comes in: ``python tools/schemas.py docs/schemas``.

``asyncapi.yaml`` beside them says what of it goes over which topic, ``output/KIND.json`` what a result's output is
if a decoder of that kind made it. ``openapi.json`` describes the local API.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

import asyncapi
from limpet import plugins
from limpet.commands.check import CheckReport
from limpet.contracts.chunks import ChunkList, MissingChunks
from limpet.contracts.commands import LABEL, REQUESTS
from limpet.contracts.explanation import Explained
from limpet.contracts.messages import (
    DeviceHealth,
    EventMessage,
    InputMessage,
    LogMessage,
    ModelReported,
    PipelineHealth,
    Reply,
    ResultMessage,
    StatusMessage,
)
from limpet.contracts.updates import DesiredModel
from limpet.gateway.api.descriptions import tidy
from limpet.models.manifest import Manifest
from limpet.recordings.folder import Recordings
from limpet.recordings.label_command import SetLabel

COMMANDS = REQUESTS | {LABEL: SetLabel}

KINDS: dict[str, Any] = {
    "result": ResultMessage | list[ResultMessage],
    "event": EventMessage,
    "status": StatusMessage,
    "health": DeviceHealth,
    "pipeline-health": PipelineHealth,
    "model-reported": ModelReported,
    "reply": Reply,
} | {f"command-{name}": request for name, request in COMMANDS.items()}

FILES: dict[str, Any] = {
    "desired-model": DesiredModel,
    "chunk-list": ChunkList,
    "missing-chunks": MissingChunks,
    "manifest": Manifest,
    "input": InputMessage,
    "log": LogMessage,
    "recordings": Recordings,
    "check": CheckReport,
    "explained": Explained,
}
"""What the dialect json does not send: the manifest is in a bundle. Inputs and log lines go to the monitor socket.

`limpet check --json` prints ``check``. The command ``explain`` answers with ``explained``.
The first three are how a model gets to a device over MQTT.
"""


def outputs() -> dict[str, Any]:
    """Return what each decoder gives, under ``output/KIND``. Postprocess stages give the same types."""
    kinds = plugins.built_in("decoders")
    return {f"output/{kind}": plugins.load("decoders", kind).ABILITIES.output for kind in kinds}


def schema(name: str) -> Any:
    """Return the JSON Schema (2020-12) of one kind of message, or of an output."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"Limpet {name}"}
    return head | tidy(msgspec.json.schema((KINDS | FILES | outputs())[name]))


def text(name: str) -> str:
    """Return the file of a schema: the same messages give the same text."""
    return msgspec.json.format(msgspec.json.encode(schema(name), order="sorted"), indent=2).decode() + "\n"


def openapi_text() -> str:
    """Return the OpenAPI document of the local API. It needs starlette, which what else is here does not."""
    from limpet.gateway.api import openapi

    return msgspec.json.format(msgspec.json.encode(openapi.document()), indent=2).decode() + "\n"


def main(directory: Path) -> None:
    """Write each schema to ``NAME.json`` in ``directory``."""
    (directory / "output").mkdir(exist_ok=True)
    for name in [*KINDS, *FILES, *outputs()]:
        (directory / f"{name}.json").write_text(text(name), encoding="utf-8")
    (directory / "openapi.json").write_text(openapi_text(), encoding="utf-8")
    (directory / "asyncapi.yaml").write_text(asyncapi.text(asyncapi.document(COMMANDS)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
