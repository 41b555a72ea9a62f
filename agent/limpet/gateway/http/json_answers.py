"""Answers in JSON. Errors have the same form on all paths: ``{"error": "..."}``."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from limpet.contracts.api import Refused
from limpet.gateway.errors import RequestError
from limpet.gateway.link import BusyError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import QueryParams
    from starlette.requests import HTTPConnection, Request
    from starlette.types import ExceptionHandler

    from limpet.gateway.errors import Cause

log = logging.getLogger(__name__)

Q = TypeVar("Q", bound=msgspec.Struct)

JSON = "application/json"
_REASONS = {
    404: "this path does not exist; /openapi.json has all paths",
    405: "this path does not have this method; the header Allow has its methods",
}
STATUS: dict[Cause, int] = {
    "invalid": 400,
    "denied": 403,
    "unknown": 404,
    "too large": 413,
    "busy": 503,
    "failed": 500,
}
LONGEST_REASON = 300
"""Characters of an error that repeat what the client sent."""


def answer(value: object, status: int = 200) -> Response:
    """Return a value, such as a struct, as JSON."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)


def refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error that says why."""
    return Response(msgspec.json.encode(Refused(error=reason)), status, headers, JSON)


def query(parameters: QueryParams, kind: type[Q]) -> Q:
    """Return the parameters of a query as a struct. Only its lists can be repeated. ``HTTPException`` 400."""
    lists = {field.name for field in msgspec.structs.fields(kind) if field.default_factory is list}
    found: dict[str, Any] = {}
    for name in parameters:
        values = parameters.getlist(name)
        found[name] = values if name in lists or len(values) > 1 else values[0]
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise HTTPException(400, _wrong(found, kind)[:LONGEST_REASON]) from error


def _wrong(found: dict[str, Any], kind: type[msgspec.Struct]) -> str:
    """Return what is wrong with the parameters of a query."""
    from limpet.problems.form import problems_of  # most gateways never need it in memory

    numbers = {name: int(value) if _is_number(value) else value for name, value in found.items()}
    return "; ".join(problems_of(numbers, kind, "query", msgspec.convert))


def _is_number(value: str | list[str]) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20


async def _refused(_request: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = error.detail
    if reason == HTTPStatus(error.status_code).phrase:  # Starlette's routing says no more
        reason = _REASONS.get(error.status_code, reason)
    return refusal(error.status_code, reason, error.headers)


async def _busy(_request: Request, error: Exception) -> Response:
    return refusal(503, str(error), {"Retry-After": "1"})


async def _not_found(_request: Request, error: Exception) -> Response:
    return refusal(404, str(error))


async def _not_possible(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return refusal(STATUS[error.cause], str(error), {"Retry-After": "1"} if error.cause == "busy" else None)


async def _gone(_request: Request, _error: Exception) -> Response:
    return refusal(400, "the client went away before its request was complete")


async def _bug(request: Request, _error: Exception) -> Response:
    log.error("a bug in the local API, in %s", request.scope.get("endpoint"))
    return refusal(500, "a bug in Limpet; its log says more")


HANDLERS: Mapping[Any, ExceptionHandler] = {
    HTTPException: _refused,
    RequestError: _not_possible,
    BusyError: _busy,
    NotFoundError: _not_found,
    ClientDisconnect: _gone,
    Exception: _bug,
}
"""For ``Starlette(exception_handlers=...)``."""
