"""Pictures on disk: each format, folders that change, and files that are none."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import zlib
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limpet.contracts.frame import whole
from limpet.errors import ConfigError, SourceError, UnreadableError
from limpet.recordings import folder
from limpet.sources import _picture, images, replay
from recordings.test_folder import STARTED, recording
from support import pictures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.contracts.data import Samples
    from limpet.contracts.frame import Frame

PIXELS = pictures.pixels()


def developed(frame: Frame) -> Any:
    return frame.developer(whole(frame.form))(frame)


class Watcher:
    """Reads a source of pictures as they come."""

    def __init__(self, blocks: Iterator[Samples], dropped: Counter[str]) -> None:
        self.dropped = dropped
        self.note = ""
        self._blocks = blocks

    def next(self) -> Samples:
        """Return the next picture."""
        while True:
            block = next(self._blocks)
            self.note = block.note or self.note
            if len(block):
                return block

    def numbers(self, count: int) -> list[int]:
        """Return which pictures come next, by what ``pictures.pixels`` drew into them."""
        return [int(developed(self.next().values[0])[0, 0, 2]) for _ in range(count)]

    def idle(self, times: int) -> None:
        """Check that no picture comes for some looks."""
        for _ in range(times):
            block = next(self._blocks)
            self.note = block.note or self.note
            assert not len(block)


@contextmanager
def watched(path: Path, **options: Any) -> Iterator[Watcher]:
    dropped: Counter[str] = Counter()
    with images.open(images.Config(path=path, **options), dropped) as blocks:
        yield Watcher(blocks, dropped)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_pixels_are_those_of_the_file(kind: str) -> None:
    data = pictures.encoded(PIXELS, kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(developed(_picture.decode(data)), PIXELS)


def test_a_jpeg_has_the_numbers_of_pillow() -> None:
    data = pictures.encoded(pictures.pixels(7, 480, 640), "JPEG", quality=90)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(developed(_picture.decode(data)), np.asarray(image.convert("RGB")))


def test_of_a_gif_the_first_picture_is_taken() -> None:
    frames = [Image.fromarray(pictures.pixels(number)).quantize(64) for number in (0, 200)]
    data = pictures.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(developed(_picture.decode(data)).astype(int), PIXELS, atol=40)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_colours_become_rgb_as_pillow_makes_it(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    data = pictures.encoded(image, "JPEG" if mode == "CMYK" else "PNG")
    with Image.open(io.BytesIO(data)) as reopened:
        np.testing.assert_array_equal(developed(_picture.decode(data)), np.asarray(reopened.convert("RGB")))


def test_of_16_bits_the_upper_8_are_taken() -> None:
    grey = np.arange(0, 65536, 683, np.uint32).reshape(8, 12).astype(np.uint16)
    found = developed(_picture.decode(pictures.encoded(Image.fromarray(grey), "PNG")))
    np.testing.assert_array_equal(found, np.repeat((grey >> 8).astype(np.uint8)[:, :, np.newaxis], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_as_its_camera_noted(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.fromarray(PIXELS)
    # What makes it upright, undone: the camera stores what its sensor saw.
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    stored = upright if undo is None else upright.transpose(Image.Transpose(undo))
    file = pictures.aged(tmp_path / "p.png", pictures.encoded(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(developed(_picture.read(file)), PIXELS)
    assert _picture.size(file) == (12, 8)


def test_a_folder_is_read_by_name_and_then_as_pictures_come(tmp_path: Path) -> None:
    pictures.fill(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".0000.png").write_bytes(b"not finished")
    with watched(tmp_path) as watcher:
        assert watcher.numbers(3) == [0, 1, 2]
        watcher.idle(1)
        pictures.aged(tmp_path / "b.part", pictures.encoded(pictures.pixels(50), "PNG")).rename(tmp_path / "b.png")
        assert watcher.numbers(1) == [50]
        pictures.aged(tmp_path / "a.png", pictures.encoded(pictures.pixels(51), "PNG"), 1)
        assert watcher.numbers(1) == [51]
        assert not watcher.dropped


def test_pictures_that_were_there_can_be_left_out(tmp_path: Path) -> None:
    pictures.fill(tmp_path, 3)
    with watched(tmp_path, existing=False) as watcher:
        watcher.idle(2)
        pictures.aged(tmp_path / "new.png", pictures.encoded(pictures.pixels(9), "PNG"))
        assert watcher.numbers(1) == [9]


def test_a_file_that_is_still_being_written_is_not_read_in_half(tmp_path: Path) -> None:
    data = pictures.encoded(pictures.pixels(5, 64, 64), "BMP")
    begun, done = threading.Event(), threading.Event()

    def write() -> None:
        with (tmp_path / "slow.bmp").open("wb") as file:
            for start in range(0, len(data), len(data) // 8):
                file.write(data[start : start + len(data) // 8])
                file.flush()
                begun.set()
                time.sleep(0.15)
        done.set()

    with watched(tmp_path) as watcher:
        writer = threading.Thread(target=write)
        writer.start()
        begun.wait()
        assert watcher.numbers(1) == [5]
        writer.join()
        assert done.is_set()
        assert not watcher.dropped


def test_a_file_that_becomes_whole_late_is_not_damaged(tmp_path: Path) -> None:
    data = pictures.encoded(PIXELS, "PNG")
    with watched(tmp_path) as watcher:
        (tmp_path / "late.png").write_bytes(data[:60])
        watcher.idle(5)
        assert not watcher.dropped
        (tmp_path / "late.png").write_bytes(data)
        assert watcher.numbers(1) == [0]
        assert not watcher.dropped


def test_a_picture_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "latest.png"
    pictures.aged(file, pictures.encoded(pictures.pixels(1), "PNG"))
    with watched(file) as watcher:
        assert watcher.numbers(1) == [1]
        pictures.aged(tmp_path / "next", pictures.encoded(pictures.pixels(2), "PNG")).rename(file)
        assert watcher.numbers(1) == [2]
        watcher.idle(1)
    assert images.describe(images.Config(path=file)).shape == (8, 12, 3)
    assert images.describe(images.Config(path=tmp_path)).shape == (-1, -1, 3)
    assert images.describe(images.Config(path=tmp_path / "away.png")).shape == (-1, -1, 3)


def test_damaged_pictures_are_counted_and_named_and_cost_no_other(tmp_path: Path) -> None:
    pictures.fill(tmp_path, 4, damaged={1})
    pictures.aged(tmp_path / "0002.png", b"GIF89a, but it is none")
    with watched(tmp_path) as watcher:
        first = watcher.next()
        last = watcher.next()
        assert watcher.dropped == {"damaged": 2}
        assert watcher.note.startswith("0002.png: ")
        assert (first.index, last.index, first.gap, last.gap) == (0, 3, False, True)


def test_links_do_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret.png", tmp_path / "folder"
    folder.mkdir()
    pictures.aged(secret, pictures.encoded(PIXELS, "PNG"))
    (folder / "a.png").symlink_to(secret)
    os.mkfifo(folder / "b.png")
    pictures.aged(folder / "c.png", pictures.encoded(pictures.pixels(3), "PNG"))
    with watched(folder) as watcher:
        assert watcher.numbers(1) == [3]
        watcher.idle(1)


def test_times_are_those_of_the_files_if_wanted(tmp_path: Path) -> None:
    for number, age in enumerate((50, 40, 45)):
        pictures.aged(tmp_path / f"{number}.png", pictures.encoded(PIXELS, "PNG"), age)
    with watched(tmp_path, time="file") as watcher:
        blocks = [watcher.next() for _ in range(3)]
    ages = [(time.time_ns() - int(block.wall_ns[0])) / 1e9 for block in blocks]
    np.testing.assert_allclose(ages, [50, 40, 40], atol=20)
    assert ages[0] - ages[1] == pytest.approx(10, abs=0.5)
    assert ages[1] == pytest.approx(ages[2], abs=0.5)
    with watched(tmp_path) as watcher:
        assert time.time_ns() - int(watcher.next().wall_ns[0]) < 30e9


def test_a_missing_folder_is_a_source_that_is_away(tmp_path: Path) -> None:
    with watched(tmp_path / "away") as watcher, pytest.raises(SourceError, match="No such file"):
        watcher.next()


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG that would have so many pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(8001, 5000), (60_000, 60_000), (1 << 31, 1)])
def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(width: int, height: int) -> None:
    with pytest.raises(UnreadableError, match=r"pixels|damaged"):
        _picture.decode(bomb(width, height))


def test_a_jpeg_with_scans_without_end_is_refused_before_it_is_decoded() -> None:
    """Each scan has some bytes, and costs a pass over all pixels: a file of 1 MB would be decoded for an hour."""
    whole_one = pictures.encoded(PIXELS, "JPEG", progressive=True)
    scan = whole_one[whole_one.rindex(b"\xff\xda") : -2]
    end = whole_one[-2:]
    many = whole_one[:-2] + scan * 50 + end
    assert developed(_picture.decode(many)).shape == developed(_picture.decode(whole_one)).shape
    with pytest.raises(UnreadableError, match="more than 64 scans"):
        _picture.decode(whole_one[:-2] + scan * 64 + end)
    behind = whole_one + scan * 100
    assert developed(_picture.decode(behind)).shape == developed(_picture.decode(whole_one)).shape


def test_a_file_of_another_format_is_refused() -> None:
    with pytest.raises(UnreadableError, match="no JPEG, PNG"):
        _picture.decode(pictures.encoded(PIXELS, "TIFF"))


WHOLE = [
    pictures.encoded(PIXELS, "PNG"),
    pictures.encoded(PIXELS, "JPEG", progressive=True),
    pictures.encoded(PIXELS, "BMP"),
    pictures.encoded(PIXELS, "WEBP"),
    pictures.encoded(Image.fromarray(PIXELS).quantize(16), "GIF"),
]


@given(st.sampled_from(WHOLE), st.data())
def test_whatever_is_in_a_file_gives_a_picture_or_a_reason(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 5))):
        changed[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    cut = bytes(changed[: draw.draw(st.integers(0, len(data)))])
    try:
        frame = _picture.decode(cut)
    except UnreadableError:
        return
    assert developed(frame).dtype == np.uint8


# --- replay


def played(path: Path, **options: Any) -> tuple[list[Samples], Counter[str]]:
    dropped: Counter[str] = Counter()
    with replay.open(replay.Config(path=path, **options), dropped) as blocks:
        return [block for block in blocks if len(block)], dropped


def test_a_folder_of_pictures_is_played_at_a_rate(tmp_path: Path) -> None:
    pictures.fill(tmp_path, 4, damaged={2})
    blocks, dropped = played(tmp_path, rate=10, speed="flat-out")
    assert [int(developed(block.values[0])[0, 0, 2]) for block in blocks] == [0, 1, 3]
    assert [block.gap for block in blocks] == [False, False, True]
    assert dropped == {"damaged": 1}
    times = np.concatenate([block.monotonic_ns for block in blocks])
    np.testing.assert_allclose(np.diff(times), [0.1e9, 0.2e9])
    spec = replay.describe(replay.Config(path=tmp_path, rate=10))
    assert (spec.frames, spec.shape, spec.rate, spec.queue) == (True, (-1, -1, 3), 10, 1)


def test_a_single_picture_is_played(tmp_path: Path) -> None:
    pictures.fill(tmp_path, 1)
    (block,), dropped = played(tmp_path / "0000.png", speed="flat-out")
    np.testing.assert_array_equal(developed(block.values[0]), PIXELS)
    assert not dropped
    assert replay.describe(replay.Config(path=tmp_path / "0000.png", speed="flat-out")).shape == (8, 12, 3)


def test_pictures_are_played_as_they_were_taken_if_the_folder_says_when(tmp_path: Path) -> None:
    pictures.fill(tmp_path, 3)
    with folder.changing(tmp_path) as found:
        for number, second in enumerate((2.0, 0.0, 0.5)):
            started = STARTED + timedelta(seconds=second)
            found.recordings.append(recording(f"{number:04}.png", started=started, samples=1, seconds=0))
    blocks, _ = played(tmp_path, speed="flat-out")
    assert [int(developed(block.values[0])[0, 0, 2]) for block in blocks] == [1, 2, 0]
    times = np.concatenate([block.monotonic_ns for block in blocks])
    np.testing.assert_allclose(np.diff(times), [0.5e9, 1.5e9])


def test_what_is_no_recording_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, reason in ((tmp_path / "empty", "without pictures"), (tmp_path / "a.png", "No such file")):
        with pytest.raises(ConfigError, match=reason):
            replay.describe(replay.Config(path=path, speed="flat-out"))
