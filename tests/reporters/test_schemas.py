"""The published schemas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import msgspec
import pytest

from limpet import schemas
from limpet.reporters import mqtt
from support import reports
from support.broker import listener, mosquitto, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.broker import Received

PUBLISHED = Path(__file__).parent.parent.parent / "docs" / "schemas"


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Received]]:
    """What a device really sends: each kind of message, a batch, an offline status."""
    directory = tmp_path_factory.mktemp("traffic")
    with mosquitto(directory) as broker, listener(broker.port) as heard:
        with mqtt.open(mqtt.Config(url=broker.url), reports.ORIGIN, directory, reports.deaf) as reporter:
            wait_until(lambda: reporter.health()["connected"])
            for message in [*reports.one_of_each(), *reports.results(10, "camera")]:
                reporter.report(message)
        wait_until(lambda: len(heard.on("status")) == 2)
        yield heard.messages


def kind_of(topic: str) -> str:
    parts = topic.split("/")[2:]
    if parts[0] == "health" and len(parts) == 2:
        return "pipeline-health"
    return "model-reported" if parts[0] == "model" else parts[0]


def test_the_published_schemas_are_current() -> None:
    found = {path.stem: path.read_text(encoding="utf-8") for path in PUBLISHED.glob("*.json")}
    assert found == {name: schemas.text(name) for name in schemas.KINDS}, "python -m limpet.schemas docs/schemas"


def test_what_is_sent_is_as_published(traffic: list[Received]) -> None:
    kinds = set()
    for message in traffic:
        kind = kind_of(message.topic)
        kinds.add(kind)
        validator = jsonschema.Draft202012Validator(
            msgspec.json.decode((PUBLISHED / f"{kind}.json").read_bytes()),
            format_checker=jsonschema.FormatChecker(),
        )
        validator.validate(message.json)
    assert kinds == set(schemas.KINDS)
    assert any(isinstance(message.json, list) for message in traffic)


def test_what_is_wrong_is_not_accepted(traffic: list[Received]) -> None:
    message = next(m.json for m in traffic if m.topic.endswith("result/motion"))
    validator = jsonschema.Draft202012Validator(schemas.schema("result"))
    assert not validator.is_valid(message | {"sequence": "one"})
    assert not validator.is_valid({key: value for key, value in message.items() if key != "id"})


@pytest.mark.parametrize("name", list(schemas.KINDS))
def test_each_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.schema(name))
