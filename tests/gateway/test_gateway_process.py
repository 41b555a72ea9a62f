"""What the gateway's process says if it cannot serve."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from limpet.contracts.messages import Origin
from limpet.gateway.launch import spawn
from limpet.tables import ApiTable
from limpet.wire.channel import Channel
from limpet.wire.gateway_records import Alive, Begin, FromGateway, Listening, Ping

if TYPE_CHECKING:
    from collections.abc import Callable


def said(table: ApiTable, path: Path | None = None) -> Listening:
    """Start the gateway, and return the first that it says."""
    ours, theirs = socket.socketpair()
    with theirs:
        pid = spawn(theirs)
    channel: Channel[FromGateway] = Channel(ours, FromGateway)
    try:
        channel.send(Begin(Origin("d", "b", "1"), table, path, []))
        while not (records := list(channel.receive())):
            pass
    finally:
        channel.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert isinstance(records[0], Listening)
    return records[0]


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError(name='uvicorn')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert said(ApiTable()).problem == "uvicorn is not installed. Run: pip install 'limpet[api]'"


def test_a_port_that_another_program_has_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert said(ApiTable(listen=[address])).problem == f"{address}: Address already in use"
    problem = said(ApiTable(listen=[], token_file=tmp_path / "none")).problem
    assert problem == (
        f"api.token_file {tmp_path / 'none'}: No such file or directory. "
        f"To make a token, run: limpet token NAME >> {tmp_path / 'none'}"
    )
    problem = said(ApiTable(listen=[], certificate=tmp_path / "c.pem", key=tmp_path / "c.key")).problem
    assert problem == f"api.certificate {tmp_path / 'c.pem'}: No such file or directory"


def test_ctrl_c_in_the_daemons_terminal_leaves_it_to_the_daemon_to_end_the_gateway(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        pid = spawn(theirs)
    channel: Channel[FromGateway] = Channel(ours, FromGateway)
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        channel.send(Begin(Origin("d", "b", "1"), ApiTable(listen=[]), tmp_path / "s", []))
        while not (records := list(channel.receive())):
            pass
        assert isinstance(records[0], Listening)
        assert records[0].addresses
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        channel.send(Ping())
        while not (records := list(channel.receive())):
            pass
        assert isinstance(records[0], Alive)
    finally:
        channel.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_token_file_that_is_a_link_to_itself_is_named(tmp_path: Path) -> None:
    loop = tmp_path / "tokens"
    loop.symlink_to(loop)
    problem = said(ApiTable(listen=[], token_file=loop)).problem
    assert problem == f"{loop} is a symbolic link that leads round in a circle"


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to(path.with_name("x"))])
def test_what_is_no_socket_does_not_keep_the_unix_socket_from_its_place(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "api.sock"
    make(path)
    (tmp_path / "x").write_text("another file")
    (tmp_path / "x").chmod(0o600)
    assert said(ApiTable(listen=[]), path) == Listening([str(path)])
    assert path.is_socket()
    assert (tmp_path / "api.sock.damaged").lstat()
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
