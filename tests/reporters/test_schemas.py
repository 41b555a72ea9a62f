"""The published schemas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest
import yaml

import asyncapi
import schemas
from limpet.contracts.messages import Reply
from limpet.reporters import mqtt
from support import reports
from support.broker import listener, mosquitto, wait_until
from support.caller import caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.reporter import Command
    from support.broker import Received

PUBLISHED = Path(__file__).parent.parent.parent / "docs" / "schemas"

COMMANDS: dict[str, dict[str, Any]] = {
    "ping": {},
    "health": {},
    "restart": {"pipeline": "motion"},
    "log_level": {"level": "DEBUG"},
    "threshold": {"pipeline": "motion", "value": 0.5},
    "capture": {"pipeline": "motion"},
    "snapshot": {"pipeline": "motion"},
    "enrol": {"pipeline": "motion", "label": "walk", "windows": 3},
    "forget": {"pipeline": "motion", "label": "walk"},
    "infer": {"pipeline": "motion", "windows": {"shape": [1, 2], "values": [0.5, 1.0]}},
    "explain": {"pipeline": "motion", "by": "times", "invokes": 100},
    "keep": {"pipeline": "motion", "windows": 2},
    "install": {"pipeline": "motion"},
    "promote": {"pipeline": "motion"},
    "rollback": {"pipeline": "motion"},
    "cancel": {"pipeline": "motion"},
    "feedback": {"id": "press-07/motion/b/1", "truth": ["walk"]},
    "undo": {"pipeline": "motion", "number": 3},
}


def obey(command: Command) -> None:
    command.reply(Reply(device="press-07", command=command.name, ok=command.name != "restart", error="no, thanks"))


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Received]]:
    """What a device really sends: each kind of message, a batch, an offline status."""
    directory = tmp_path_factory.mktemp("traffic")
    with mosquitto(directory) as broker, listener(broker.port) as heard:
        with (
            reports.opened(mqtt, mqtt.Config(url=broker.url), directory, obey) as reporter,
            caller(broker.port, "3.1.1") as operator,
        ):
            wait_until(lambda: reporter.health()["connected"])
            for message in [*reports.one_of_each(), *reports.results(10, "camera"), reports.picture("camera")]:
                reporter.report(message)
            for name, arguments in COMMANDS.items():
                operator.call(name, **arguments)
        wait_until(lambda: len(heard.on("status")) == 2)
        yield heard.messages


def kind_of(topic: str) -> str:
    parts = topic.split("/")[2:]
    if parts[0] == "command":
        return "-".join(parts)
    if parts[0] == "health" and len(parts) == 2:
        return "pipeline-health"
    return "model-reported" if parts[0] == "model" else parts[0]


def test_the_published_schemas_are_current() -> None:
    # The first two are by tools/reference.py. tests/gateway/test_openapi.py is about the third.
    made_elsewhere = {"limpet-toml", "convert-toml", "openapi"}
    files = [path for path in PUBLISHED.glob("*.json") if path.stem not in made_elsewhere]
    found = {path.stem: path.read_text(encoding="utf-8") for path in files}
    found |= {f"output/{path.stem}": path.read_text(encoding="utf-8") for path in PUBLISHED.glob("output/*.json")}
    again = "python tools/schemas.py docs/schemas"
    assert found == {name: schemas.text(name) for name in [*schemas.KINDS, *schemas.FILES, *schemas.outputs()]}, (
        again
    )
    assert (PUBLISHED / "asyncapi.yaml").read_text(encoding="utf-8") == asyncapi.text(
        asyncapi.document(schemas.COMMANDS)
    ), again


def test_what_is_sent_is_as_published(traffic: list[Received]) -> None:
    kinds = set()
    for message in traffic:
        kind = kind_of(message.topic)
        if kind == "snapshot":
            assert message.payload == reports.picture("camera").jpeg
            continue
        kinds.add(kind)
        validator = jsonschema.Draft202012Validator(
            msgspec.json.decode((PUBLISHED / f"{kind}.json").read_bytes()),
            format_checker=jsonschema.FormatChecker(),
        )
        validator.validate(message.json)
    assert kinds == set(schemas.KINDS) - {"command-label"}  # that is for `limpet record`
    assert any(message.payload.startswith(b"[") for message in traffic)


def test_what_is_wrong_is_not_accepted(traffic: list[Received]) -> None:
    message = next(m.json for m in traffic if m.topic.endswith("result/motion"))
    validator = jsonschema.Draft202012Validator(schemas.schema("result"))
    assert not validator.is_valid(message | {"sequence": "one"})
    assert not validator.is_valid({key: value for key, value in message.items() if key != "id"})


@pytest.mark.parametrize("name", [*schemas.KINDS, *schemas.FILES, *schemas.outputs()])
def test_each_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.schema(name))


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load((PUBLISHED / "asyncapi.yaml").read_text(encoding="utf-8"))


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from references(value)


def test_every_reference_of_the_asyncapi_document_leads_somewhere(document: Any) -> None:
    for reference in references(document):
        if reference.startswith("./"):
            assert (PUBLISHED / reference).is_file()
        else:
            part = document
            for key in reference.removeprefix("#/").split("/"):
                part = part[key]
    assert {reference[2:-5] for reference in references(document) if reference[0] == "."} == set(schemas.KINDS)


def test_the_asyncapi_document_has_each_topic_in_the_traffic_and_its_schema(
    document: Any, traffic: list[Received]
) -> None:
    used = set()
    for message in traffic:
        topic = message.topic.replace("press-07", "{device}")
        for pipeline in ("motion", "camera"):
            topic = topic.replace(f"/{pipeline}", "/{pipeline}")
        ((name, channel),) = [(n, c) for n, c in document["channels"].items() if c["address"] == topic]
        assert list(channel["messages"]) == [kind_of(message.topic)]
        used.add(name)
        braces = {part[1:-1] for part in topic.split("/") if part.startswith("{")}
        assert set(channel["parameters"]) == braces
    assert used == set(document["channels"]) - {"command_label", "reply_label"}  # those are for `limpet record`
    pointed = {op["channel"]["$ref"].rpartition("/")[2]: op["action"] for op in document["operations"].values()}
    assert {name for name, action in pointed.items() if action == "receive"} == {
        f"command_{n}" for n in schemas.COMMANDS
    }
    assert set(pointed) | {f"reply_{name}" for name in schemas.COMMANDS} == set(document["channels"])
