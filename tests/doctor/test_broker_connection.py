"""``limpet doctor`` on the way to a real broker: files, network, TLS, login."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import config
from limpet.doctor import broker_connection, certificate
from limpet.doctor.installation import Installation
from support.broker import free_port, listener, mosquitto, wait_until
from support.certificates import authority
from support.certificates import certificate as sign
from support.gate import gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.doctor.finding import Finding

DAY = 86_400


def look(
    folder: Path, now: float | None = None, reporters: dict[str, Any] | None = None, **mqtt: Any
) -> list[Finding]:
    tables: dict[str, Any] = {
        "reporters": reporters or {},
        "device": {"id": "press-07"},
        "sources": {"s": {"kind": "serial", "port": "/dev/null", "channels": ["a"]}},
        "pipelines": {"p": {"source": "s", "model": "m"}},
        "mqtt": {key: str(value) for key, value in mqtt.items()},
    }
    wanted = config.build(tables, folder)
    return list(broker_connection.connection(Installation(folder / "limpet.toml", wanted, now=now or time.time())))


def results(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.result) for finding in found]


def test_a_broker_that_takes_us(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker") as running, listener(running.port) as client:
        found = look(tmp_path, url=running.url)
        assert results(found) == [("broker", "ok")] * 2
        assert "MQTT 5" in found[-1].what
        assert "limpet-press-07-doctor" in running.log  # an id of its own: a running daemon keeps its session
        assert client.messages == []  # and no last will


def test_each_of_two_brokers_is_looked_at_and_named(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker") as running:
        cloud = {"kind": "mqtt", "url": "mqtt://127.0.0.1", "username": "u", "password_file": "none"}
        found = look(tmp_path, url=running.url, reporters={"cloud": cloud})
        assert results(found) == [("broker", "ok"), ("broker", "ok"), ("broker", "bad")]
        assert found[-1].what.startswith("reporters.cloud.password_file: ")


def test_two_reporters_of_one_broker_need_client_ids_and_topics_of_their_own(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker") as running:
        second = {"kind": "mqtt", "url": running.url}
        found = look(tmp_path, url=running.url, reporters={"second": second})
        assert found[0].what.startswith("mqtt and reporters.second use 127.0.0.1")
        assert "and the topic 'limpet'" in found[0].what
        assert results(found) == [("broker", "bad"), *[("broker", "ok")] * 4]
        same = {**second, "client_id": "a", "topic": "other"}
        found = look(tmp_path, url=running.url, client_id="a", reporters={"s": same})
        assert "as 'a'" in found[0].what
        assert results(found)[0] == ("broker", "bad")
        assert look(tmp_path, url=running.url, reporters={"s": {**second, "topic": "other"}})[0].result == "ok"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_websockets(tmp_path: Path) -> None:
    port = free_port()
    # mosquitto 2.0 does not start with a websockets listener alone.
    with mosquitto(tmp_path / "broker", f"listener {port} 127.0.0.1\nprotocol websockets"):
        wait_until(lambda: listens(port))  # it opens this one after the other
        found = look(tmp_path, url=f"ws://127.0.0.1:{port}/mqtt", protocol="3.1.1")
    assert results(found) == [("broker", "ok")] * 2
    assert "MQTT 3.1.1" in found[-1].what


@pytest.mark.parametrize("manner", ["refuse-5", "hang-up-on-5"])
def test_a_broker_that_only_knows_3_1_1(tmp_path: Path, manner: Any) -> None:
    with mosquitto(tmp_path / "broker") as running, gate(running.port, manner) as old:
        assert look(tmp_path, url=old.url)[-1].what == "login with MQTT 3.1.1"
        insisting = look(tmp_path, url=old.url, protocol="5")[-1]
    assert insisting.result == "bad"


def test_what_listens_and_hangs_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def hang_up() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        found = look(tmp_path, url=f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        stop.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert results(found) == [("broker", "ok"), ("broker", "bad")]
    assert "without an answer" in found[-1].what


def test_no_table_no_finding(tmp_path: Path) -> None:
    assert results(list(broker_connection.connection(Installation(tmp_path)))) == [("broker", "skip")]
    assert results(look(tmp_path, url="nonsense")) == [("broker", "skip")]


def test_nobody_listens(tmp_path: Path) -> None:
    (finding,) = look(tmp_path, url=f"mqtt://127.0.0.1:{free_port()}")
    assert finding.result == "bad"
    assert "nothing listens" in finding.what


def test_a_secret_that_is_missing(tmp_path: Path) -> None:
    (finding,) = look(tmp_path, url="mqtt://127.0.0.1", username="u", password_file=tmp_path / "none")
    assert finding.result == "bad"
    assert "mqtt.password_file" in finding.what
    assert "LoadCredential=" in finding.fix


@pytest.fixture
def not_root() -> Iterator[None]:
    """Not root, who may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.mark.usefixtures("not_root")
def test_a_secret_for_root_alone_is_no_mistake() -> None:
    (finding,) = look(Path("/"), url="mqtt://127.0.0.1", username="u", password_file=Path("/etc/shadow"))
    assert finding.result == "skip"
    assert "/etc/shadow cannot be read" in finding.what


@pytest.mark.parametrize(("given_password", "mode", "last"), [("right", 0o640, "ok"), ("wrong", 0o644, "bad")])
def test_password(tmp_path: Path, given_password: str, mode: int, last: str) -> None:
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "press", "right"], check=True, capture_output=True)
    secret.write_text(given_password)
    secret.chmod(mode)
    settings = f"allow_anonymous false\npassword_file {passwords}"
    with mosquitto(tmp_path / "broker", settings=settings) as running:
        found = look(tmp_path, url=running.url, username="press", password_file=secret)
    loose = [] if mode == 0o640 else [("broker", "warn")]
    assert results(found) == [*loose, ("broker", "ok"), ("broker", last)]
    if last == "bad":
        assert "check username, password_file" in found[-1].what
        assert f"chmod 640 {secret}" in found[0].fix


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return authority(tmp_path)


def tls(ca: Path, days: int = 90) -> str:
    cert, key = sign(ca, "broker", days=days)
    return f"cafile {ca}\ncertfile {cert}\nkeyfile {key}"


def test_tls(tmp_path: Path, ca: Path) -> None:
    with mosquitto(tmp_path / "broker", tls(ca)) as running:
        url = f"mqtts://localhost:{running.port}"
        good = look(tmp_path, url=url, ca_file=ca)
        assert results(good) == [("broker", "ok"), ("tls", "ok"), ("broker", "ok")]
        assert "TLSv1" in good[1].what
        soon = look(tmp_path, url=url, ca_file=ca, now=time.time() + 80 * DAY)
        assert results(soon)[1] == ("tls", "warn")
        assert "renew" in soon[1].fix
        stranger = look(tmp_path, url=url, ca_file=authority(tmp_path, "other"))
        assert results(stranger) == [("broker", "ok"), ("tls", "bad")]
        assert "authority" in stranger[-1].what
        plain = look(tmp_path, url=f"mqtt://localhost:{running.port}")
        assert results(plain) == [("broker", "ok"), ("broker", "bad")]


def test_a_broker_whose_certificate_has_ended(tmp_path: Path, ca: Path) -> None:
    with mosquitto(tmp_path / "broker", tls(ca, days=-1)) as running:
        found = look(tmp_path, url=f"mqtts://localhost:{running.port}", ca_file=ca)
    assert "expired" in found[-1].what


def test_the_devices_own_certificate(tmp_path: Path, ca: Path) -> None:
    cert, key = sign(ca, "device", days=20)
    with mosquitto(tmp_path / "broker", f"{tls(ca)}\nrequire_certificate true") as running:
        wanted = {"url": f"mqtts://localhost:{running.port}", "ca_file": ca}
        found = look(tmp_path, **wanted, cert_file=cert, key_file=key)
        assert [finding.result for finding in found if "device's certificate" in finding.what] == ["warn"]
        assert results(found)[-1] == ("broker", "ok")
        without_certificate = look(tmp_path, **wanted)
        assert without_certificate[-1].result == "bad"
        assert "client certificate" in without_certificate[-1].what


def test_a_device_certificate_that_is_none(tmp_path: Path, ca: Path) -> None:
    (tmp_path / "cert").write_text("nothing")
    found = look(tmp_path, url="mqtts://localhost", ca_file=ca, cert_file=tmp_path / "cert", key_file=ca)
    assert found[-1].result == "bad"
    assert "no certificate in PEM form" in found[-1].what


# --- the end of a certificate


@pytest.mark.parametrize("days", [1, 300, 10_000, 30_000])  # from 2050 on it is written with four digits
def test_end_as_openssl_tells(ca: Path, days: int) -> None:
    cert, _ = sign(ca, "c", days=days)
    shown = subprocess.run(
        ["openssl", "x509", "-in", cert, "-noout", "-enddate"], capture_output=True, text=True, check=True
    ).stdout
    end = datetime.strptime(shown.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc)
    assert certificate.expires(cert) == end.timestamp()


@given(data=st.data())
def test_a_damaged_certificate_never_crashes(certificate_bytes: bytes, data: st.DataObject) -> None:
    damaged = bytearray(certificate_bytes[: data.draw(st.integers(0, len(certificate_bytes)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        assert certificate.not_after(bytes(damaged)) is not None


@pytest.fixture(scope="module")
def certificate_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("der")
    pem = authority(folder)
    der = folder / "ca.der"
    subprocess.run(["openssl", "x509", "-in", pem, "-outform", "DER", "-out", der], check=True)
    return der.read_bytes()
