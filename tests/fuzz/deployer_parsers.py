"""What a deployer reads: lists of chunks, the index of a download, patches and URLs."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from fuzz.registry import Prepared, parser
from limpet.contracts.chunks import ChunkList
from limpet.deployer import patching, ranges
from limpet.deployer.chunking import read_list
from limpet.deployer.failures import SourceFailedError
from limpet.deployer.part import Part, open_files
from limpet.updates import address
from limpet_convert.patch import make

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 16
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@parser("lists of chunks")
def _list(_: Path) -> Prepared:
    hashes = [hashlib.sha256(CONTENT[at : at + 1024]).hexdigest() for at in range(0, len(CONTENT), 1024)]
    sound = msgspec.json.encode(ChunkList(length=len(CONTENT), chunk=1024, hashes=hashes))

    def take(data: bytes) -> None:
        chunks = read_list(data, hashlib.sha256(data).hexdigest(), len(CONTENT))
        assert chunks.missing(()) == [(0, chunks.count - 1)]
        chunks.is_right(0, CONTENT[:1024])

    return Prepared([sound], take)


@parser("index of a download")
def _index(folder: Path) -> Prepared:
    files = open_files(folder, "bundle")
    part = Part(files, SHA256, len(CONTENT))
    part.write(0, CONTENT[:100])
    part.came_from("https://h/b", '"one"')
    part.save()
    part.write(500, CONTENT[500:])
    part.save()
    path = folder / "bundle.index"

    def take(data: bytes) -> None:
        path.write_bytes(data)
        found = Part(files, SHA256, len(CONTENT))
        assert ranges.sound(found.ranges, len(CONTENT))
        found.is_right()

    return Prepared([path.read_bytes()], take)


@parser("patches")
def _patch(folder: Path) -> Prepared:
    older = CONTENT[:2000] + b"older" + CONTENT[2000:]

    into = Part(open_files(folder, "bundle"), SHA256, len(CONTENT))
    files = open_files(folder, "patch")

    def take(data: bytes) -> None:
        (folder / "patch.part").write_bytes(data)
        patch = Part(files, hashlib.sha256(data).hexdigest(), max(len(data), 1))
        with suppress(SourceFailedError):
            patching.apply(older, patch, into)
        assert into.present <= len(CONTENT)

    return Prepared([make(older, CONTENT), make(b"", CONTENT)], take)


@parser("URLs of bundles")
def _url(_: Path) -> Prepared:
    def take(data: bytes) -> None:
        with suppress(ValueError):
            found = address.parse(data.decode("latin-1"))
            assert address.parse(found.text) == found
            address.is_allowed(found, ["https://good.example.com/models"])
        with suppress(ValueError):
            address.follow(address.parse("https://good.example.com/models/x"), data.decode("latin-1"))

    return Prepared([b"https://good.example.com:443/models/a%20b?x=%2F", b"//[2001:db8::1]/..;/x", b"../b"], take)
