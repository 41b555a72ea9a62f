"""The bytes of a capture file: what is written is read again, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from limpet.captures import arrays, form, sealing
from limpet.contracts.captures import Contents, WindowForm
from limpet.errors import UnreadableError
from support.captured import VALUES, capture, packed

if TYPE_CHECKING:
    from pathlib import Path


def test_a_capture_file_gives_back_header_output_and_values(tmp_path: Path) -> None:
    path = tmp_path / "0000000007.capture"
    path.write_bytes(packed(capture()))
    assert form.read_header(path) == (capture(), path.stat().st_size)
    found = form.read(path)
    assert found.capture == capture()
    contents = form.contents(found.capture, found.body, str(path))
    assert contents.output == {"label": "idle"}
    assert np.array_equal(arrays.samples(found.capture, contents), VALUES)


@given(st.data())
def test_a_changed_or_cut_file_is_refused(data: st.DataObject) -> None:
    whole = bytearray(packed(capture()))
    if data.draw(st.booleans()):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    with pytest.raises(UnreadableError):
        form.unpack(bytes(whole), "it")


@given(st.binary(max_size=400))
def test_no_other_bytes_are_a_capture(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        form.unpack(data, "it")


@pytest.mark.parametrize(
    "window",
    [
        WindowForm(encoding="raw", shape=[3, 2], dtype="float32", parts=[20]),
        WindowForm(encoding="raw", shape=[3, 2], dtype="float32", parts=[24], channels=["one"]),
        WindowForm(encoding="raw", shape=[3, 2], dtype="float32", parts=[24], channels=["a", "b"], units=["g"]),
        WindowForm(encoding="jpeg", shape=[2, 8, 8, 3], dtype="uint8", parts=[24]),
    ],
)
def test_a_window_whose_sizes_do_not_fit_its_shape_is_refused(window: WindowForm) -> None:
    with pytest.raises(UnreadableError, match=" for "):
        form.header_of(capture(window=window))


@pytest.mark.parametrize(
    "body", [b"", b"\x00\x00\x00\x02{}", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01{" + bytes(24)]
)
def test_a_body_that_is_not_what_the_header_says_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        form.contents(capture(), body, "it")


def test_only_the_private_key_opens_an_encrypted_capture_and_only_with_its_own_header() -> None:
    private, public = sealing.make_keys()
    theirs, mine = sealing.PublicKey(public), sealing.PrivateKey(private, "private.pem")
    one = capture(encrypted_for=theirs.id)
    clear = form.body_of(b"{}", [VALUES.tobytes()])
    bound = sealing.bound_to(one.pipeline, one.sample, one.model, one.version, one.window)
    found = form.unpack(form.pack(form.header_of(one), theirs.encrypt(clear, bound)), "it")
    assert mine.id == theirs.id
    assert clear not in found.body
    assert mine.decrypt(found, "it") == clear
    other = sealing.PrivateKey(sealing.make_keys()[0], "other.pem")
    with pytest.raises(UnreadableError, match=f"for the key {theirs.id}, not {other.id}"):
        other.decrypt(found, "it")
    with pytest.raises(UnreadableError, match="changed"):
        mine.decrypt(replace(found, capture=replace(one, sample=1)), "it")
    with pytest.raises(UnreadableError, match="it"):
        mine.decrypt(replace(found, body=found.body[:20]), "it")


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_is_no_date_in_other_time_zones_is_refused(time: str) -> None:
    header = form.header_of(capture()).replace(b"2026-11-29T00:00:00Z", time.encode())
    with pytest.raises(UnreadableError, match="is of the year"):
        form.unpack(form.pack(header, b""), "it")


def test_a_file_without_a_key_is_refused_by_name() -> None:
    with pytest.raises(UnreadableError, match="public key"):
        sealing.PublicKey("AAAA")
    with pytest.raises(UnreadableError, match=r"key\.pem"):
        sealing.PrivateKey(b"no key", "key.pem")


@pytest.mark.parametrize("shape", [[1 << 24] * 8, [3, 0, 1 << 24], [5]])
def test_a_shape_that_the_bytes_do_not_have_is_refused(shape: list[int]) -> None:
    one = capture(number=1, window=WindowForm(encoding="raw", shape=shape, dtype="float32", parts=[12]))
    with pytest.raises(UnreadableError):
        arrays.samples(one, Contents(None, [bytes(12)]))
