"""Bundles that are encrypted on the disk."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.config import Config, Device
from limpet.errors import ConfigError, DeployError
from limpet.models import sealed
from limpet.models.sealed import SEGMENT, SealedFile
from limpet.tables import UpdatesTable

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))
LENGTHS = [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 100]


def made(content: bytes, key: bytes = KEY) -> tuple[bytes, bytes]:
    """Return the sealed form of a content, and the key of its file."""
    own = sealed.file_key(key, hashlib.sha256(content).hexdigest())
    target = io.BytesIO()
    assert sealed.seal(io.BytesIO(content), len(content), target, own) == hashlib.sha256(content).hexdigest()
    return target.getvalue(), own


def opened(data: bytes, key: bytes) -> io.BufferedReader:
    return io.BufferedReader(SealedFile(io.BytesIO(data), "motion-8.limpet", key))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_sealed_content_is_read_again(length: int) -> None:
    content = os.urandom(length)
    data, key = made(content)
    assert len(data) == sealed.sealed_size(length)
    assert content[:64] not in data or not content
    assert opened(data, key).read() == content


@given(st.lists(st.tuples(st.integers(0, 3 * SEGMENT), st.integers(0, 2 * SEGMENT)), max_size=8))
def test_any_part_can_be_read(parts: list[tuple[int, int]]) -> None:
    content = hashlib.shake_256(b"content").digest(2 * SEGMENT + 77)
    data, key = made(content)
    file = opened(data, key)
    for place, size in parts:
        file.seek(place)
        assert file.read(size) == content[place : place + size]


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    content = hashlib.shake_256(b"content").digest(SEGMENT + 50)
    whole, key = made(content)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DeployError):
        opened(bytes(changed), key).read()


@given(st.integers(0, SEGMENT + 81))
def test_an_end_that_is_cut_off_is_noticed(length: int) -> None:
    whole, key = made(hashlib.shake_256(b"content").digest(SEGMENT + 50))
    with pytest.raises(DeployError):
        opened(whole[:length], key).read()


def test_segments_cannot_be_swapped_within_a_file_or_between_files() -> None:
    content = os.urandom(2 * SEGMENT)
    whole, key = made(content)
    size = SEGMENT + 16
    first, second = whole[16 : 16 + size], whole[16 + size :]
    with pytest.raises(DeployError, match="changed on the disk"):
        opened(whole[:16] + second + first, key).read()
    other, _ = made(os.urandom(2 * SEGMENT))
    with pytest.raises(DeployError, match="changed on the disk"):
        opened(whole[: 16 + size] + other[16 + size :], key).read()


def test_two_devices_and_two_contents_have_other_keys() -> None:
    digests = [hashlib.sha256(content).hexdigest() for content in (b"a", b"b")]
    keys = {sealed.file_key(key, digest) for key in (KEY, bytes(32)) for digest in digests}
    assert len(keys) == 4
    whole, _ = made(b"a")
    with pytest.raises(DeployError, match="another key"):
        opened(whole, sealed.file_key(bytes(32), digests[0])).read()


def test_a_zip_is_read_out_of_a_sealed_file() -> None:
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("model.tflite", os.urandom(3 * SEGMENT))
        archive.writestr("manifest.json", "{}")
    data, key = made(plain.getvalue())
    with zipfile.ZipFile(opened(data, key)) as archive:
        assert archive.testzip() is None
        assert archive.read("manifest.json") == b"{}"


def test_a_content_that_is_too_short_is_not_sealed() -> None:
    with pytest.raises(DeployError, match="ends after 3 bytes of 10"):
        sealed.seal(io.BytesIO(b"abc"), 10, io.BytesIO(), KEY)


def config(path: Path) -> Config:
    device = Device(id="press-07", state=path.parent)
    return Config(path.parent, device, {}, {}, {}, updates=UpdatesTable(encryption_key_file=path))


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_key_has_32_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    path = tmp_path / "bundle-key"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="a key has 32 bytes"):
        sealed.device_key(config(path))
    path.write_bytes(KEY)
    assert sealed.device_key(config(path)) == KEY


def test_a_key_may_be_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "bundle-key").write_bytes(KEY)
    assert sealed.device_key(config(tmp_path / "elsewhere" / "bundle-key")) == KEY


def test_without_a_folder_in_memory_nothing_is_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the model would be unpacked onto the disk."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="RUNTIME_DIRECTORY"):
        sealed.device_key(config(tmp_path / "bundle-key"))
