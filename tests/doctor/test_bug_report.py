"""The archive of ``limpet doctor --report``: what is in it, and that no planted secret is."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import stat
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import tomli_w
from hypothesis import example, given
from hypothesis import strategies as st

import limpet
from limpet.device.machine import Machine
from limpet.doctor import installation, redaction, report
from limpet.doctor.finding import bad
from limpet.errors import LimpetError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = Path(limpet.__file__).parent / "demo_data" / "shuttle-1.limpet"
VOCABULARY = frozenset().union(
    *(redaction.words(path.read_text()) for path in Path(limpet.__file__).parent.rglob("*.py"))
)
CONTEXTS = (
    "{}",
    "2026-11-28 13:00:00 6 cannot log in as {}: refused",
    'token={} password="{}"',
    "mqtt://x:{}@broker:1883/path",
    "a{}b",
    "/home/{}/limpet.toml",
    "{}.example.com and 10.1.2.3",
)


def is_strange(secret: str) -> bool:
    """Whether a text has a word that Limpet does not know. Only such a text can be found where none expects it."""
    tokens = re.findall(r"\w+", secret)
    known = [t for t in tokens if len(t) < 3 or t.casefold() in VOCABULARY or re.fullmatch(r"[xX]?\d+\w{0,3}", t)]
    return len(known) < len(tokens) and not any(kind in secret.casefold() for kind in redaction.KINDS)


secrets = st.text(
    st.sampled_from("abcdefghijkmnopqrstuvwxyzABCDEFXYZ0123456789-_.!@#$%&/+=:\"'\\äß"), min_size=6, max_size=30
).map(str.strip)
strange = secrets.filter(lambda secret: len(secret) > 5 and is_strange(secret))
known = secrets.filter(
    lambda secret: (
        len(secret) > 5
        and secret.casefold() not in VOCABULARY
        and not any(kind in secret.casefold() for kind in redaction.KINDS)
    )
)


@given(strange, st.sampled_from(CONTEXTS))
@example("hunter2hunter2", CONTEXTS[2])
@example("correct-horse.battery", CONTEXTS[1])
@example("55739323737351F0A1C1", CONTEXTS[4])
def test_no_unknown_secret_stays_in_a_log(secret: str, context: str) -> None:
    cleaned = redaction.Redactor(VOCABULARY).text(context.replace("{}", secret))
    assert secret not in cleaned
    assert redaction.Redactor(VOCABULARY).text(context.replace("{}", secret)) == cleaned


@pytest.mark.parametrize(
    "around", ["{}", "{}:1883 refused", "tcp:{}:1883", "[{}]:1883", "a={},b", "({}).", "{}/24"]
)
@pytest.mark.parametrize("address", ["10.20.30.40", "192.168.001.005", "::ffff:192.168.77.5", "2001:db8::77"])
def test_addresses_are_replaced_as_a_whole(address: str, around: str) -> None:
    if ":" in address and around in {"{}:1883 refused", "tcp:{}:1883"}:
        return  # an IPv6 address with a port stands in brackets
    cleaned = redaction.Redactor(VOCABULARY).facts(around.replace("{}", address))
    assert cleaned == around.replace("{}", "address-1")


def test_times_and_versions_are_no_addresses() -> None:
    text = "2026-11-28 14:39:10,700 limpet 0.1.0 at 12:34:56 on 127.0.0.1:1883 and ::1"
    assert redaction.Redactor(VOCABULARY).facts(text) == text


@given(known, st.sampled_from(CONTEXTS), st.sampled_from([str, str.upper, str.lower, quote, json.dumps]))
@example("Open Sesame", CONTEXTS[0], str)
@example("p@ss/w:rd", CONTEXTS[3], quote)
def test_no_known_secret_stays_in_any_text(secret: str, context: str, form: Any) -> None:
    redactor = redaction.Redactor(VOCABULARY)
    redactor.secret(secret)
    cleaned = redactor.facts(context.replace("{}", form(secret)))
    assert secret.lower() not in cleaned.lower()
    assert quote(secret) not in cleaned


@given(st.lists(strange, min_size=9, max_size=9, unique=True), st.sampled_from(["kind", "framing", "qos", "baud"]))
def test_a_configuration_keeps_only_the_values_of_known_keys(planted: list[str], key: str) -> None:
    a, b, c, d, e, f, g, h, i = planted
    tables: dict[str, Any] = {
        "device": {"id": a, "commands": ["ping", b]},
        "mqtt": {"url": f"mqtts://{quote(c, '')}:{quote(d, '')}@host.example:8883", "qos": 1, key: e, "pin": 4711},
        "sources": {f: {"kind": "serial", "baud": 9600, "deep": [{"deeper": [g]}]}},
        "pipelines": {"p1": {"source": f, "model": h}},
        i: {"x": True},
    }
    redactor = redaction.Redactor(VOCABULARY)
    cleaned = redactor.tables(tables)
    text = tomli_w.dumps(cleaned) + redactor.text(f"{f} is away; {h}-2.limpet stays")
    assert [secret for secret in planted if secret in text] == []
    assert "4711" not in text
    assert "host.example" not in text
    assert cleaned["mqtt"]["url"].endswith(":8883")
    (source,) = cleaned["sources"].values()
    assert (source["kind"], source["baud"]) == ("serial", 9600)
    assert [cleaned["pipelines"]["p1"]["source"]] == list(cleaned["sources"])


def test_a_log_can_still_be_followed() -> None:
    redactor = redaction.Redactor(VOCABULARY)
    broker = {"url": "mqtts://broker.acme.com:8883", "username": "anna"}
    redactor.tables({"sources": {"press-07": {}}, "mqtt": broker})
    log = (
        "2026-11-28 13:00:01 6 source press-07: /dev/ttyUSB0 opened at 115200 baud\n"
        "2026-11-28 13:00:02 4 broker.acme.com:8883 refused anna (10.0.0.7, aa:bb:cc:dd:ee:ff)\n"
        "2026-11-28 13:00:03 4 10.0.0.7 answers 127.0.0.1 in 12ms; bob@acme.com knows /home/bob/x.log\n"
        "2026-11-28 13:00:04 4 fe80::1:2 and 10.0.0.7, source press-07"
    )
    assert redactor.text(log) == (
        "2026-11-28 13:00:01 6 source source-1: /dev/ttyUSB0 opened at 115200 baud\n"
        "2026-11-28 13:00:02 4 host-1:8883 refused user-1 (address-1, mac-1)\n"
        "2026-11-28 13:00:03 4 address-1 answers 127.0.0.1 in 12ms; email-1 knows /home/user-2/x.log\n"
        "2026-11-28 13:00:04 4 address-2 and address-1, source source-1"
    )


def test_a_key_in_a_log_is_removed() -> None:
    text = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nsensor\n-----END PRIVATE KEY-----\nopen"
    assert redaction.Redactor(VOCABULARY).text(f"read {text}") == "read (a key or certificate)\nopen"


PLANTED = {
    "id": "acme-press-07x",
    "user": "annabelle77",
    "password": "Tr0ub4dor&3zzz",
    "broker": "broker.acme-plant.example",
    "source": "vibra-kiln9",
    "comment": "Zugangskode9",
    "token": "ghp_16C7e42F292c6912E7",
    "serial": "55739323737351F0A1C1",
    "host": "kiln-host-9f",
    "mac": "b8:27:eb:12:34:56",
    "finding": "Johann-Sebastian9",
    "health": "kilnhealth77",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with names in its files."""
    files = {
        "etc/hostname": PLANTED["host"],
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "sys/class/net/eth0/address": PLANTED["mac"],
        "sys/bus/usb/devices/1-1/serial": PLANTED["serial"],
        "sys/bus/usb/devices/1-1/idVendor": "2341",
        "sys/bus/usb/devices/1-1/idProduct": "0043",
        "sys/bus/usb/devices/1-1/bDeviceClass": "02",
        "proc/device-tree/model": f"Board of {PLANTED['host']}",
    }
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "root"


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text(f"{PLANTED['password']}\n")
    path = tmp_path / "limpet.toml"
    path.write_text(
        f"""# {PLANTED["comment"]}
        [device]
        id = "{PLANTED["id"]}"
        state = "{tmp_path}/state"
        [mqtt]
        url = "mqtts://{PLANTED["broker"]}:8883"
        username = "{PLANTED["user"]}"
        password_file = "password"
        [sources.{PLANTED["source"]}]
        kind = "serial"
        port = "/dev/serial/by-id/usb-Arduino_{PLANTED["serial"]}-if00"
        channels = ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"]
        [pipelines.motion]
        source = "{PLANTED["source"]}"
        model = "{DEMO}"
        """
    )
    return path


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[None]:
    """A monitor socket that sends what a daemon would."""
    (tmp_path / "state").mkdir()
    messages = [
        {"topic": "health", "message": {"device": PLANTED["id"], "note": PLANTED["health"], "uptime": 12.5}},
        {"topic": "result/motion", "message": {"output": "a result is private"}},
    ]
    with socket.create_server(str(tmp_path / "state" / "monitor.sock"), family=socket.AF_UNIX) as server:
        server.settimeout(30)

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.sendall("".join(json.dumps(one) + "\n" for one in messages).encode())

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


@pytest.mark.usefixtures("daemon")
def test_nothing_planted_anywhere_is_in_the_archive(
    root: Path, configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    environment = {"USER": PLANTED["user"], "GITHUB_TOKEN": PLANTED["token"]}
    found = installation.read(configuration, Machine(root))
    findings = [
        bad("x", f"{PLANTED['finding']} with {PLANTED['token']} at {PLANTED['mac']}", PLANTED["password"], "")
    ]
    parts, missing = report.collect(found, findings, environment)
    everything = "\n".join(part.text for part in parts)
    assert all(line.partition(":")[0] in everything for line in missing)
    assert [what for what, secret in PLANTED.items() if secret.lower() in everything.lower()] == []
    assert str(tmp_path) not in everything
    texts = {part.name: part.text for part in parts}
    assert {"README.txt", "configuration.toml", "versions.txt", "system.txt", "hardware.txt"} <= texts.keys()
    assert {"doctor.txt", "check.txt", "models.txt", "health.txt"} <= texts.keys()
    assert "USB device: 2341:0043, class 02" in texts["hardware.txt"]
    assert "Debian GNU/Linux 12" in texts["system.txt"]
    assert "shuttle" not in texts["configuration.toml"]
    assert '"channels": [' in texts["models.txt"]
    assert "12.5" in texts["health.txt"]
    assert "a result is private" not in texts["health.txt"]
    assert [name for name in texts if name != "README.txt" and f"{name}: " not in texts["README.txt"]] == []


def test_the_log_is_that_of_the_journal(configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine with tests has a journal of the service. A program in its place prints lines of one."""
    entries = [
        {"__REALTIME_TIMESTAMP": "1764338400000000", "PRIORITY": "6", "MESSAGE": f"{PLANTED['source']}: running"},
        {
            "__REALTIME_TIMESTAMP": "1764338401000000",
            "PRIORITY": "4",
            "MESSAGE": f"with {PLANTED['password']} kept",
        },
        {"__REALTIME_TIMESTAMP": "1764338402000000", "PRIORITY": "3", "MESSAGE": [1, 2, 3]},
    ]
    lines = "\n".join([*map(json.dumps, entries), f"no JSON {PLANTED['finding']}"])
    folder = configuration.parent / "bin"
    folder.mkdir()
    (folder / "journal.txt").write_text(f"{lines}\n")
    (folder / "journalctl").write_text(f"#!/bin/sh\ncat {folder}/journal.txt\n")
    (folder / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    parts, _ = report.collect(installation.read(configuration, Machine(configuration.parent)), [], {})
    (log,) = (part.text.splitlines() for part in parts if part.name == "log.txt")
    assert log[:3] == [
        "2025-11-28 14:00:00 6 source-1: running",
        "2025-11-28 14:00:01 4 with secret-1 kept",
        "2025-11-28 14:00:02 3 (no text)",
    ]
    assert log[3].startswith("(a line of the journal could not be read")


def limpet_doctor(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "limpet", "doctor", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_writes_one_archive_for_its_owner_and_says_what_is_in_it(configuration: Path) -> None:
    folder = configuration.parent
    done = limpet_doctor(folder, "--report")
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = folder.glob("limpet-report-*.tar.gz")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"{path}: a bug report. Read it before you send it" in done.stdout
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
        names = archive.getnames()
        assert all(member.isfile() and not member.uname for member in archive.getmembers())
    for name in names:
        assert f"  {name.removeprefix('limpet-report/')} " in done.stdout


def test_a_link_or_a_file_in_the_archives_place_is_left_alone(configuration: Path) -> None:
    folder = configuration.parent
    target = folder / "target"
    (folder / "report.tar.gz").symlink_to(target)
    done = limpet_doctor(folder, "--report", "report.tar.gz")
    assert done.returncode == 1
    assert "report.tar.gz exists already. Name another file" in done.stderr
    assert not target.exists()


def test_tables_of_a_wrong_form_are_cleaned_too() -> None:
    tables = {
        "sources": 3,
        "pipelines": ["annabelle77"],
        "mqtt": {"url": "mqtt://[annabelle77", "qos": "annabelle77"},
    }
    cleaned = redaction.Redactor(VOCABULARY).tables(tables)
    assert cleaned.keys() == tables.keys()
    assert "annabelle77" not in json.dumps(cleaned)


@pytest.mark.parametrize(
    "text",
    ['[mqtt]\nusername = "annabelle77\n', f"annabelle77 = {'[' * 100_000}", "\udcff"],
    ids=["cut", "deep", "bytes"],
)
def test_a_damaged_configuration_is_left_out_with_the_reason(text: str, tmp_path: Path) -> None:
    path = tmp_path / "limpet.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    parts, missing = report.collect(installation.read(path, Machine(tmp_path)), [], {})
    assert "configuration.toml" not in {part.name for part in parts}
    assert any(line.startswith("configuration.toml: ") for line in missing)
    assert "annabelle77" not in "\n".join(part.text for part in parts)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    found = installation.read(tmp_path / "none.toml", Machine(tmp_path))
    with pytest.raises(LimpetError, match=r"none/x\.tar\.gz: No such file or directory\. Name another file"):
        report.write(found, [], tmp_path / "none" / "x.tar.gz")
    assert os.listdir(tmp_path) == []  # noqa: PTH208
