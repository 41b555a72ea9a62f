"""The page's files: what browsers get, and what must not be in them."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest

from limpet.gateway.page_routes import page_files
from support.api_daemon import ApiDaemon, api_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 200_000
"""Bytes of all files of the page."""
FILES = page_files()
OURS = {name: file.content.decode() for name, file in FILES.items() if not name.startswith("vendor/")}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    with api_daemon(tmp_path_factory.mktemp("page")) as started:
        yield started


def test_the_page_and_all_its_files_are_served(running: ApiDaemon) -> None:
    assert running.request("/").body == FILES["index.html"].content
    for name, file in FILES.items():
        answer = running.request(f"/static/{name}")
        assert (answer.status, answer.headers["content-type"]) == (200, file.media_type)
        assert answer.body == file.content


def test_a_browser_that_has_a_file_gets_no_copy(running: ApiDaemon) -> None:
    first = running.request("/static/app.js")
    again = running.request("/static/app.js", headers={"If-None-Match": first.headers["etag"]})
    other = running.request("/static/app.js", headers={"If-None-Match": '"another"'})
    assert (again.status, again.body) == (304, b"")
    assert (other.status, other.body) == (200, first.body)


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/vendor",
        "/static/../page_routes.py",
        "/static/%2e%2e/page_routes.py",
        "/static//etc/passwd",
        "/static/vendor/preact-LICENSE",
    ],
)
def test_nothing_but_the_files_of_the_page_is_served(running: ApiDaemon, path: str) -> None:
    answer = running.request(path)
    assert answer.status == 404
    assert "error" in answer.json


def test_the_page_is_small() -> None:
    assert sum(len(file.content) for file in FILES.values()) < LARGEST


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for text in OURS.values():
        addresses = set(re.findall(r"https?://[^\s\"']+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}


def test_all_files_that_the_page_names_are_there() -> None:
    named = {
        os.path.normpath(PurePath(file).parent / name)
        for file, text in OURS.items()
        for name in re.findall(r"from \"(\.[^\"]+)\"", text) + re.findall(r"\"static/([^\"]+)\"", text)
    }
    assert named == set(FILES) - {"index.html"}


def test_a_proxy_can_serve_the_page_below_a_path() -> None:
    for text in OURS.values():
        assert not re.search(r"[\"'`(]/(?:static|api|v2|metrics|openapi)", text)


def test_the_page_works_under_its_content_security_policy() -> None:
    for text in OURS.values():
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=\"", text)


def test_no_text_becomes_html() -> None:
    """What names and reasons say comes from models, sensors and brokers."""
    unsafe = r"innerHTML|outerHTML|insertAdjacentHTML|dangerouslySet|document\.write|\beval\(|new Function|setHTML"
    for name, text in OURS.items():
        assert not re.search(unsafe, text), name


def test_libraries_come_with_their_licences() -> None:
    vendor = resources.files("limpet.gateway").joinpath("page", "vendor")
    names = {entry.name for entry in vendor.iterdir()}
    assert names == {"preact.js", "hooks.js", "htm.js", "preact-LICENSE", "htm-LICENSE"}
