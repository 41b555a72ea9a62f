"""A bundle is made of an older one and a patch; a patch that lies costs that source alone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
import pytest
import zstandard

from limpet.contracts.updates import BundleSource
from limpet.wire.deploy_records import Links
from limpet_convert.patch import make
from support.fetcher import Fetcher, deploy, digest
from support.web_server import WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.wire.deploy_records import Deploy

BODY = random.Random(14).randbytes(300_000)
OLDER = BODY[:150_000] + b"older" + BODY[150_000:]


@pytest.fixture(scope="module")
def fetcher() -> Iterator[Fetcher]:
    started = Fetcher()
    yield started
    started.close()


@pytest.fixture
def server() -> Iterator[WebServer]:
    started = WebServer({"/bundle": BODY})
    yield started
    started.close()


def fetched(folder: Path) -> bytes:
    return (folder / "downloads" / "p" / "bundle.part").read_bytes()


def patched(folder: Path, server: WebServer, patch: bytes, base: bytes = OLDER, **options: object) -> Deploy:
    """Return the order to fetch a patch, or the bundle. The device has ``base`` in place of ``OLDER``."""
    path = folder / "older.limpet"
    path.write_bytes(base)
    server.files |= {"/patch": patch, "/bundle": BODY}
    source = BundleSource(
        url=server.url("/patch"), patch_of=digest(OLDER), sha256=digest(patch), length=len(patch)
    )
    sources = [source, BundleSource(url=server.url())]
    links = Links(allow=(server.url("/"),))
    return deploy(folder, BODY, sources, links, {digest(OLDER): path}, **options)  # type: ignore[arg-type]


def test_a_patch_makes_the_new_bundle_of_the_old_one(fetcher: Fetcher, server: WebServer, tmp_path: Path) -> None:
    patch = make(OLDER, BODY)
    ended = fetcher.fetch(patched(tmp_path, server, patch))
    assert ended.outcome == "fetched"
    assert fetched(tmp_path) == BODY
    assert [request.target for request in server.requests] == ["/patch"]
    assert ended.received < len(BODY) // 10
    assert (tmp_path / "downloads" / "p" / "patch.part").stat().st_size == 0


@pytest.mark.parametrize("base", [b"", OLDER[:-1], OLDER[:-1] + b"?"], ids=["empty", "short", "damaged"])
def test_without_the_old_bundle_the_next_source_is_used(
    fetcher: Fetcher, server: WebServer, tmp_path: Path, base: bytes
) -> None:
    ended = fetcher.fetch(patched(tmp_path, server, make(OLDER, BODY), base))
    assert ended.outcome == "fetched"
    assert [request.target for request in server.requests] == ["/bundle"]


def test_a_patch_for_a_bundle_that_is_not_here_is_not_fetched(
    fetcher: Fetcher, server: WebServer, tmp_path: Path
) -> None:
    task = patched(tmp_path, server, make(OLDER, BODY))
    assert fetcher.fetch(msgspec.structs.replace(task, bases={})).outcome == "fetched"
    assert [request.target for request in server.requests] == ["/bundle"]


def bomb(size: int) -> bytes:
    """Return a frame without its length in its header, that becomes a thousand times as large."""
    return streamed(zstandard.ZstdCompressionParameters.from_level(3), size)


def wide(size: int) -> bytes:
    """Return a frame that wants a window of 1 GiB."""
    return streamed(zstandard.ZstdCompressionParameters.from_level(1, window_log=30), size)


def streamed(options: zstandard.ZstdCompressionParameters, size: int) -> bytes:
    compressor = zstandard.ZstdCompressor(compression_params=options).compressobj()
    return compressor.compress(bytes(size)) + compressor.flush()


@pytest.mark.parametrize(
    ("patch", "because"),
    [
        (bomb(20 << 20), f"leads to more than {len(BODY)} bytes"),
        (wide(1 << 20), "cannot be applied"),
        (b"no frame at all", "cannot be applied"),
        (make(OLDER, BODY)[:-9], "leads to"),
        (make(OLDER, OLDER[: len(BODY)]), "another SHA-256"),
        (make(OLDER, b"short"), "leads to 5 bytes"),
    ],
    ids=["bomb", "window", "no frame", "cut", "another file", "short"],
)
def test_attack_decompression_bomb_by_a_patch(
    fetcher: Fetcher, server: WebServer, tmp_path: Path, patch: bytes, because: str
) -> None:
    task = patched(tmp_path, server, patch)
    request = msgspec.structs.replace(task.request, sources=task.request.sources[:1])
    ended = fetcher.fetch(msgspec.structs.replace(task, request=request))
    assert because in ended.reason
    assert ended.final
    assert len(fetched(tmp_path)) <= len(BODY)
    assert fetcher.fetch(task).outcome == "fetched"
