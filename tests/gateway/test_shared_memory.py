"""System shared memory that clients register with the gateway."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.messages import Region
from limpet.gateway.open_inference.shared_memory import FOLDER, MOST_OF_A_USER, SharedMemory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UID = os.getuid()
CONTENT = bytes(range(64))

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="this system has no shared memory in /dev/shm")


@pytest.fixture
def key() -> Iterator[str]:
    name = f"limpet-test-{uuid4().hex}"
    path = FOLDER / name
    path.write_bytes(CONTENT)
    yield name
    path.unlink(missing_ok=True)


def read(shared: SharedMemory, region: Region, uid: int | None = UID) -> bytes:
    target = bytearray(region.size)
    shared.read(uid, region, memoryview(target))
    return bytes(target)


def test_parts_of_a_region_are_read_and_written(key: str) -> None:
    shared = SharedMemory()
    shared.register(UID, "r", "/" + key, 16, 32)
    assert read(shared, Region("r", 4, 8)) == CONTENT[20:28]
    shared.write(UID, Region("r", 30, 2), memoryview(b"\xaa\xbb"))
    assert (FOLDER / key).read_bytes() == CONTENT[:46] + b"\xaa\xbb" + CONTENT[48:]
    assert [one[:4] for one in shared.registered(UID)] == [("r", "/" + key, 16, 32)]
    shared.unregister(UID, "r")
    assert shared.registered(UID) == []


def test_regions_are_those_of_one_user(key: str) -> None:
    shared = SharedMemory()
    shared.register(UID, "r", key, 0, 64)
    for use in (
        lambda: read(shared, Region("r", 0, 4), UID + 1),
        lambda: shared.write(UID + 1, Region("r", 0, 4), memoryview(b"abcd")),
        lambda: shared.unregister(UID + 1, "r"),
        lambda: shared.registered(UID + 1, "r"),
    ):
        with pytest.raises(RequestError, match="registered no region"):
            use()
    assert shared.registered(UID + 1) == []
    shared.unregister(UID + 1)
    assert read(shared, Region("r", 0, 4)) == CONTENT[:4]


def refused(shared: SharedMemory, key: str, *, uid: int | None = UID, name: str = "r", size: int = 8) -> str:
    with pytest.raises(RequestError) as refusal:
        shared.register(uid, name, key, 0, size)
    assert shared.registered(UID) == []
    return refusal.value.cause


def test_shared_memory_of_another_user_is_refused(key: str) -> None:
    shared = SharedMemory()
    assert refused(shared, key, uid=UID + 1) == "denied"
    assert refused(shared, key, uid=None) == "denied"


def test_what_is_no_shared_memory_is_refused(key: str, tmp_path: Path) -> None:
    shared = SharedMemory()
    outside = tmp_path / "outside"
    outside.write_bytes(CONTENT)
    link, fifo, folder = (FOLDER / f"{key}-{kind}" for kind in ("link", "fifo", "folder"))
    link.symlink_to(outside)
    os.mkfifo(fifo)
    folder.mkdir()
    try:
        for name in (link.name, fifo.name, folder.name, "..", ".", f"../../{outside}", "a/b", "", "\0"):
            assert refused(shared, name) == "invalid"
    finally:
        link.unlink()
        fifo.unlink()
        folder.rmdir()
    assert refused(shared, f"{key}-absent") == "unknown"
    assert refused(shared, key, size=65) == "invalid"
    assert refused(shared, key, name="a/b") == "invalid"


def test_memory_that_the_client_shrinks_fails_its_requests_alone(key: str) -> None:
    shared = SharedMemory()
    shared.register(UID, "r", key, 0, 64)
    os.truncate(FOLDER / key, 8)
    assert read(shared, Region("r", 0, 8)) == CONTENT[:8]
    with pytest.raises(RequestError, match="ends too early"):
        read(shared, Region("r", 0, 9))
    with pytest.raises(RequestError, match="ends too early"):
        shared.write(UID, Region("r", 8, 1), memoryview(b"x"))
    assert (FOLDER / key).stat().st_size == 8


def test_tensors_outside_of_the_region_are_refused(key: str) -> None:
    shared = SharedMemory()
    shared.register(UID, "r", key, 8, 16)
    for region in (Region("r", 0, 17), Region("r", 16, 1), Region("r", 1 << 62, 1)):
        with pytest.raises(RequestError, match="outside"):
            read(shared, region)
        with pytest.raises(RequestError, match="outside"):
            shared.write(UID, region, memoryview(b""))
    with pytest.raises(RequestError, match="2 are needed"):
        shared.write(UID, Region("r", 0, 1), memoryview(b"ab"))


def test_the_regions_of_a_user_are_limited(key: str) -> None:
    shared = SharedMemory()
    for number in range(MOST_OF_A_USER):
        shared.register(UID, f"r{number}", key, 0, 1)
    with pytest.raises(RequestError, match=f"{MOST_OF_A_USER} regions") as refusal:
        shared.register(UID, "more", key, 0, 1)
    assert refusal.value.cause == "busy"
    with pytest.raises(RequestError, match="registered already"):
        shared.register(UID, "r0", key, 0, 1)
    shared.unregister(UID)
    shared.register(UID, "more", key, 0, 1)
