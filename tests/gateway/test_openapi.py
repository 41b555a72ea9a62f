"""The OpenAPI document describes each path of the application, and the published file is current."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest

import schemas
from limpet.gateway.openapi import document
from support.api_daemon import ApiDaemon, api_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas" / "openapi.json"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    with api_daemon(tmp_path_factory.mktemp("api")) as started:
        yield started


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    if isinstance(part, list):
        for value in part:
            yield from references(value)


def test_the_published_document_is_current() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == schemas.openapi_text(), "python tools/schemas.py docs/schemas"


def test_every_reference_leads_to_a_schema() -> None:
    found = document()
    for reference in references(found):
        assert reference.removeprefix("#/components/schemas/") in found["components"]["schemas"]
    for name, schema in found["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema), name


def test_each_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for path in document()["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_a_running_device_serves_the_document(running: ApiDaemon) -> None:
    assert running.request("/openapi.json", unix=True).json == msgspec.json.decode(schemas.openapi_text())


def test_each_path_of_the_document_exists(running: ApiDaemon) -> None:
    for path, operations in document()["paths"].items():
        concrete = re.sub(r"\{\w+\}", "1", path)
        answer = running.request(concrete, "PATCH", unix=True)
        assert answer.status == 405, path
        allowed = set(answer.headers["allow"].lower().split(", ")) - {"head"}
        assert allowed == set(operations), path
