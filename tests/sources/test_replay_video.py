"""`replay` plays videos: real files, whole, damaged and cut short."""

from __future__ import annotations

import gc
import os
import struct
import time
import tracemalloc
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limpet.contracts.frame import whole
from limpet.errors import ConfigError
from limpet.sources import replay
from support import videos

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.contracts.data import Samples


def play(path: Path, dropped: Counter[str] | None = None, most: int = 1000, **keys: Any) -> list[Samples]:
    """Return blocks with frames."""
    config = replay.Config(path=path, **{"speed": "flat-out", **keys})
    found = []
    with replay.open(config, Counter() if dropped is None else dropped) as blocks:
        for block in blocks:
            if len(block):
                found.append(block)
            if len(found) >= most:
                break
    return found


def pixels(block: Samples) -> np.ndarray[Any, Any]:
    frame = block.values[0]
    return np.array(frame.developer(whole(frame.form))(frame))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.mp4", "libx264"),
        ("v.mkv", "libx264"),
        ("v.mov", "mjpeg"),
        ("v.avi", "mjpeg"),
        ("v.webm", "libvpx-vp9"),
        ("v.ts", "mpeg2video"),
        ("v.MKV", "libx265"),
    ],
)
def test_every_frame_comes_at_its_recorded_time(tmp_path: Path, name: str, codec: str) -> None:
    path = videos.write(tmp_path / name, 12, codec, form="matroska" if name == "v.MKV" else None)
    spec = replay.describe(replay.Config(path=path))
    assert spec.frames
    assert spec.shape == (96, 128, 3)
    assert spec.rate == pytest.approx(25, rel=0.05)
    blocks = play(path)
    assert [block.index for block in blocks] == list(range(12))
    steps = np.diff([int(block.monotonic_ns[0]) for block in blocks]) / 1e9
    np.testing.assert_allclose(steps, 0.04, atol=0.002)
    assert int(blocks[-1].monotonic_ns[0]) <= time.monotonic_ns(), "it ended before now"
    places = [videos.left_of_square(pixels(block)) for block in blocks]
    np.testing.assert_allclose(places, np.arange(12) * 4, atol=2)


def test_it_plays_at_its_own_speed_and_faster(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "v.mp4", 10)
    begin = time.monotonic_ns()
    blocks = play(path, speed="recorded")
    assert int(blocks[-1].monotonic_ns[0]) - begin >= 9 * 40e6
    assert time.monotonic_ns() >= int(blocks[-1].monotonic_ns[0]), "no frame comes before it is due"
    fast = play(path, speed=10)
    assert int(fast[-1].monotonic_ns[0]) - int(fast[0].monotonic_ns[0]) == pytest.approx(9 * 4e6, rel=0.01)


def test_a_rate_replaces_the_recorded_times(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "v.mp4", 6)
    blocks = play(path, rate=10)
    steps = np.diff([int(block.monotonic_ns[0]) for block in blocks])
    np.testing.assert_allclose(steps, 1e8)


def test_it_begins_again_with_a_gap(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "v.mkv", 5)
    blocks = play(path, most=12, speed=20, loop=True)
    assert [block.index for block in blocks] == list(range(12))
    assert [block.index for block in blocks if block.gap] == [5, 10]
    stamps = [int(block.monotonic_ns[0]) for block in blocks]
    assert stamps == sorted(stamps)


def test_an_elementary_stream_needs_a_rate(tmp_path: Path) -> None:
    path = tmp_path / "v.h264"
    path.write_bytes(b"".join(videos.packets("libx264", 8, g="4", bf="0")))
    with pytest.raises(ConfigError, match="rate: missing"):
        replay.describe(replay.Config(path=path))
    blocks = play(path, rate=5)
    assert len(blocks) == 8
    assert int(blocks[-1].monotonic_ns[0]) - int(blocks[0].monotonic_ns[0]) == pytest.approx(7 * 2e8)
    assert len(play(path)) == 8


def test_concatenated_jpegs_are_a_video(tmp_path: Path) -> None:
    path = tmp_path / "v.mjpeg"
    path.write_bytes(b"".join(videos.jpegs(7)))
    assert len(play(path, rate=5)) == 7


def test_a_long_video_is_not_in_memory(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "v.avi", 400, "mjpeg")
    config = replay.Config(path=path, speed="flat-out")
    tracemalloc.start()
    try:
        count = sum(len(block) for block in replay.open(config, Counter()).__enter__())
        gc.collect()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 400
    assert peak < 1_000_000, "400 frames have 7 MB"


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_sound_that_lasts_longer_than_the_pictures_is_no_cut(tmp_path: Path, name: str) -> None:
    path = videos.write_with(tmp_path / name, sound=4)
    dropped: Counter[str] = Counter()
    assert len(play(path, dropped)) == 25
    assert not dropped


def test_of_several_videos_in_a_file_the_main_one_is_played(tmp_path: Path) -> None:
    path = videos.write_with(tmp_path / "v.mp4", preview=True)
    blocks = play(path)
    assert len(blocks) == 25
    assert pixels(blocks[3]).shape == (96, 128, 3)


def seen(path: Path) -> np.ndarray[Any, Any]:
    return pixels(play(path, most=1)[0]).astype(int)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
        ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
        ((1, 0, 0, -1), lambda picture: picture[::-1]),
        ((0, 1, 1, 0), lambda picture: picture.swapaxes(0, 1)),
    ],
)
def test_a_video_is_upright_however_the_telephone_was_held(
    tmp_path: Path, matrix: tuple[int, int, int, int], turn: Callable[[Any], Any]
) -> None:
    path = videos.write(tmp_path / "v.mp4", 3)
    plain = seen(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (each << 16 for each in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    np.testing.assert_array_equal(seen(path), turn(plain))
    assert replay.describe(replay.Config(path=path)).shape == turn(plain).shape


def test_the_times_of_recordings_that_were_put_together_go_on(tmp_path: Path) -> None:
    one = videos.write(tmp_path / "one.ts", 20).read_bytes()
    two = videos.write(tmp_path / "two.ts", 20, size=(64, 48)).read_bytes()
    both = tmp_path / "both.ts"
    both.write_bytes(one + two)
    dropped: Counter[str] = Counter()
    blocks = play(both, dropped)
    stamps = np.array([int(block.monotonic_ns[0]) for block in blocks])
    np.testing.assert_allclose(np.diff(stamps) / 1e6, 40, atol=1)
    assert len(blocks) == 40
    assert not dropped


def test_pictures_before_the_first_whole_one_are_counted(tmp_path: Path) -> None:
    data = videos.write(tmp_path / "v.ts", 30).read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    begins = [at for at, each in enumerate(packets) if each[1:3] == b"\x41\0"]  # pictures begin here
    path = tmp_path / "begins-late.ts"
    path.write_bytes(b"".join([*packets[: begins[0]], *packets[begins[1] :]]))  # every fifth one is whole
    dropped: Counter[str] = Counter()
    assert len(play(path, dropped)) == 25
    assert dropped == {"corrupt": 4}


@pytest.mark.parametrize("name", ["v.mkv", "v.avi", "v.mp4"])
def test_of_a_video_that_is_cut_short_comes_what_is_there(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"movflags": "faststart"} if name == "v.mp4" else {}
    path = videos.write(tmp_path / name, 100, **options)
    os.truncate(path, path.stat().st_size * 6 // 10)
    dropped: Counter[str] = Counter()
    blocks = play(path, dropped)
    assert 20 < len(blocks) < 90
    assert dropped["cut_short"] + dropped["corrupt"] > 5
    assert "v." in caplog.text
    assert "cut short" in caplog.text or "cannot be decoded" in caplog.text


def test_a_video_without_its_index_says_so(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "v.mp4", 50)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ConfigError, match="cut short: its index, which is at the end, is missing"):
        replay.describe(replay.Config(path=path))


def test_a_damaged_frame_is_counted_and_leaves_a_gap(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "v.avi", 20, "mjpeg")
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xd8", len(data) // 2)
    data[at : at + 2] = b"\0\0"
    path.write_bytes(data)
    dropped: Counter[str] = Counter()
    blocks = play(path, dropped)
    assert len(blocks) == 19
    assert dropped == {"corrupt": 1}
    assert sum(block.gap for block in blocks) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no video"), (b"no video at all" * 100, "no video"), (b"\x1aE\xdf\xa3" * 50, "no video")],
)
def test_what_is_no_video_says_so(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "v.mkv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        replay.describe(replay.Config(path=path))


def test_what_is_not_there_or_no_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        replay.describe(replay.Config(path=tmp_path / "v.mp4"))
    os.mkfifo(tmp_path / "f.mp4")
    with pytest.raises(ConfigError, match="not a regular file"):
        replay.describe(replay.Config(path=tmp_path / "f.mp4"))
    path = videos.write(tmp_path / "w.mp4", 5)
    with pytest.raises(ConfigError, match="channels: a video has none"):
        replay.describe(replay.Config(path=path, channels=["a"]))


def test_no_playlist_opens_another_file(tmp_path: Path) -> None:
    video = videos.write(tmp_path / "secret.ts", 25)
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{video}'\n",
    ):
        path = tmp_path / "list.ts"
        path.write_text(text)
        with pytest.raises(ConfigError):
            replay.describe(replay.Config(path=path))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_in_a_file_it_is_played_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    whole_file = tmp_path / "whole.mkv"
    if not whole_file.exists():
        videos.write(whole_file, 10)
    content = bytearray(whole_file.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.mkv"
    path.write_bytes(content)
    try:
        for block in play(path):
            assert block.values[0].form.width > 0
    except ConfigError:
        pass
