"""A camera that speaks HTTP on loopback, with TLS if wanted: MJPEG in parts of one answer, or any bytes."""

from __future__ import annotations

import threading
from base64 import b64encode
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence

    from typing_extensions import Self

BOUNDARY = "frame"


def _part(picture: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture + b"\r\n"


class WebCamera:
    """Serves ``pictures`` over and over at ``/stream``, then does ``then``: "again", "close" or "stall".

    ``part`` makes of a picture what is sent. ``files``: what is at other paths, a type and bytes each. With
    ``user`` it wants a Basic login.
    """

    def __init__(
        self,
        pictures: Sequence[bytes] = (),
        *,
        rate: float = 50,
        then: str = "again",
        user: str = "",
        password: str = "",
        files: dict[str, tuple[str, bytes]] | None = None,
        context: ssl.SSLContext | None = None,
        part: Callable[[bytes], bytes] = _part,
    ) -> None:
        self.part = part
        self.pictures: Iterable[bytes] = list(pictures)
        self.then, self.rate = then, rate
        self.files = files or {}
        self.login = "Basic " + b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self.paths: list[str] = []
        self.ended = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.paths.append(self.path)
                with suppress(OSError):
                    _serve(camera, self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
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


def _serve(camera: WebCamera, request: BaseHTTPRequestHandler) -> None:
    if camera.login and request.headers.get("Authorization") != camera.login:
        request.send_response(401)
        request.send_header("WWW-Authenticate", 'Basic realm="camera"')
        request.end_headers()
    elif request.path in camera.files:
        kind, data = camera.files[request.path]
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
    elif request.path == "/stream":
        request.send_response(200)
        request.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        request.end_headers()
        _stream(camera, request)
    else:
        request.send_error(404)


def _stream(camera: WebCamera, request: BaseHTTPRequestHandler) -> None:
    while not camera.ended.is_set():
        for each in camera.pictures:
            request.wfile.write(camera.part(each))
            if camera.ended.wait(1 / camera.rate):
                return
        if camera.then == "close":
            return
        if camera.then == "stall":
            camera.ended.wait()
