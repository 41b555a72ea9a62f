"""Inference over HTTP. It is the busiest path, so it does nothing twice."""

from __future__ import annotations

import zlib
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.api import Refused
from limpet.gateway.channels.answers import NotRunError
from limpet.gateway.errors import RequestError
from limpet.gateway.http.guard import BODY, CLIENT, secured
from limpet.gateway.http.head_cache import CACHEABLE
from limpet.gateway.http.json_answers import STATUS
from limpet.gateway.open_inference.json_requests import RAW, decoded, encoded, raw_request, request, uses_regions
from limpet.gateway.open_inference.service import version_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from limpet.gateway.http.head_cache import CacheableHead
    from limpet.gateway.open_inference.json_requests import JsonRequest
    from limpet.gateway.open_inference.messages import InferAnswer
    from limpet.gateway.open_inference.service import OpenInference

HEADER_LENGTH = b"inference-header-content-length"


class InferRoute:
    """An ASGI application for ``POST /v2/models/MODEL[/versions/VERSION]/infer``."""

    def __init__(self, protocol: OpenInference, largest: int) -> None:
        self._protocol = protocol
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. ``RequestError`` says why not."""
        header_length, encoding = None, b""
        for name, value in scope["headers"]:
            if name == HEADER_LENGTH:
                header_length = value.decode("latin-1")
            elif name == b"content-encoding":
                encoding = value
        body = await whole_body(receive, self._largest)
        if encoding:
            body = _decompressed(body, encoding, self._largest)
            scope[BODY].becomes(len(body))
        path = scope["path_params"]
        model, version = path["model"], path.get("version", "")
        if header_length == "0":
            _, form = await self._protocol.describe(model, version)
            asked, wanted = RAW, raw_request(model, version, form, body)
        else:
            asked, binary = decoded(body, header_length)
            await self._protocol.find_channel(model, version)  # an unknown model is the first thing to say
            uid = scope[CLIENT].uid if uses_regions(asked) else None  # the kernel is not fast
            wanted = request(model, version, uid, asked, binary)
        content, length = encoded(await self._protocol.infer(wanted), asked)
        headers = [(b"content-length", b"%d" % len(content))]
        if length is None:
            headers.append((b"content-type", b"application/json"))
        else:
            headers += [(b"content-type", b"application/octet-stream"), (HEADER_LENGTH, b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        cacheable: CacheableHead | None = scope.get(CACHEABLE)
        if cacheable is not None and header_length != "0" and is_cacheable(scope):
            cacheable.store(len(body), partial(self._again, model, version_number(version), header_length))

    def _again(
        self,
        model: str,
        version: int | None,
        header_length: str | None,
        body: bytes | bytearray,
        reply: Callable[[bytes | None], None],
    ) -> bool:
        """Begin to answer a request that came before with another body. ``False`` if it is to go the usual way."""
        channel = self._protocol.models.open_channel(model, version)
        if channel is None:
            return False
        try:
            asked, binary = decoded(body, header_length)
            if uses_regions(asked):
                return False
            wanted = request(model, "" if version is None else str(version), None, asked, binary)
            return self._protocol.start(channel, wanted, partial(_reply, asked, reply))
        except RequestError:  # The usual way says why.
            return False


def _reply(asked: JsonRequest, reply: Callable[[bytes | None], None], answer: InferAnswer | RequestError) -> None:
    """Pass an answer on as HTTP has it."""
    if isinstance(answer, NotRunError):
        reply(None)
        return
    try:
        if isinstance(answer, RequestError):
            raise answer
        content, length = encoded(answer, asked)
    except RequestError as error:
        reply(refused(error))
        return
    if length is None:
        reply(b"%bcontent-length: %d\r\n\r\n%b" % (_JSON, len(content), content))
    else:
        reply(b"%b%d\r\ncontent-length: %d\r\n\r\n%b" % (_BINARY, length, len(content), content))


def refused(error: RequestError) -> bytes:
    """Return an error as HTTP has it."""
    status = HTTPStatus(STATUS[error.cause])
    body = msgspec.json.encode(Refused(error=str(error)))
    again = b"retry-after: 1\r\n" if error.cause == "busy" else b""
    return b"%bcontent-length: %d\r\n%b\r\n%b" % (_head(status), len(body), again, body)


def is_cacheable(scope: Scope) -> bool:
    """Whether the head of a request says nothing that concerns this request alone, or its connection."""
    return scope["http_version"] == "1.1" and not any(
        name in _ONCE or (name == b"connection" and value.lower() != b"keep-alive")
        for name, value in scope["headers"]
    )


def _head(status: HTTPStatus, kind: bytes = b"application/json") -> bytes:
    lines = [b"%b: %b" % header for header in secured([(b"content-type", kind)])]
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, status.phrase.encode(), b"\r\n".join(lines))


_ONCE = {b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"}
_JSON = _head(HTTPStatus.OK)
_BINARY = _head(HTTPStatus.OK, b"application/octet-stream") + HEADER_LENGTH + b": "


async def whole_body(receive: Receive, largest: int) -> bytes:
    """Return the body of a request. ``RequestError`` if it is too large, or the client is gone."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("invalid", "the body ended too early")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > largest:
            raise RequestError(
                "too large", f"the body is larger than {largest} bytes; api.request_bytes limits it"
            )
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _decompressed(body: bytes, encoding: bytes, largest: int) -> bytes:
    if encoding not in (b"gzip", b"deflate"):
        raise RequestError("invalid", 'Content-Encoding must be "gzip" or "deflate"')
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        found = decompressor.decompress(body, largest)
    except zlib.error as error:
        raise RequestError("invalid", f"the body could not be decompressed: {error}") from error
    if not decompressor.eof:
        raise RequestError("too large", f"the body ends too early, or has more than {largest} bytes decompressed")
    return found
