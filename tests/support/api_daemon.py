"""The real daemon with ``[api]``: a recording that is replayed, a model, and the gateway on free ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from limpet.device.unix_path import reachable
from support import models
from support.broker import free_port, wait_until
from support.daemon import Daemon, daemon

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_HEAD = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5
{commands}
{reporter}

[sources.imu]
kind = "replay"
path = "recording.csv"
rate = {rate}
loop = true

[pipelines.motion]
source = "imu"
model = "dense.tflite"
deadline = 2.0
decoder = {{ kind = "regress" }}
"""
_API = """
[api]
listen = ["127.0.0.1:{port}"]
{grpc}
{api}
"""


class Response(NamedTuple):
    """An answer to an HTTP request. The names of ``headers`` are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ApiDaemon(NamedTuple):
    """A daemon whose gateway accepts connections. ``port``: HTTP. ``grpc_port``: gRPC, 0 if it is off."""

    daemon: Daemon
    folder: Path
    port: int
    grpc_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket(self) -> Path:
        """The Unix socket."""
        return self.folder / "state" / "api.sock"

    @property
    def gateway_pid(self) -> int:
        return self.daemon.pid_of("limpet-api")

    def request(
        self,
        path: str,
        method: str = "GET",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        unix: bool = False,
    ) -> Response:
        """Send one request, over TCP or over the Unix socket, and read the whole answer."""
        connection = UnixConnection(self.socket) if unix else http.client.HTTPConnection("127.0.0.1", self.port)
        connection.timeout = 40
        with contextlib.closing(connection):
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, names, answer.read())


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, whose path may be long."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(40)
        with reachable(self._path) as path:
            self.sock.connect(path)


@contextlib.contextmanager
def api_daemon(
    folder: Path,
    *,
    api: str = "",
    more: str = "",
    grpc: bool = False,
    rate: int = 100,
    broker: str = "",
    commands: str = "",
    environment: Mapping[str, str] | None = None,
) -> Iterator[ApiDaemon]:
    """Run a daemon with the pipeline ``motion`` in ``folder``, until the gateway answers.

    ``api``: further lines of ``[api]``. ``more``: further tables. ``rate``: samples a second, and a window has
    one. ``broker``: URL of a broker, else results go to a file. ``commands``: a line of ``[device]``.
    """
    port, grpc_port = free_port(), free_port() if grpc else 0
    reporter = f'[mqtt]\nurl = "{broker}"' if broker else '[jsonl]\npath = "results.jsonl"'
    folder.mkdir(parents=True, exist_ok=True)
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    rows = "".join(f"{n % 7},{n % 5 / 2},{-(n % 3)}\n" for n in range(1000))
    (folder / "recording.csv").write_text("ax,ay,az\n" + rows)
    path = folder / "limpet.toml"
    path.write_text(
        _HEAD.format(commands=commands, reporter=reporter, rate=rate)
        + more
        + _API.format(port=port, grpc=f'grpc = ["127.0.0.1:{grpc_port}"]' if grpc else "", api=api)
    )
    with daemon(path, environment) as running:
        started = ApiDaemon(running, folder, port, grpc_port)
        wait_until(lambda: _accepts(started))
        yield started


def _accepts(started: ApiDaemon) -> bool:
    assert started.daemon.process.poll() is None, started.daemon.log
    ports = [started.port, *([started.grpc_port] if started.grpc_port else [])]
    with contextlib.suppress(OSError):
        for port in ports:
            socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False
