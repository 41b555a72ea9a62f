"""The gateway's sandbox, tried from inside: it accepts connections, and reaches nothing else."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import models
from support.broker import free_port
from support.jail import GATEWAY, Jail

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSED = {"EPERM", "EACCES"}
CONFIGURATION = """
[device]
id = "d"
state = "state"
[jsonl]
path = "results.jsonl"
[sources.s]
kind = "replay"
path = "recording.csv"
rate = 10
[pipelines.p]
source = "s"
model = "dense.tflite"
decoder = { kind = "regress" }
[api]
"""


def enter(folder: Path, api: str = "") -> Jail:
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    (folder / "recording.csv").write_text("a,b,c\n1,2,3\n")
    (folder / "limpet.toml").write_text(CONFIGURATION + api)
    return Jail(folder / "limpet.toml", GATEWAY)


@pytest.fixture(scope="module")
def jail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jail]:
    with enter(tmp_path_factory.mktemp("jail")) as entered:
        yield entered


def test_it_accepts_connections_and_opens_none(jail: Jail) -> None:
    assert {"no-new-privileges", "seccomp"} <= set(jail.in_force)
    assert jail.attempt("accept") == "EAGAIN"
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert jail.attempt(f"tcp {server.getsockname()[1]}") in REFUSED
    assert jail.attempt("listen") in REFUSED
    for family in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_PACKET"):
        assert jail.attempt(f"socket {family}") in REFUSED, family


def test_it_makes_no_connection_with_a_socket_that_listened(tmp_path: Path) -> None:
    with enter(tmp_path) as jail, socket.create_server(("127.0.0.1", 0)) as server:
        assert jail.attempt(f"turn-round {server.getsockname()[1]}") in REFUSED
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_it_reads_no_file_of_the_daemon_and_writes_none(
    jail: Jail, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for secret in (*folder.glob("jail*/*"), "/etc/shadow", f"/proc/{os.getpid()}/environ"):
        assert jail.attempt(f"read {secret}") in {*REFUSED, "EISDIR"}, secret
    assert jail.attempt(f"create {folder / 'new'}") in REFUSED
    assert jail.attempt("fork") in REFUSED
    assert jail.attempt("exec /bin/true") in REFUSED
    assert jail.attempt(f"signal {os.getppid()}") in REFUSED


def test_of_shared_memory_it_uses_what_is_there_and_makes_nothing(jail: Jail) -> None:
    name = f"limpet-test-{uuid.uuid4()}"
    place = Path("/dev/shm", name)  # noqa: S108 - where POSIX shared memory is
    place.write_bytes(b"x")
    try:
        assert jail.attempt(f"read {place}") == "done"
        assert jail.attempt(f"overwrite {place}") == "done"
        assert jail.attempt(f"delete {place}") in REFUSED
        assert jail.attempt(f"create {place}-new") in REFUSED
        assert jail.attempt("list /dev/shm") in REFUSED
    finally:
        place.unlink()


def test_it_sees_who_owns_a_connection(jail: Jail) -> None:
    assert jail.attempt("read /proc/self/net/tcp") == "done"


def test_with_grpc_it_listens_at_those_ports_alone(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with enter(tmp_path, f'grpc = ["127.0.0.1:{port}"]') as jail:
        assert jail.attempt(f"listen {port}") == "done"
        if any(word in jail.in_force for word in ("landlock-4", "landlock-5", "landlock-6", "landlock-7")):
            assert jail.attempt(f"listen {other}") in REFUSED
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert jail.attempt(f"tcp {server.getsockname()[1]}") in REFUSED
        assert jail.attempt("socket AF_UNIX") in REFUSED
        assert jail.attempt("datagram") in REFUSED
