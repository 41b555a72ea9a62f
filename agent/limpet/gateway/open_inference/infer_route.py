"""Inference over HTTP. It is the busiest path, so it does nothing twice."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from limpet.gateway.errors import RequestError
from limpet.gateway.http.guard import BODY, CLIENT
from limpet.gateway.open_inference.json_requests import RAW, decoded, encoded, raw_request, request, uses_regions

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

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
