"""The source `camera`: real streams from servers on loopback, and all that can go wrong with them.

What needs a kernel's camera is in the virtual lab.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import av
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.frame import whole
from limpet.contracts.needs import Endpoint
from limpet.errors import ConfigError, SourceError, UnreadableError
from limpet.sources import camera
from limpet.sources._av_gate import BEHIND_NS, LONGEST_NS, Gate
from limpet.sources._av_limits import LARGEST_BLOCK
from limpet.sources._av_log import without_password
from limpet.sources._av_stream import DRIFT, StreamClock
from limpet.sources._av_video import Video
from limpet.sources._v4l2 import Control
from support import certificates, videos
from support.rtsp import RtspCamera
from support.web_camera import WebCamera

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.contracts.data import Samples

PASSWORD = "s3cret/ w"  # noqa: S105 - a test's


OTHER = PASSWORD[::-1]


class Seen:
    """What came of a source: frames as ``(index, gap, pixels)``, why it went away, and what was counted."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bool, Any]] = []
        self.ages: list[float] = []
        self.stamps: list[int] = []
        self.why = ""
        self.notes: set[str] = set()
        self.dropped: Counter[str] = Counter()


def read(count: int, *, seconds: float = 20, **table: Any) -> Seen:
    """Read so many frames, or until the source goes away."""
    seen = Seen()
    until = time.monotonic() + seconds
    try:
        with camera.open(config(**table), seen.dropped) as blocks:
            for block in blocks:
                _note(block, seen)
                if len(seen.frames) >= count or time.monotonic() > until:
                    break
    except SourceError as error:
        seen.why = str(error)
    return seen


def _note(block: Samples, seen: Seen) -> None:
    if not len(block):
        seen.notes.add(block.note)
        return
    frame = block.values[0]
    pixels = np.array(frame.developer(whole(frame.form))(frame))
    seen.frames.append((block.index, block.gap, pixels))
    seen.stamps.append(int(block.monotonic_ns[0]))
    seen.ages.append((time.monotonic_ns() - int(block.monotonic_ns[0])) / 1e9)


def config(**table: Any) -> camera.Config:
    return msgspec.convert(table, camera.Config, dec_hook=lambda wanted, value: wanted(value))


def tls(folder: Path, host: str = "localhost") -> tuple[ssl.SSLContext, Path]:
    """Return what a server with a certificate needs, and the authority that issued it."""
    authority = certificates.authority(folder)
    certificate, key = certificates.certificate(authority, "camera", host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, authority


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


# --- streams that work


def test_rtsp_with_a_login_gives_frames_over_tcp(password: Path) -> None:
    with RtspCamera(user="eve", password=PASSWORD) as server:
        seen = read(5, url=f"rtsp://127.0.0.1:{server.port}/s", user="eve", password_file=str(password))
    assert len(seen.frames) == 5
    assert all(pixels.shape == (96, 128, 3) for _, _, pixels in seen.frames)
    places = [videos.left_of_square(pixels) // 4 for _, _, pixels in seen.frames]
    numbers = [index for index, _, _ in seen.frames]
    assert np.ptp(np.subtract(places, numbers)) == 0, "a frame that is lost shows in the index"
    assert all("TCP" in each for each in server.transports)
    assert all(0 <= age < 10 for age in seen.ages)


def test_rtsp_with_tls_trusts_the_named_authority_alone(tmp_path: Path) -> None:
    context, authority = tls(tmp_path)
    with RtspCamera(context=context) as server:
        url = f"rtsps://localhost:{server.port}/s"
        assert len(read(2, url=url, ca_file=str(authority)).frames) == 2
        other = certificates.authority(tmp_path, "other")
        seen = read(2, url=url, ca_file=str(other))
        assert not seen.frames
        assert "certificate is not trusted" in seen.why
        assert seen.dropped == {"tls": 1}
        assert read(2, url=url).dropped == {"tls": 1}, "the system does not trust it either"
        assert len(read(2, url=url, verify=False).frames) == 2


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    context, authority = tls(tmp_path, "elsewhere")
    with WebCamera(videos.jpegs(3), context=context) as server:
        seen = read(2, url=f"https://localhost:{server.port}/stream", ca_file=str(authority))
    assert "certificate" in seen.why
    assert seen.dropped == {"tls": 1}


def test_http_gives_jpegs_that_are_not_decoded_before_they_are_taken(password: Path) -> None:
    pictures = videos.jpegs(10)
    with WebCamera(pictures, user="eve", password=PASSWORD) as server:
        table = {"url": f"http://127.0.0.1:{server.port}/stream", "user": "eve", "password_file": str(password)}
        with camera.open(config(**table), Counter()) as blocks:
            block = next(each for each in blocks if len(each))
            frame = block.values[0]
            assert frame.form.format == "mjpeg"
            assert frame.nbytes in {len(each) for each in pictures}
        seen = read(3, **table, rotation=90, crop=[0, 0, 96, 64])
    assert [pixels.shape for _, _, pixels in seen.frames] == [(64, 96, 3)] * 3


@pytest.mark.parametrize(
    "part",
    [
        lambda picture: b"Content-Type: image/jpeg\r\n\r\n" + picture + b"\r\n--frame\r\n",
        lambda picture: b"--frame\r\nContent-Type: image/jpg\r\n\r\n" + picture + b"\r\n",
    ],
    ids=["boundary behind", "unknown type"],
)
def test_pictures_of_a_web_camera_that_breaks_the_rules_of_multipart_are_found(
    part: Callable[[bytes], bytes],
) -> None:
    with WebCamera(videos.jpegs(20), part=part) as server:
        seen = read(5, url=f"http://127.0.0.1:{server.port}/stream")
    assert {pixels.shape for _, _, pixels in seen.frames} == {(96, 128, 3)}
    assert not seen.why


def test_tcp_gives_what_rpicam_vid_sends() -> None:
    """`rpicam-vid --listen -o tcp://0.0.0.0:8888` sends bare H.264, and says nothing about times."""
    with tcp_server(list(videos.packets("libx264", 200, g="5", tune="zerolatency"))) as port:
        seen = read(5, url=f"tcp://127.0.0.1:{port}")
    assert len(seen.frames) == 5
    assert all(pixels.shape == (96, 128, 3) for _, _, pixels in seen.frames)


@contextmanager
def tcp_server(parts: list[bytes]) -> Iterator[int]:
    """Send parts to each client that connects."""
    ended = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with closing(server.accept()[0]) as connection:
            for part in parts:
                if ended.wait(0.005):
                    return
                try:
                    connection.sendall(part)
                except OSError:
                    return
            ended.wait()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        ended.set()
        thread.join()
        server.close()


# --- streams that fail, each with its own cause


def test_a_refused_login_says_so_and_shows_no_password(password: Path) -> None:
    with RtspCamera(user="eve", password=OTHER) as server:
        url = f"rtsp://127.0.0.1:{server.port}/s"
        seen = read(1, url=url, user="eve", password_file=str(password))
        assert seen.why == f"{url}: the camera refuses the login: check user and password_file"
        assert seen.dropped == {"login": 1}
        assert read(1, url=url).dropped == {"login": 1}
    with WebCamera(videos.jpegs(1), user="eve", password=OTHER) as web:
        seen = read(1, url=f"http://127.0.0.1:{web.port}/stream", user="eve", password_file=str(password))
    assert seen.dropped == {"login": 1}
    assert PASSWORD not in seen.why


def test_no_text_of_an_error_has_the_password(password: Path) -> None:
    with RtspCamera(user="eve", password=OTHER) as server:
        table = {"url": f"rtsp://127.0.0.1:{server.port}/s", "user": "eve", "password_file": str(password)}
        with pytest.raises(SourceError) as caught, camera.open(config(**table), Counter()) as blocks:
            list(blocks)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in f"{error} {error.args}"
        error = error.__cause__ or error.__context__


def test_a_password_file_that_is_away_is_a_failed_login(tmp_path: Path) -> None:
    seen = read(1, url="rtsp://127.0.0.1:9/s", user="eve", password_file=str(tmp_path / "none"))
    assert "No such file" in seen.why
    assert seen.dropped == {"login": 1}


def test_a_server_that_stalls_is_a_timeout() -> None:
    with RtspCamera(count=20, then="stall") as server:
        seen = read(1000, url=f"rtsp://127.0.0.1:{server.port}/s", timeout=0.5)
    assert seen.frames
    assert "no picture came for 0.5 s" in seen.why
    assert seen.dropped["timeout"] == 1


def test_a_server_that_never_answers_is_a_timeout_and_nobody_waits_for_it() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/s"
        with camera.open(config(url=url, timeout=1), Counter()) as blocks:
            first = next(blocks)
            assert not len(first)
            assert "has not answered yet" in first.note
        seen = read(1, url=url, timeout=0.5)
    assert seen.dropped == {"timeout": 1}


def test_a_server_that_closes_has_ended_the_stream() -> None:
    with RtspCamera(count=20, then="close") as server:
        seen = read(1000, url=f"rtsp://127.0.0.1:{server.port}/s")
    assert "ended the stream" in seen.why
    assert seen.dropped["ended"] == 1
    with WebCamera(videos.jpegs(5), then="close") as web:
        seen = read(1000, url=f"http://127.0.0.1:{web.port}/stream")
    assert seen.dropped["ended"] == 1


def test_a_stream_that_changes_its_size_goes_on() -> None:
    with RtspCamera(sizes=((128, 96), (160, 120)), count=20) as server:
        seen = read(30, url=f"rtsp://127.0.0.1:{server.port}/s")
    assert {pixels.shape for _, _, pixels in seen.frames} == {(96, 128, 3), (120, 160, 3)}
    assert seen.dropped["resized"] >= 1
    mixed = videos.jpegs(3) + videos.jpegs(3, (64, 48))
    with WebCamera(mixed) as web:
        seen = read(12, url=f"http://127.0.0.1:{web.port}/stream")
    assert {pixels.shape for _, _, pixels in seen.frames} == {(96, 128, 3), (48, 64, 3)}
    assert seen.dropped["resized"] >= 1


def test_damaged_pictures_are_counted_and_leave_a_gap() -> None:
    good = videos.jpegs(4)
    with WebCamera([good[0], good[1], good[2][:300], b"no picture", good[3]], rate=20) as server:
        seen = read(8, url=f"http://127.0.0.1:{server.port}/stream")
    assert len(seen.frames) == 8
    assert seen.dropped["corrupt"] >= 2
    assert any(gap for _, gap, _ in seen.frames)
    assert not seen.why


def test_what_follows_a_damaged_picture_is_left_out_up_to_the_next_key_picture() -> None:
    with RtspCamera(count=20, then="close", damaged=11) as server:
        seen = read(1000, url=f"rtsp://127.0.0.1:{server.port}/s")
    assert seen.dropped["corrupt"] == 4, "pictures 11 to 14; every fifth is a key picture"
    assert {11, 12, 13, 14}.isdisjoint(index for index, _, _ in seen.frames)


def test_pictures_that_come_in_another_order_have_their_own_times() -> None:
    with RtspCamera(count=60, rate=25, between=2) as server:
        seen = read(16, url=f"rtsp://127.0.0.1:{server.port}/s")
    assert 20 < np.median(np.diff(seen.stamps)) / 1e6 < 60, "not 0, 0 and 120 ms"


def test_a_crop_that_a_stream_has_no_room_for_says_so() -> None:
    with RtspCamera() as server:
        seen = read(1, url=f"rtsp://127.0.0.1:{server.port}/s", crop=[100, 0, 64, 64])
    assert seen.dropped == {"wrong_format": 1}
    assert "crop [100, 0, 64, 64] is not inside of the picture, which is 128x96" in seen.why


def test_what_is_no_video_and_what_is_not_there_have_their_own_causes() -> None:
    with WebCamera(files={"/page": ("text/html", b"<html>Log in</html>" * 100)}) as server:
        seen = read(1, url=f"http://127.0.0.1:{server.port}/page", timeout=2)
        assert "no video" in seen.why
        assert seen.dropped == {"codec": 1}
        seen = read(1, url=f"http://127.0.0.1:{server.port}/none")
        assert "no such stream" in seen.why
        assert seen.dropped == {"not_found": 1}
    assert read(1, url=f"http://127.0.0.1:{server.port}/stream").dropped == {"unreachable": 1}


def test_no_playlist_opens_a_file_or_another_server(tmp_path: Path) -> None:
    video = videos.write(tmp_path / "secret.ts", 25)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{video}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{video}'\n"
    with WebCamera(videos.jpegs(2)) as other:
        elsewhere = f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{other.port}/stream\n"
        files = {
            "/a.m3u8": ("application/vnd.apple.mpegurl", playlist.encode()),
            "/b.m3u8": ("application/vnd.apple.mpegurl", elsewhere.encode()),
            "/c": ("text/plain", concat.encode()),
            "/d.sdp": ("application/sdp", b"v=0\r\nm=video 9 RTP/AVP 26\r\nc=IN IP4 127.0.0.1\r\n"),
        }
        with WebCamera(files=files) as server:
            for path in files:
                seen = read(1, url=f"http://127.0.0.1:{server.port}{path}", timeout=2)
                assert not seen.frames
                assert seen.dropped.total() == 1
        assert not other.paths


def test_a_picture_of_enormous_size_is_refused() -> None:
    data = bytearray(videos.jpegs(1)[0])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\x00\xff\x00"
    with WebCamera([*videos.jpegs(1), bytes(data)], rate=20) as server:
        seen = read(4, url=f"http://127.0.0.1:{server.port}/stream")
    assert {pixels.shape for _, _, pixels in seen.frames} == {(96, 128, 3)}
    assert seen.dropped["corrupt"] >= 1


def test_no_camera_has_ffmpeg_take_the_memory_of_the_machine() -> None:
    """A part of 2 GB, which comes until the time is over."""
    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 2147483647\r\n\r\n\xff\xd8"
    part = head + bytes(160 << 20)
    with WebCamera(files={"/s": ("multipart/x-mixed-replace; boundary=frame", part)}) as server:
        seen = read(1, url=f"http://127.0.0.1:{server.port}/s", timeout=1)
    assert not seen.frames
    assert seen.dropped["timeout"] + seen.dropped["codec"] + seen.dropped["ended"] == 1
    with pytest.raises(MemoryError):
        av.Packet(LARGEST_BLOCK + 1)


def test_a_codec_that_no_camera_has_is_not_decoded(tmp_path: Path) -> None:
    video = videos.write(tmp_path / "odd.mkv", 5, codec="snow")
    with WebCamera(files={"/odd": ("video/x-matroska", video.read_bytes())}) as server:
        seen = read(1, url=f"http://127.0.0.1:{server.port}/odd", timeout=2)
    assert "FFmpeg cannot decode" in seen.why
    assert seen.dropped == {"codec": 1}
    with pytest.raises(UnreadableError, match="cannot decode"):
        Video(video)


def test_the_latest_frame_wins() -> None:
    with WebCamera(videos.jpegs(20), rate=200) as server:
        dropped: Counter[str] = Counter()
        with camera.open(config(url=f"http://127.0.0.1:{server.port}/stream"), dropped) as blocks:
            first = next(block for block in blocks if len(block))
            time.sleep(0.3)  # a model that is slow
            second = next(block for block in blocks if len(block))
    assert second.gap
    assert second.index > first.index + 5
    assert second.index - 1 == dropped["overtaken"], "each frame was read or counted"
    assert time.monotonic_ns() - int(second.monotonic_ns[0]) < 5e9


# --- devices


def test_a_device_that_is_not_there_says_so() -> None:
    seen = read(1, device="/dev/video-none")
    assert seen.why.startswith("/dev/video-none: there is no such device")
    assert seen.dropped == {"missing": 1}


def test_a_device_that_is_no_camera_says_so() -> None:
    seen = read(1, device="/dev/null")
    assert seen.why == "/dev/null: it is no camera"
    assert seen.dropped == {"wrong_format": 1}


@pytest.mark.parametrize(
    ("codes", "size", "chosen"),
    [
        (["YUYV", "MJPG"], (640, 480), "yuyv"),
        (["YUYV", "MJPG"], (1920, 1080), "mjpeg"),
        (["NV12"], (1920, 1080), "nv12"),
        (["GREY"], (640, 480), "grey"),
        (["RGB3"], (640, 480), ""),
    ],
)
def test_the_format_is_one_that_the_bus_carries(codes: list[str], size: tuple[int, int], chosen: str) -> None:
    assert camera.choose(codes, *size) == chosen


def test_a_control_says_which_values_it_has() -> None:
    exposure = Control(1, "exposure_time_absolute", 3, 2047, 2, {})
    assert exposure.number(5) == 5
    for value in (1, 4000, 4, "auto"):
        with pytest.raises(ValueError, match=r"use 3 to 2047 in steps of 2"):
            exposure.number(value)
    auto = Control(2, "auto_exposure", 0, 3, 1, {"manual_mode": 1, "aperture_priority_mode": 3})
    assert auto.number("manual_mode") == 1
    assert auto.number(3) == 3
    for value in ("auto", 2):
        with pytest.raises(ValueError, match=r'use "manual_mode", "aperture_priority_mode"'):
            auto.number(value)
    assert Control(3, "gain_automatic", 0, 1, 1, {}).number(value=True) == 1


# --- the configuration


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "either device or url"),
        ({"device": "/dev/video0", "url": "rtsp://h/s"}, "either device or url"),
        ({"device": "video0"}, "expected a path"),
        ({"device": "/dev/video0", "user": "eve"}, "user: goes with url"),
        ({"url": "rtsp://h/s", "rate": 5}, "rate: goes with device"),
        ({"url": "rtsp://h/s", "format": "yuyv"}, "format: goes with device"),
        ({"url": "rtsp://eve:s3cret@h/s"}, "has a user or a password in it"),
        ({"url": "file:///etc/passwd"}, 'kind "replay"'),
        ({"url": "/srv/a.mp4"}, 'kind "replay"'),
        ({"url": "concat:a|b"}, "concat:// is not known"),
        ({"url": "tcp://h"}, "no host or no port"),
        ({"url": "rtsp://h:99999/s"}, "cannot be read"),
        ({"url": "rtsp://h/s", "password_file": "p"}, "goes with user"),
    ],
)
def test_a_configuration_that_cannot_be_right(table: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message) as caught:
        config(**table)
    assert "s3cret" not in str(caught.value)


def test_it_needs_its_own_device_or_its_own_server_and_nothing_else() -> None:
    assert camera.needs(config(device="/dev/video3")).devices == ("/dev/video3",)
    assert not camera.needs(config(device="/dev/video3")).endpoints
    for url, port in (("rtsp://h/s", 554), ("https://h/s", 443), ("tcp://h:8888", 8888), ("rtsps://h:1/s", 1)):
        needs = camera.needs(config(url=url))
        assert needs.endpoints == (Endpoint("h", port),)
        assert not needs.devices
        assert not needs.network


def test_its_shape_is_that_of_the_upright_picture_that_is_used() -> None:
    assert camera.describe(config(device="/dev/video0")).shape == (-1, -1, 3)
    assert camera.describe(config(device="/dev/video0", size=[640, 480])).shape == (480, 640, 3)
    assert camera.describe(config(device="/dev/video0", size=[640, 480], rotation=90)).shape == (640, 480, 3)
    spec = camera.describe(config(url="rtsp://h/s", crop=[10, 20, 300, 200]))
    assert spec.shape == (200, 300, 3)
    assert spec.frames
    assert spec.queue == 1
    with pytest.raises(ConfigError, match="not inside"):
        camera.describe(config(device="/dev/video0", size=[640, 480], crop=[600, 0, 100, 100]))


# --- rules without I/O


def test_a_text_without_the_password_keeps_the_rest() -> None:
    assert without_password("rtsp://eve:s3cret@h:1/s failed") == "rtsp://h:1/s failed"
    assert without_password("the s3cret", "s3cret") == "the ***"
    assert without_password("rtsp://h/s and a@b") == "rtsp://h/s and a@b"


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**8)), min_size=1, max_size=50))
def test_stamps_are_never_in_the_future_and_never_go_back(steps: list[tuple[int, int]]) -> None:
    clock = StreamClock()
    now = taken = 10**12
    last = 0
    for step, late in steps:
        taken += step
        now = max(now, taken + late)
        stamp = clock.stamp(taken - 5 * 10**11, now)
        assert last <= stamp <= now
        last = stamp


SECOND = 10**9


def test_a_picture_that_came_late_is_stamped_when_it_was_taken() -> None:
    clock = StreamClock()
    first = clock.stamp(0, 1000 * SECOND)
    late = clock.stamp(SECOND, 1003 * SECOND)
    assert abs(late - first - SECOND) <= DRIFT * 3 * SECOND
    assert clock.stamp(10**6 * SECOND, 2000 * SECOND) == 2000 * SECOND, "the camera's clock was set"
    assert clock.stamp(None, 3000 * SECOND) == 3000 * SECOND


def test_a_clock_that_is_set_back_makes_no_picture_late() -> None:
    clock = StreamClock()
    clock.stamp(100 * SECOND, 1000 * SECOND)
    assert clock.stamp(97 * SECOND, 1001 * SECOND) == 1001 * SECOND
    clock.stamp(500 * SECOND, 1002 * SECOND)  # one wrong time
    assert clock.stamp(99 * SECOND, 1003 * SECOND) == 1003 * SECOND


def test_pictures_that_were_held_up_for_long_are_not_new() -> None:
    clock = StreamClock()
    clock.stamp(0, 1000 * SECOND)
    held_up = [
        clock.stamp(each * SECOND, 1020 * SECOND + each, 20 * SECOND if each == 1 else 0) for each in (1, 2, 3)
    ]
    np.testing.assert_allclose(held_up, [1001e9, 1002e9, 1003e9], atol=0.03e9)


@pytest.mark.parametrize(("percent", "most"), [(96, 0.01), (80, 3.5)])
def test_a_clock_that_is_too_slow_makes_no_picture_late_or_a_few_seconds_if_it_is_much_so(
    percent: int, most: float
) -> None:
    clock = StreamClock()
    times = range(0, 200 * SECOND, SECOND // 25)
    ages = [now - clock.stamp(now * percent // 100, now, SECOND // 25) for now in times]
    assert max(ages) < most * SECOND


KEEPS_UP = SECOND // 50


def left_out(gate: Gate, begin: float, seconds: float, *, keys: float, waited_ns: int = KEEPS_UP) -> list[str]:
    """Return why each picture of 25 a second is left out, with a key picture each so many seconds."""
    every = round(keys * 25)
    return [
        gate.leaves_out(int((begin + each / 25) * SECOND), waited_ns, key=each % every == every - 1)
        for each in range(round(seconds * 25))
    ]


def test_a_decoder_that_keeps_up_decodes_all() -> None:
    assert not any(left_out(Gate(), 0, 60, keys=1))


def test_after_damage_the_next_key_picture_is_decoded_and_none_before() -> None:
    gate = Gate()
    gate.damaged(0)
    assert left_out(gate, 0, 4, keys=2) == ["corrupt"] * 49 + [""] * 51


def test_a_camera_that_sends_no_key_pictures_is_seen_again_after_some_seconds() -> None:
    gate = Gate()
    gate.damaged(0)
    found = left_out(gate, 0, 10, keys=1000)
    assert found.count("corrupt") == LONGEST_NS * 25 // SECOND + 1
    assert not any(found[-100:])


def test_a_decoder_that_is_too_slow_decodes_key_pictures_alone_until_it_has_caught_up() -> None:
    gate = Gate()
    found = left_out(gate, 0, 10, keys=1, waited_ns=0)
    assert not any(found[: BEHIND_NS * 25 // SECOND])
    assert found[-25:] == ["overtaken"] * 24 + [""]
    assert left_out(gate, 10, 2, keys=1) == ["overtaken"] * 24 + [""] * 26
