"""Who is at the other end of a connection, as the kernel knows it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.gateway.access.peers import Connection, find_owner, key_of, known

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: {client} {ours} {state} 00000000:00000000 00:00000000 00000000 {uid} 0 {inode} 1 0 20 4\n"
CLIENT, OURS = ("127.0.0.1", 40000), ("127.0.0.1", 7470)
CLIENT_HEX, OURS_HEX = "0100007F:9C40", "0100007F:1D2E"


def row(state: str = "01", uid: int = 1000, inode: int = 4711) -> str:
    return HEAD + ROW.format(client=CLIENT_HEX, ours=OURS_HEX, state=state, uid=uid, inode=inode)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_the_user_of_a_client_on_this_device_is_known(family: socket.AddressFamily, tmp_path: Path) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    address = str(tmp_path / "s") if family == socket.AF_UNIX else (host, 0)
    with socket.socket(family) as listener, socket.socket(family) as client:
        listener.bind(address)
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            connection = Connection(accepted)
            assert connection.uid == os.getuid()
            assert connection.loopback


def test_a_client_that_is_gone_has_no_user() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        client.close()  # the kernel now shows root as its user
        with accepted:
            assert Connection(accepted).uid is None


def test_a_row_of_the_table_has_the_owner() -> None:
    assert find_owner(row(), CLIENT, OURS) == 1000
    assert find_owner(row(), OURS, CLIENT) is None
    assert find_owner(HEAD, CLIENT, OURS) is None


def test_the_owner_of_a_socket_that_was_closed_is_not_believed() -> None:
    assert find_owner(row(state="04", uid=0, inode=0), CLIENT, OURS) is None
    assert find_owner(row(state="01", uid=0, inode=0), CLIENT, OURS) is None
    assert find_owner(row(state="06", uid=0), CLIENT, OURS) is None


@given(st.text())
def test_any_table_has_an_owner_or_none(text: str) -> None:
    assert find_owner(text, CLIENT, OURS) is None


def test_the_user_that_stands_for_all_others_is_nobody_in_particular() -> None:
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    assert known(overflow) is None
    assert known(overflow - 1) == overflow - 1


def test_ipv6_clients_of_one_network_are_counted_together() -> None:
    assert key_of("2001:db8::1") == key_of("2001:db8::ffff:1") == "2001:db8::/64"


@pytest.mark.parametrize(("host", "client"), [("::1", "::1"), ("127.0.0.1", "127.0.0.9")])
def test_a_client_on_this_device_is_counted_as_one_whatever_its_address(host: str, client: str) -> None:
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2], source_address=(client, 0)),
        listener.accept()[0] as accepted,
    ):
        assert Connection(accepted).key == "loopback"
