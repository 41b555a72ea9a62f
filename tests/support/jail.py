"""A process that enters the sandbox of a configuration's only worker, of an executor of its only pipeline, or of
the gateway, and then makes the attempts that its standard input names.

``python -m support.jail FILE [DELEGATE|GATEWAY]``: first it writes the list of what is in force, then for each
word on its standard input what came of it: "done", or the name of the error.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet import config
from limpet.contracts.data import Samples
from limpet.deployment.local import assignment_of
from limpet.inference import needs
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline, plan_source, source_plugin
from limpet.isolation import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from typing_extensions import Self

    from limpet.isolation.permissions import Permissions

ROOT = Path(__file__).parent.parent
GATEWAY = "the gateway"


class Jail:
    """The far end of such a process."""

    def __init__(self, path: Path, delegate: str = "", folder: Path | None = None) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "LIMPET_TEST_SECRET": "in the parent's memory"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.jail", path, *([delegate] if delegate else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )
        self.in_force: list[str] = self._answer()

    def attempt(self, what: str) -> str:
        assert self._process.stdin
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        answer: str = self._answer()
        return answer

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"it ended with {self._process.wait()}"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def _tcp(port: str) -> None:
    with socket.create_connection(("127.0.0.1", int(port)), 5):
        pass


def _listen(port: str) -> None:
    with socket.create_server(("127.0.0.1", int(port or 0))):
        pass


def _accept(_: str) -> None:
    """Accept a connection on a socket that was opened before. None comes, which is EAGAIN."""
    LISTENER.accept()


def _family(name: str) -> None:
    with socket.socket(getattr(socket, name), socket.SOCK_DGRAM):
        pass


def _stream(protocol: str) -> None:
    """Open a stream of another protocol than TCP, with all 64 bits of its number."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.socket(socket.AF_INET, socket.SOCK_STREAM, ctypes.c_ulong(int(protocol))) < 0:
        raise OSError(ctypes.get_errno(), "socket")


def _fast_open(port: str) -> None:
    """Connect without connect(2)."""
    with socket.socket() as unconnected:
        unconnected.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", int(port)))


def _turn_round(port: str) -> None:
    """Make a connection with a socket that listened."""
    with LISTENER.dup() as listener:
        listener.shutdown(socket.SHUT_RD)
        listener.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", int(port)))


def _fork(_: str) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _overwrite(path: str) -> None:
    with Path(path).open("r+b"):
        pass


def _terminal(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        termios.tcsetattr(fd, termios.TCSANOW, termios.tcgetattr(fd))
    finally:
        os.close(fd)


def _ioctl(request: str) -> None:
    """Make an ioctl on a pipe, which knows none; unlike Python's own with all 64 bits of the request."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ioctl(0, ctypes.c_ulong(int(request, 16)), b"x") < 0:
        raise OSError(ctypes.get_errno(), "ioctl")


def _outlive(_: str) -> None:
    """Ask not to be killed when the parent ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(1, 0, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _call(text: str) -> None:
    """Call a function of the C library with these numbers."""
    name, *numbers = text.split()
    if ctypes.CDLL(None, use_errno=True)[name](*map(int, numbers)) < 0:
        raise OSError(ctypes.get_errno(), name)


def _limit(pid: str) -> None:
    resource.prlimit(int(pid), resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))


def _owner(pid: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fcntl.fcntl(ours, fcntl.F_SETOWN, int(pid))


def _thread(_: str) -> None:
    ran: list[bool] = []
    thread = threading.Thread(target=lambda: ran.append(True))
    thread.start()
    thread.join()
    assert ran


def _invoke(path: str) -> None:
    """Load the models of a configuration, as after a reassignment, and run each once."""
    wanted = config.read(path)
    for name, table in wanted.pipelines.items():
        assignment = assignment_of(wanted, name)
        spec = plan_source(assignment, table.source).spec
        with Pipeline(plan_pipeline(assignment, name, spec)) as pipeline:
            assert list(pipeline.feed(_samples(spec.channels)))


def _samples(channels: tuple[str, ...]) -> Samples:
    import numpy as np

    times: np.ndarray[Any, Any] = np.arange(8, dtype=np.int64)
    return Samples(np.zeros((8, len(channels)), np.float32), times, times, 0)


LISTENER = socket.create_server(("127.0.0.1", 0))
LISTENER.setblocking(False)
ATTEMPTS: dict[str, Callable[[str], object]] = {
    "tcp": _tcp,
    "listen": _listen,
    "accept": _accept,
    "stream": _stream,
    "fastopen": _fast_open,
    "turn-round": _turn_round,
    "datagram": lambda _: _family("AF_INET"),
    "socket": _family,
    "read": lambda path: Path(path).read_bytes(),
    "list": os.listdir,
    "folder": lambda path: Path(path).mkdir(),
    "create": lambda path: Path(path).write_bytes(b"x"),
    "overwrite": _overwrite,
    "delete": lambda path: Path(path).unlink(),
    "exec": lambda path: os.execv(path, [path]),  # noqa: S606
    "spawn": lambda path: subprocess.run([path], check=True),
    "fork": _fork,
    "signal": lambda pid: os.kill(int(pid), signal.SIGCONT),
    "terminal": _terminal,
    "ioctl": _ioctl,
    "chmod": lambda path: Path(path).chmod(0o644),
    "touch": os.utime,
    "attribute": lambda path: os.setxattr(path, "user.limpet", b"1"),
    "limit": _limit,
    "priority": lambda pid: os.setpriority(os.PRIO_PROCESS, int(pid), 19),
    "priorities": lambda kind: os.setpriority(int(kind), 0, 19),
    "truncate": lambda path: os.truncate(path, 0),
    "empty": lambda mode: os.close(os.open(__file__, int(mode) | os.O_TRUNC)),
    "outlive": _outlive,
    "pair": lambda kind: [end.close() for end in socket.socketpair(socket.AF_UNIX, int(kind))],
    "call": _call,
    "processors": lambda pid: os.sched_setaffinity(int(pid), os.sched_getaffinity(0)),
    "owner": _owner,
    "thread": _thread,
    "invoke": _invoke,
}


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def of_worker(wanted: config.Config) -> Permissions:
    (name,) = wanted.sources
    (pipeline,) = wanted.pipelines
    assignment = assignment_of(wanted, pipeline)
    return needs.of_worker(assignment, source_plugin(assignment, name))


def of_executor(wanted: config.Config, delegate: str) -> Permissions:
    (name,) = wanted.sources
    (pipeline,) = wanted.pipelines
    assignment = assignment_of(wanted, pipeline)
    plan = plan_pipeline(assignment, pipeline, plan_source(assignment, name).spec)
    (choice,) = (choice for choice in plan.delegates if choice.name == delegate)
    return needs.of_executor(assignment, plan, choice)


def _permissions(wanted: config.Config, whose: str = "") -> Permissions:
    if whose == GATEWAY:
        from limpet.gateway import process

        assert wanted.api
        return process.permissions(wanted.api)
    return of_executor(wanted, whose) if whose else of_worker(wanted)


def main() -> None:
    wanted = config.read(sys.argv[1])
    _say(sandbox.enter(_permissions(wanted, *sys.argv[2:])))
    for line in sys.stdin:
        what, _, argument = line.strip().partition(" ")
        try:
            ATTEMPTS[what](argument)
            answer = "done"
        except OSError as error:
            answer = errno.errorcode[error.errno or 0]
        except Exception as error:  # noqa: BLE001 - the answer
            answer = f"{type(error).__name__}: {error}"
        _say(answer)


if __name__ == "__main__":
    main()
