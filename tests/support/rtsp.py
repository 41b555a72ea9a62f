"""An RTSP camera on loopback, RFC 2326: H.264 over RTP inside of the TCP connection, with Digest login and TLS.

It is a server of its own, in a thread, as Debian has none that does all of this. FFmpeg makes its RTP packets.
"""

from __future__ import annotations

import hashlib
import re
import socketserver
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from support import videos

if TYPE_CHECKING:
    import socket
    import ssl

    from typing_extensions import Self

REALM, NONCE = "camera", "a3f1c09b"


class RtspCamera:
    """Serves pictures of ``sizes`` in turn, ``count`` of each, then does ``then``: "close", "stall" or "again".

    The picture with the number ``damaged`` is so, and ``between`` key pictures come pictures that refer to later
    ones. With ``user`` it wants a Digest login. With ``context`` it speaks TLS. ``transports``: what clients
    wanted.
    """

    def __init__(
        self,
        *,
        sizes: tuple[tuple[int, int], ...] = ((128, 96),),
        count: int = 50,
        rate: int = 50,
        then: str = "again",
        user: str = "",
        password: str = "",
        context: ssl.SSLContext | None = None,
        port: int = 0,
        between: int = 0,
        damaged: int = -1,
    ) -> None:
        self.between, self.damaged = between, damaged
        self.sizes, self.count, self.rate, self.then = sizes, count, rate, then
        self.user, self.password = user, password
        self.context = context
        self.transports: list[str] = []
        self.logins = 0
        self.ended = threading.Event()
        camera = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    _serve(camera, self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Connection)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _serve(camera: RtspCamera, connection: socket.socket) -> None:
    if camera.context is not None:
        connection = camera.context.wrap_socket(connection, server_side=True)
    connection.settimeout(20)
    with connection, connection.makefile("rb") as lines:
        while not camera.ended.is_set():
            request = _request(lines)
            if request is None:
                return
            method, url, headers = request
            if camera.user and not _may(camera, method, headers.get("authorization", "")):
                camera.logins += 1
                challenge = f'WWW-Authenticate: Digest realm="{REALM}", nonce="{NONCE}"'
                _answer(connection, "401 Unauthorized", headers, [challenge])
            elif method == "DESCRIBE":
                _answer(connection, "200 OK", headers, [f"Content-Base: {url}/"], _sdp())
            elif method == "SETUP":
                camera.transports.append(headers["transport"])
                chosen = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
                _answer(connection, "200 OK", headers, [chosen, "Session: 1234"])
            elif method == "PLAY":
                _answer(connection, "200 OK", headers, ["Session: 1234"])
                _play(camera, connection)
                return
            else:
                _answer(connection, "200 OK", headers, ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"])


def _request(lines: Any) -> tuple[str, str, dict[str, str]] | None:
    first = lines.readline().decode().split()
    if len(first) != 3:
        return None
    headers = {}
    while line := lines.readline().decode().strip():
        key, _, value = line.partition(":")
        headers[key.lower()] = value.strip()
    return first[0], first[1].rstrip("/"), headers


def _answer(
    connection: socket.socket, status: str, headers: dict[str, str], more: list[str], body: str = ""
) -> None:
    lines = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq', '0')}", *more]
    if body:
        lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())


def _may(camera: RtspCamera, method: str, login: str) -> bool:
    """Check a Digest login, RFC 2617 without qop."""
    found = dict(re.findall(r'(\w+)="([^"]*)"', login))
    first = hashlib.md5(f"{camera.user}:{REALM}:{camera.password}".encode()).hexdigest()  # noqa: S324
    second = hashlib.md5(f"{method}:{found.get('uri', '')}".encode()).hexdigest()  # noqa: S324
    wanted = hashlib.md5(f"{first}:{NONCE}:{second}".encode()).hexdigest()  # noqa: S324
    return found.get("username") == camera.user and found.get("response") == wanted


def _sdp() -> str:
    return (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
    )


def _play(camera: RtspCamera, connection: socket.socket) -> None:
    while not camera.ended.is_set():
        for size in camera.sizes:
            for number, each in enumerate(videos.rtp(camera.count, size, camera.rate, camera.between)):
                for sent in each:
                    packet = (
                        bytes([*sent[:20], *(each ^ 0xA5 for each in sent[20:])])
                        if number == camera.damaged
                        else sent
                    )
                    channel = 1 if 200 <= packet[1] <= 204 else 0
                    connection.sendall(b"$" + bytes([channel]) + len(packet).to_bytes(2, "big") + packet)
                if camera.ended.wait(1 / camera.rate):
                    return
        if camera.then == "close":
            return
        while camera.then == "stall" and not camera.ended.is_set():
            time.sleep(0.02)
