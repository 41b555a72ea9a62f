"""Attempts of a network camera, and of a person who puts pictures on the disk. Each has a separate worker."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from support import models, pictures
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from attack.ground import Ground
    from attack.report import Attempt

CAMERA, PICTURES = "the stream of a camera", "a folder of pictures"
PIPELINE = """
[pipelines.{name}]
source = "{name}"
model = "small.tflite"
decoder = {{ kind = "regress" }}
transforms = [{{ kind = "resize", width = 2, height = 2 }}]
"""
STREAM = """
[sources.{name}]
kind = "camera"
url = "{url}"
timeout = 1
silence = 2.0
user = "eve"
password_file = "camera"
"""
FOLDER = '\n[sources.{name}]\nkind = "images"\npath = "{name}"\n'
PATIENCE = 12.0
LARGEST_WORKER_MB = 512
PASSWORD = "a password of the camera"  # noqa: S105 - a test's
_END = b"\r\n"
_SDP = _END.join(
    [
        b"v=0\r\no=- 0 0 IN IP4 10.9.9.9\r\ns=c\r\nc=IN IP4 10.9.9.9\r\nt=0 0\r\nm=video 5000 RTP/AVP 96",
        b"a=rtpmap:96 H264/90000\r\na=control:track\r\n",
    ]
)
_numbers = count(1)


def _http(head: bytes, body: bytes = b"", status: bytes = b"200 OK", forever: bytes = b"") -> list[bytes]:
    return [b"HTTP/1.1 " + status + _END + head + _END + _END + body, forever]


def _part(length: bytes) -> list[bytes]:
    part = b"--f\r\nContent-Type: image/jpeg" + length + b"\r\n\r\n\xff\xd8"
    return _http(b"Content-Type: multipart/x-mixed-replace; boundary=f", part, forever=bytes(1 << 20))


def _rtsp(head: bytes, body: bytes = b"", status: bytes = b"200 OK", forever: bytes = b"") -> list[bytes]:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return [b"RTSP/1.0 " + status + b"\r\nCSeq: %s\r\n" + length + head + _END + _END + body, forever]


STREAMS: dict[str, tuple[str, list[list[bytes]]]] = {
    "a redirection to a file": ("http", [_http(b"Location: file:///etc/passwd", status=b"302 Found")]),
    "a redirection to itself": ("http", [_http(b"Location: /stream", status=b"302 Found")]),
    "a redirection to the broker": ("http", [_http(b"Location: http://127.0.0.1:{broker}", status=b"302 Found")]),
    "a redirection of RTSP to the broker": (
        "rtsp",
        [_rtsp(b"Location: rtsp://127.0.0.1:{broker}/x", status=b"302 Moved")],
    ),
    "headers without end": ("http", [[b"HTTP/1.1 200 OK\r\n", b"X-Header: " + b"y" * 900 + _END]]),
    "a header line without end": ("http", [[b"HTTP/1.1 200 OK\r\nX: ", b"y" * 4096]]),
    "a part without end": ("http", [_part(b"")]),
    "a part of 2 GB": ("http", [_part(b"\r\nContent-Length: 2147483647")]),
    "a playlist of files": (
        "http",
        [_http(b"Content-Type: application/vnd.apple.mpegurl", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")],
    ),
    "a picture of H.264 without end": (
        "http",
        [_http(b"Content-Type: video/h264", b"\0\0\0\1\x67\x42\0\x1e\xab\x40\x50\x1e\xd0", forever=b"Z" * 65536)],
    ),
    "a description of 2 GB": (
        "rtsp",
        [_rtsp(b"Public: DESCRIBE"), _rtsp(b"Content-Length: 2147483000", forever=bytes(1 << 20))],
    ),
    "a transport to another host": (
        "rtsp",
        [
            _rtsp(b"Public: DESCRIBE"),
            _rtsp(b"Content-Type: application/sdp", _SDP),
            _rtsp(b"Session: 1\r\nTransport: RTP/AVP;unicast;client_port=5000-5001;source=10.9.9.9"),
        ],
    ),
    "a login that it passes on": ("rtsp", [_rtsp(b'WWW-Authenticate: Basic realm="x"', status=b"401 No")] * 3),
}
"""What is answered to one request after the other, and then sent without end. ``{broker}``: the broker's port."""


class _Server:
    """Gives its answers on each connection. ``asked``: the requests."""

    def __init__(self, answers: list[list[bytes]], broker: int) -> None:
        self._answers = [[one.replace(b"{broker}", b"%d" % broker) for one in answer] for answer in answers]
        self.asked: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._over = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            connection.settimeout(10)
            for answer, forever in self._answers:
                request = b""
                while (line := lines.readline(1 << 16)).strip():
                    request += line
                self.asked.append(request)
                number = request.partition(b"CSeq: ")[2].partition(_END)[0]
                connection.sendall(answer.replace(b"%s", number))
                while forever and not self._over:
                    connection.sendall(forever)

    def close(self) -> None:
        """Stop listening."""
        self._over = True
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def run(ground: Ground, names: Iterable[str] | None = None) -> None:
    """Make these attempts, all if none are named."""
    models.same(ground.folder / "small.tflite", (1, 2, 2, 3), "uint8")
    (ground.folder / "camera").write_text(PASSWORD)
    for name in names or [*STREAMS, *FOLDERS]:
        source = f"c{next(_numbers)}"
        ground.spy.pipelines.add(source)
        if name in STREAMS:
            with ground.attempt(name, CAMERA) as attempt:
                _stream(ground, attempt, source)
        else:
            with ground.attempt(name, PICTURES) as attempt:
                _folder(ground, attempt, source)


def _stream(ground: Ground, attempt: Attempt, source: str) -> None:
    scheme, answers = STREAMS[attempt.name]
    server = _Server(answers, ground.broker.port)
    try:
        url = f"{scheme}://127.0.0.1:{server.port}/stream"
        ground.reload(STREAM.format(name=source, url=url), PIPELINE.format(name=source))
        heard: list[str] = []

        def over() -> bool:
            heard[:] = _said(ground, source, "waiting", "crashed", "failed")
            return bool(server.asked and heard) or not ground.alive()

        with contextlib.suppress(AssertionError):
            wait_until(over, PATIENCE)
        attempt.reached = f"it was asked {len(server.asked)} times" if server.asked else ""
        attempt.happened = "; ".join(heard[:2]) or "nothing was said"
        if not heard or PASSWORD in attempt.happened:
            attempt.harmed("unnamed")
        _measure(ground, attempt, source)
    finally:
        server.close()


def _said(ground: Ground, source: str, *kinds: str) -> list[str]:
    said = [event for event in ground.spy.said(f"event/{source}") if event["event"] in kinds]
    return [f"{event['event']}: {event.get('reason', '')}"[:200] for event in said]


def _measure(ground: Ground, attempt: Attempt, source: str) -> None:
    """See how large the worker became."""
    for pid, name in ground.daemon.descendants().items():
        if name == f"limpet:{source}":
            with contextlib.suppress(OSError, IndexError):
                status = Path(f"/proc/{pid}/status").read_text()
                peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
                attempt.happened += f" Its worker had {peak:.0f} MB."
                attempt.harmed("workers_grown", int(peak > LARGEST_WORKER_MB))


# --- pictures


def _scans(path: Path) -> None:
    picture = pictures.encoded(pictures.pixels(), "JPEG", progressive=True)
    scan = picture[picture.rindex(b"\xff\xda") : -2]
    path.write_bytes(picture[:-2] + scan * 20_000 + picture[-2:])


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.write(pictures.encoded(pictures.pixels(), "JPEG"))
        file.truncate(3 << 30)


def _claims(path: Path) -> None:
    picture = bytearray(pictures.encoded(pictures.pixels(), "BMP"))
    picture[18:26] = (1 << 30).to_bytes(4, "little") * 2
    path.write_bytes(picture)


FOLDERS: dict[str, Callable[[Path], object]] = {
    "a picture with scans without end": _scans,
    "a picture of 3 GB": _large,
    "a picture of 2^60 pixels": _claims,
    "half a picture": lambda path: path.write_bytes(pictures.encoded(pictures.pixels(), "JPEG")[:200]),
    "a picture of garbage": lambda path: path.write_bytes(b"\xff\xd8\xff" + os.urandom(4096)),
    "a FIFO in place of a picture": os.mkfifo,
    "a folder in place of a picture": os.mkdir,
    "a link to a device in place of a picture": lambda path: path.symlink_to("/dev/zero"),
    "a link to the password in place of a picture": lambda path: path.symlink_to("../mqtt-password"),
    "a picture whose name moves the cursor": lambda path: (path.parent / "\x1b[2J\n.jpg").write_bytes(b"none"),
}
"""What lies between two sound pictures."""


def _folder(ground: Ground, attempt: Attempt, source: str) -> None:
    folder = ground.folder / source
    folder.mkdir()
    sound = pictures.encoded(pictures.pixels(), "JPEG")
    (folder / "a.jpg").write_bytes(sound)
    FOLDERS[attempt.name](folder / "b.jpg")
    (folder / "z.jpg").write_bytes(sound)
    for path in (folder / "a.jpg", folder / "z.jpg"):
        os.utime(path, (1e9, 1e9))
    ground.reload(FOLDER.format(name=source), PIPELINE.format(name=source))
    with contextlib.suppress(AssertionError):
        wait_until(lambda: len(ground.spy.results(source)) >= 2 or not ground.alive(), PATIENCE)
    results = len(ground.spy.results(source))
    attempt.reached = f"its pipeline gave {results} results" if results else ""
    crashed = _said(ground, source, "crashed", "failed")
    attempt.happened = "; ".join(crashed) or "the two sound pictures had their results"
    attempt.harmed("others_lost", 2 - min(results, 2) + len(crashed))
    _measure(ground, attempt, source)
