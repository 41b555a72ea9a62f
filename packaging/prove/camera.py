"""A camera on the network: the JPEGs of a folder over and over, as MJPEG over HTTP at port 8081 of loopback."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PICTURES = [path.read_bytes() for path in sorted(Path(sys.argv[1]).glob("*.jpg"))]


class Camera(BaseHTTPRequestHandler):
    """One client."""

    def do_GET(self) -> None:
        """Send pictures until the client goes away."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with suppress(OSError):
            while True:
                for picture in PICTURES:
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    self.wfile.write(head.encode() + picture + b"\r\n")
                    time.sleep(0.1)


ThreadingHTTPServer(("127.0.0.1", 8081), Camera).serve_forever()
