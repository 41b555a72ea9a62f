"""What `limpet check` and `limpet doctor` say about the local API."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import config
from limpet.doctor import running_daemon
from limpet.doctor.check import inspect
from limpet.doctor.local_api import local_api
from limpet.errors import ConfigError, LimpetError
from limpet.gateway.access import tokens
from limpet.tables import listen_address
from support import certificates
from support.broker import free_port
from support.patients import patient, table

if TYPE_CHECKING:
    from limpet.doctor.finding import Finding

FAR = "0.0.0.0:7470"


def found(tmp_path: Path, **api: Any) -> list[Finding]:
    api.setdefault("listen", [f"127.0.0.1:{free_port()}"])
    texts = {key: str(value) if isinstance(value, Path) else value for key, value in api.items()}
    return list(local_api(patient(tmp_path, config=table(tmp_path, api=texts))))


def problems(tmp_path: Path, **api: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        config.build({**_TABLES, "api": api}, tmp_path)
    return list(error.value.problems)


_TABLES: dict[str, Any] = {
    "device": {"id": "d"},
    "sources": {"s": {"kind": "serial", "port": "/dev/ttyUSB0", "channels": ["a"]}},
    "pipelines": {"p": {"source": "s", "model": "m"}},
    "jsonl": {},
}


@pytest.mark.parametrize(
    ("api", "words"),
    [
        ({"listen": [FAR]}, "which other machines can reach: set token_file or client_ca"),
        ({"listen": ["192.0.2.1:7470"]}, "other machines"),
        ({"listen": ["[::]:7470"]}, "other machines"),
        ({"grpc": [FAR]}, "other machines"),
        ({"listen": ["localhost:7470"]}, "write an IP address"),
        ({"listen": ["127.0.0.1"]}, "a port from 1 to 65535"),
        ({"listen": ["127.0.0.1:0"]}, "a port from 1 to 65535"),
        ({"listen": ["127.0.0.1:65536"]}, "a port from 1 to 65535"),
        ({"listen": ["::1:7470"]}, "in brackets"),
        ({"listen": ["[127.0.0.1]:7470"]}, "in brackets"),
        ({"grpc": ["127.0.0.1:7470"]}, "there before"),
        ({"listen": ["[::1]:7470", "[0::1]:7470"]}, "there before"),
        ({"certificate": "a.pem"}, "certificate and key belong together"),
        ({"client_ca": "a.pem"}, "client_ca needs TLS"),
        ({"listen": [], "socket": False}, "no client can connect"),
        ({"load": True, "socket": False}, "load needs clients that may control"),
        ({"hosts": ["device:80"]}, "without a port"),
        ({"hosts": ["http://device"]}, "without a port"),
        ({"connections": 1000}, "384"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path: Path, api: dict[str, Any], words: str) -> None:
    (problem,) = problems(tmp_path, **api)
    assert problem.startswith("api")
    assert words in problem


@pytest.mark.parametrize(
    "api", [{}, {"listen": []}, {"listen": [FAR], "token_file": "t"}, {"grpc": ["[::1]:7471"]}, {"hosts": ["a.b"]}]
)
def test_a_table_that_makes_sense_is_taken(tmp_path: Path, api: dict[str, Any]) -> None:
    built = config.build({**_TABLES, "api": api}, tmp_path)
    assert built.api is not None
    assert built.api.protected == ("token_file" in api)


def test_an_address_has_one_form() -> None:
    assert listen_address("[0:0::1]:7470") == ("::1", 7470)
    assert listen_address("127.8.9.1:1").is_local
    assert not listen_address("[2001:db8::1]:1").is_local


def test_a_sound_table_is_ok(tmp_path: Path) -> None:
    (finding,) = found(tmp_path)
    assert (finding.result, finding.what) == ("ok", "the local API can listen")


def test_a_port_that_another_program_has_is_found(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (finding,) = found(tmp_path, listen=[f"127.0.0.1:{port}"])
    assert finding.result == "bad"
    assert finding.what == f"127.0.0.1:{port}: Address already in use"
    assert finding.fix == f"sudo ss -ltnp 'sport = :{port}'"


@pytest.mark.parametrize(
    ("api", "result", "what", "fix"),
    [
        ('{"state": "listening"}', "ok", "can listen", ""),
        ('{"state": "failed", "problem": "127.0.0.1:7: taken"}', "bad", "127.0.0.1:7: taken", "'sport = :7'"),
        ('{"state": "failed", "problem": "it hangs"}', "bad", "it hangs", "tries again"),
        ("null", "warn", "the running daemon has no local API", "reload"),
    ],
)
def test_a_running_daemon_says_how_its_local_api_is(
    tmp_path: Path, api: str, result: str, what: str, fix: str
) -> None:
    (tmp_path / "state").mkdir()

    def speak() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(f'{{"topic": "health", "message": {{"api": {api}}}}}\n'.encode())

    with socket.create_server(str(tmp_path / "state" / "monitor.sock"), family=socket.AF_UNIX) as server:
        thread = threading.Thread(target=speak)
        thread.start()
        (finding,) = found(tmp_path, listen=["127.0.0.1:7"])
        thread.join()
    assert (finding.result, what in finding.what, fix in finding.fix) == (result, True, True)


@given(st.binary() | st.binary().map(lambda data: b'{"topic":"health","message":' + data + b"}\n"))
def test_what_a_daemon_sends_of_itself_can_be_anything(data: bytes) -> None:
    with suppress(LimpetError):
        running_daemon.device(running_daemon.read(data))


def test_a_file_of_tokens_that_cannot_be_used_is_a_problem_for_check_too(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("anna\n")
    (finding,) = found(tmp_path, token_file=tmp_path / "tokens")
    assert (finding.result, "tokens:1: a line has a name" in finding.what) == ("bad", True)
    wanted = table(tmp_path, api={"token_file": str(tmp_path / "tokens")})
    assert [text for text in inspect(wanted).problems if "tokens:1: a line has a name" in text]
    (missing,) = found(tmp_path, token_file=tmp_path / "none")
    assert "No such file" in missing.what


def test_an_empty_file_of_tokens_and_one_that_others_may_change_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.touch(0o640)
    (empty,) = found(tmp_path, token_file=path)
    assert (empty.result, empty.fix) == ("warn", f"limpet token NAME >> {path}")
    _, entry = tokens.new("anna")
    path.write_text(f"{entry.name} {entry.sha256}\n")
    path.chmod(0o666)
    (loose,) = found(tmp_path, token_file=path)
    assert (loose.result, loose.fix) == ("warn", f"chmod 640 {path}")


def test_without_tls_a_network_address_is_warned_of_and_a_key_that_others_read_too(tmp_path: Path) -> None:
    _, entry = tokens.new("anna")
    path = tmp_path / "tokens"
    path.write_text(f"{entry.name} {entry.sha256}\n")
    path.chmod(0o600)
    listen = [f"0.0.0.0:{free_port()}"]
    (plain,) = found(tmp_path, token_file=path, listen=listen)
    assert (plain.result, plain.fix) == ("warn", "set certificate and key in [api]")
    certificate, key = certificates.certificate(certificates.authority(tmp_path), "device")
    key.chmod(0o644)
    (loose,) = found(tmp_path, token_file=path, listen=listen, certificate=certificate, key=key)
    assert (loose.result, loose.what) == ("warn", f"{key} has mode 644")
    key.chmod(0o600)
    swapped = found(tmp_path, certificate=key, key=certificate)
    assert [one.result for one in swapped] == ["bad", "warn"]


@pytest.mark.parametrize("key", ["headers_file", "ca_file"])
def test_a_file_for_the_collector_that_cannot_be_used_is_named(tmp_path: Path, key: str) -> None:
    (tmp_path / "wrong").write_text("no header\n")
    (finding,) = found(tmp_path, otlp={"url": "https://127.0.0.1:4318", key: "wrong"})
    assert f"api.otlp.{key}" in finding.what
