"""The OpenAPI document is well formed, and the published file is current. test_device_routes.py has a device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

import schemas
from limpet.gateway.api.openapi import document

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas" / "openapi.json"


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


def test_other_schemas_need_nothing_of_the_gateway() -> None:
    """Tests of tflite-runtime use them in an environment without the extra."""
    code = "import sys; sys.modules['starlette'] = None; import schemas; schemas.schema('command-infer')"
    environment = {**os.environ, "PYTHONPATH": str(Path(schemas.__file__).parent)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
