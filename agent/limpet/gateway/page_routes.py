"""The page at ``/``, and its files below ``/static/``."""

from __future__ import annotations

from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from limpet.gateway.context import Context

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Files of the page. Others, such as licences, are not served."""


class PageFile(NamedTuple):
    """A file that browsers get. ``tag`` changes with its content."""

    content: bytes
    media_type: str
    tag: str


def routes(_context: Context) -> list[BaseRoute]:
    """Return the routes of this module. Files are read now: the sandbox lets none be opened later."""
    files = page_files()

    async def page(request: Request) -> Response:
        return _send(request, files["index.html"])

    async def static(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "the page has no such file")
        return _send(request, found)

    return [Route("/", page), Route("/static/{name:path}", static)]


def page_files() -> dict[str, PageFile]:
    """Return the files of the page by their path below ``/static/``."""
    return dict(_files(resources.files("limpet.gateway").joinpath("page"), ""))


def _files(folder: Traversable, before: str) -> list[tuple[str, PageFile]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _files(entry, f"{before}{entry.name}/")
        elif (media_type := _TYPES.get(entry.name[entry.name.rfind(".") :])) is not None:
            content = entry.read_bytes()
            found.append(
                (before + entry.name, PageFile(content, media_type, f'"{sha256(content).hexdigest()[:32]}"'))
            )
    return found


def _send(request: Request, file: PageFile) -> Response:
    """Return the file, or 304 if the browser has it."""
    headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
