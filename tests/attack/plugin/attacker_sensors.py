"""Ways out of the sandboxes of a camera's and a microphone's worker, which leave more open than others do.

``KEYS`` has what the source's table says besides, by attempt: it then declares what that sensor needs.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attacker_attempts import Attempts
from attacker_escapes import _all, _read, _write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attacker_border import Border

ATTEMPTS = Attempts()
CAMERA_PORT = 9
STREAM = f'url = "http://127.0.0.1:{CAMERA_PORT}/stream"'
DEVICE = 'device = "/dev/full"'
"""A device that is on every machine, in place of a camera's."""
MICROPHONE = "microphone = true"
_MULTIPATH = 262
_FAST_OPEN = 0x20000000


def _with_ffmpeg(url: str) -> Callable[[], str]:
    """Have FFmpeg open something, without the lists that the source gives it."""

    def read() -> str:
        import av

        with av.open(url) as container:
            return f"{url} is {container.format.name}"

    return read


def _files(border: Border) -> Iterator[Callable[[], Any]]:
    secret, state = border.target / "mqtt-password", border.target / "state"
    own = Path("/etc/ssl/private")
    for path in (secret, border.target / "limpet.toml", border.target / "calm.tflite", state / "boot.json"):
        yield _read(path)
    yield from (_read(path) for path in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/root/.bashrc"))
    yield from (
        lambda path=path: os.listdir(path) for path in (border.target, "/etc", own, "/home", "/dev", "/tmp")
    )
    yield from (_write(path / "evil") for path in (Path("/etc/ssl/certs"), Path("/tmp"), state))


def _nodes(own: str = "") -> Iterator[Callable[[], Any]]:
    # The folder cannot be listed, so these are names that systems have.
    names = ["full", "random", "tty", "ptmx", "mem", "kmsg", "fuse", "uinput", "rtc0", "sda", "vda", "loop0"]
    sensors = ["video0", "video1", "media0", "snd/timer", "snd/seq", "snd/controlC0", "bus/usb/001/001"]
    for name in [*names, *sensors, "net/tun"]:
        path = f"/dev/{name}"
        if path != own and os.path.lexists(path):
            yield lambda path=path: os.open(path, os.O_RDWR | os.O_NONBLOCK)
            yield lambda path=path: os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def _ports() -> list[int]:
    """Return the ports at which someone listens, as the kernel tells each process."""
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    return [int(line.split()[1][-4:], 16) for line in lines if line.split()[3] == "0A"]


def _fast(port: int) -> str:
    with socket.socket() as sock:
        sock.sendto(b"x", _FAST_OPEN, ("127.0.0.1", port))
    return f"port {port} without connect"


def _connections() -> Iterator[Callable[[], Any]]:
    others = [port for port in _ports() if port != CAMERA_PORT]
    assert others, "nothing listens"
    yield from (lambda port=port: socket.create_connection(("127.0.0.1", port), 2) for port in others)
    yield lambda: socket.create_connection(("1.1.1.1", 53), 2)
    yield lambda: _fast(others[0])
    yield lambda: socket.create_server(("127.0.0.1", 0))
    yield lambda: socket.socket(socket.AF_UNIX)
    yield lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, _MULTIPATH)
    yield from (lambda kind=kind: socket.socket(socket.AF_INET, kind) for kind in (2, 3, 5))
    yield from (_with_ffmpeg(f"{scheme}://127.0.0.1:{others[0]}") for scheme in ("tcp", "http", "rtsp", "udp"))


def _named(name: str, keys: str, tries: Callable[[Border], Iterator[Callable[[], Any]]]) -> None:
    ATTEMPTS[name] = lambda border: _all(*tries(border))
    KEYS[name] = keys


def _with_files(border: Border) -> Iterator[Callable[[], Any]]:
    yield from _files(border)
    yield from (_with_ffmpeg(f"file:{path}") for path in (border.target / "mqtt-password", "/etc/passwd"))


KEYS: dict[str, str] = {}
_named("as a camera on the network, read files of others", STREAM, _with_files)
_named("as a camera on the network, connect elsewhere", STREAM, lambda _: _connections())
_named("as a camera on the network, use devices", STREAM, lambda _: _nodes())
_named("as a camera of this machine, read files of others", DEVICE, _with_files)
_named("as a camera of this machine, connect to anything", DEVICE, lambda _: _connections())
_named("as a camera of this machine, use other devices", DEVICE, lambda _: _nodes("/dev/full"))
_named("as a microphone, read files of others", MICROPHONE, _with_files)
_named("as a microphone, connect to anything", MICROPHONE, lambda _: _connections())
_named("as a microphone, use other devices", MICROPHONE, lambda _: _nodes())
