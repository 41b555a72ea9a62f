"""The OpenAPI document of the local API, made from the structs that the API itself uses."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from limpet import __version__
from limpet.contracts.api import Refused, StreamMessage, StreamMissed
from limpet.contracts.fields import NAME_PATTERN
from limpet.gateway.api.descriptions import tidy
from limpet.gateway.api.device import NoQuery
from limpet.gateway.api.operations import JSON, Media, Operation, operations
from limpet.gateway.http.json_answers import query

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from limpet.gateway.context import Context

_VARIABLE = re.compile(r"\{(\w+)\}")
_NAME = {"type": "string", "pattern": NAME_PATTERN.replace(r"\Z", "$")}
"""What pipelines, models and regions are called."""
_PATH = {"version": {"type": "string", "pattern": "^[0-9]{1,10}$"}}


def routes(_context: Context) -> list[BaseRoute]:
    """Return the routes of this module."""

    async def openapi(request: Request) -> Response:
        query(request.query_params, NoQuery)
        return Response(_encoded(), media_type=JSON)

    return [Route("/openapi.json", openapi)]


@cache
def _encoded() -> bytes:
    """Return the document as JSON. It takes a tenth of a second to make."""
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """Return the document, in OpenAPI 3.1."""
    maker = _Maker([*operations()])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Limpet's local API",
            "version": __version__,
            "summary": "The device, its pipelines and its models, over HTTP.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}],
        "paths": maker.paths(),
        "components": {
            "schemas": maker.components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Maker:
    """Makes the schemas of all operations at once, so that they share components."""

    def __init__(self, found: list[Operation]) -> None:
        self._operations = found
        types = [Refused, StreamMessage, StreamMissed]
        for operation in found:
            contents = (operation.answer, operation.body)
            types += [kind for kind in contents if kind is not None and not isinstance(kind, Media)]
            types += [field.type for field in msgspec.structs.fields(operation.query)]
        schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
        self._schemas = {repr(kind): tidy(schema) for kind, schema in zip(types, schemas, strict=True)}
        self.components = tidy(components)

    def paths(self) -> dict[str, dict[str, Any]]:
        """Return the operations by path and method."""
        found: dict[str, dict[str, Any]] = {}
        for operation in self._operations:
            found.setdefault(operation.path, {})[operation.method] = self._operation(operation)
        return found

    def _operation(self, operation: Operation) -> dict[str, Any]:
        done: dict[str, Any] = {"description": "Done."}
        if operation.answer is not None:
            done["content"] = self._content(operation.answer)
        errors = {"description": "Refused. `error` says why.", "content": self._content(Refused)}
        made: dict[str, Any] = {
            "operationId": _identifier(operation),
            "tags": [operation.tag],
            "summary": operation.summary,
            "parameters": [*_path_parameters(operation.path), *self._query_parameters(operation)],
            "responses": {str(operation.status): done, "default": errors},
        }
        if operation.body is not None:
            made["requestBody"] = {
                "required": not operation.optional,
                "content": self._content(operation.body),
            }
        return made

    def _content(self, kind: Any) -> dict[str, Any]:
        if isinstance(kind, Media):
            return {each: {} for each in kind.kinds}
        return {JSON: {"schema": self._schemas[repr(kind)]}}

    def _query_parameters(self, operation: Operation) -> list[dict[str, Any]]:
        return [
            {
                "name": field.encode_name,
                "in": "query",
                "required": field.required,
                "schema": self._schemas[repr(field.type)],
            }
            for field in msgspec.structs.fields(operation.query)
        ]


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH.get(name, _NAME)}
        for name in _VARIABLE.findall(path)
    ]


def _identifier(operation: Operation) -> str:
    """Return a name for generated code, such as ``get_pipelines_pipeline_results``."""
    words = re.findall(r"[a-z0-9]+", operation.path.removeprefix("/api"))
    return "_".join([operation.method, *words])
