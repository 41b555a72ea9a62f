"""One sender and several devices at a real broker: all get the whole file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet import cli
from limpet.contracts.chunks import ChunkList
from limpet.contracts.messages import Origin
from limpet.contracts.reporter import ReporterContext
from limpet.delivery.bus import Bus
from limpet.delivery.deliveries import DeliveryInbox
from limpet.distribution.chunked_file import USUAL_CHUNK, ChunkedFile
from limpet.errors import LimpetError
from limpet.reporters import mqtt
from support.broker import Mosquitto, listener, mosquitto, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self


def content(size: int) -> bytes:
    return random.Random(14).randbytes(size)


def test_the_list_of_chunks_is_that_of_the_file(tmp_path: Path) -> None:
    data = content(3 * USUAL_CHUNK + 5)
    path = tmp_path / "f"
    path.write_bytes(data)
    file = ChunkedFile(path)
    decoded = msgspec.json.decode(file.list, type=ChunkList)
    assert (decoded.length, decoded.chunk, len(decoded.hashes)) == (len(data), USUAL_CHUNK, 4)
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert file.list_sha256 == hashlib.sha256(file.list).hexdigest()
    assert b"".join(file.read(index) for index in range(file.count)) == data
    assert ChunkedFile(path).list == file.list


def test_a_file_that_changes_while_it_is_sent_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content(100))
    file = ChunkedFile(path)
    path.write_bytes(content(101)[1:])
    with pytest.raises(LimpetError, match="has changed while it was sent"):
        file.read(0)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(LimpetError, match="has 0 bytes"):
        ChunkedFile(tmp_path / "f")


class Device:
    """The reporter of a device, and who gathers chunks behind it.

    It loses every ``loses``-th chunk so many ``times``.
    """

    def __init__(  # noqa: PLR0917 - how it connects, and what it loses
        self, broker: Mosquitto, folder: Path, name: str, file: ChunkedFile, loses: int, times: int = 1
    ) -> None:
        self.parts: dict[int, bytes] = {}
        self._file = file
        self._loses = loses
        self._times = times
        self._lost: Counter[int] = Counter()
        self._inbox = DeliveryInbox(lambda: None)
        self._over = threading.Event()
        self._hashes: list[str] = []
        bus = Bus()
        state = folder / name
        self._context = ReporterContext(
            "mqtt", Origin(name, "boot", "0.1.0"), state, state, bus.subscribe(), None, self._inbox
        )
        self._config = mqtt.Config(url=broker.url, reconnect_max=0.1)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(20)

    @property
    def complete(self) -> bool:
        return bool(self._hashes) and len(self.parts) == len(self._hashes)

    def _run(self) -> None:
        with mqtt.open(self._config, self._context):
            self._inbox.want_chunks([self._file.sha256])
            asked_at = 0.0
            while not self._over.is_set():
                while chunk := self._inbox.take_chunk():
                    self._take(chunk.index, chunk.payload)
                    asked_at = time.monotonic()
                if time.monotonic() - asked_at > 1.2 and not self.complete:
                    asked_at = time.monotonic()
                    lacking = [(i, i) for i in range(len(self._hashes)) if i not in self.parts]
                    self._inbox.ask(self._file.sha256, lacking[:256], needs_list=not self._hashes)
                self._over.wait(0.01)

    def _take(self, index: int, data: bytes) -> None:
        if index < 0:
            if data and hashlib.sha256(data).hexdigest() == self._file.list_sha256:
                self._hashes = msgspec.json.decode(data, type=ChunkList).hashes
        elif index % self._loses == 0 and self._lost[index] < self._times:
            self._lost[index] += 1
        elif self._hashes and hashlib.sha256(data).hexdigest() == self._hashes[index]:
            self.parts[index] = data

    def whole(self) -> bytes:
        return b"".join(self.parts[index] for index in sorted(self.parts))


@contextlib.contextmanager
def sending(path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "limpet", "model", "send", path, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


def output(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=60)[0]


def test_without_a_broker_it_prints_what_a_desired_state_needs(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content(100_000))
    file = ChunkedFile(path)
    with sending(path) as process:
        text = output(process)
    assert process.returncode == 0
    assert text == f"sha256 {file.sha256}\nlength 100000\nchunks {file.list_sha256}\n"


def test_one_sender_three_devices_lost_chunks_a_late_one_and_a_broker_that_restarts(tmp_path: Path) -> None:
    data = content(1_300_000)
    path = tmp_path / "bundle"
    path.write_bytes(data)
    file = ChunkedFile(path)
    with mosquitto(tmp_path / "broker") as broker, contextlib.ExitStack() as stack:
        sender = stack.enter_context(sending(path, broker.url, "--bytes-per-second", "1200000"))
        devices = [stack.enter_context(Device(broker, tmp_path, name, file, 5)) for name in ("a", "b")]
        wait_until(lambda: any(len(one.parts) > 8 for one in devices))
        broker.stop(signal.SIGTERM)
        broker.start()
        # It hears a chunk at most twice without a request of its own: what was sent again, and what others lost.
        devices.append(stack.enter_context(Device(broker, tmp_path, "late", file, 7, times=3)))
        wait_until(lambda: all(one.complete for one in devices))
        assert [one.whole() == data for one in devices] == [True] * 3
        sender.send_signal(signal.SIGINT)
        text = output(sender)
        assert "connected again" in text
        last = text.splitlines()[-1]
        assert last.endswith(" chunks sent to 3 devices"), text
        sent = int(last.partition(" ")[0])
        assert file.count <= sent < 3 * file.count  # three times would be one sender for each device
        with listener(broker.port, "limpet-bundles/#") as heard:  # the list is cleared
            assert heard.messages == []


def test_it_ends_once_no_device_requests_anything(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(content(1000))
    with mosquitto(tmp_path / "broker") as broker, sending(path, broker.url, "--seconds", "0.3") as sender:
        text = output(sender)
        assert sender.returncode == 0
        assert text.endswith("0 chunks sent to 0 devices\n")
        with listener(broker.port, "limpet-bundles/#") as heard:
            assert heard.messages == []


def test_a_desired_state_is_published_and_waited_for(tmp_path: Path) -> None:
    path, desired = tmp_path / "bundle", tmp_path / "desired.json"
    path.write_bytes(content(1000))
    desired.write_bytes(b'{"model": "motion"}')
    options = [
        "--desired",
        str(desired),
        "--pipeline",
        "motion",
        "--device",
        "a",
        "--device",
        "b",
        "--wait",
        "--keep",
    ]
    with (
        mosquitto(tmp_path / "broker") as broker,
        listener(broker.port) as heard,
        sending(path, broker.url, *options) as sender,
    ):
        wait_until(lambda: len(heard.on("model/motion/desired")) == 2)
        assert {one.topic for one in heard.messages} == {
            "limpet/a/model/motion/desired",
            "limpet/b/model/motion/desired",
        }
        assert {one.payload for one in heard.messages} == {b'{"model": "motion"}'}
        _report(broker, "a", "good", path)
        _report(broker, "b", "failed", path)
        text = output(sender)
        assert sender.returncode == 1
        assert "a: good" in text
        assert "limpet: not good on 'b'" in text or "not good on b" in text
        with listener(broker.port, "limpet-bundles/#") as kept:
            wait_until(lambda: kept.messages)
            assert kept.messages[0].payload == ChunkedFile(path).list


def test_a_broker_that_lost_the_desired_state_gets_it_again_for_devices_that_do_not_know_it(
    tmp_path: Path,
) -> None:
    path, desired = tmp_path / "bundle", tmp_path / "desired.json"
    path.write_bytes(content(1000))
    desired.write_bytes(b"{}")
    options = ["--desired", str(desired), "--pipeline", "motion", "--device", "a", "--device", "b", "--wait"]
    with (
        mosquitto(tmp_path / "broker") as broker,
        listener(broker.port) as heard,
        sending(path, broker.url, *options) as sender,
    ):
        wait_until(lambda: len(heard.on("model/motion/desired")) == 2)
        _report(broker, "a", "downloading", path)
        wait_until(lambda: "a: downloading" in (sender.stdout.readline() if sender.stdout else ""))
        broker.kill()  # before it has saved anything
        broker.start()
        wait_until(lambda: len(heard.on("model/motion/desired")) == 3)
        assert heard.on("model/motion/desired")[2].topic.startswith("limpet/b/")


def _report(broker: Mosquitto, device: str, stage: str, path: Path) -> None:
    update = {"stage": stage, "since": "2026-11-28T20:00:00Z", "sha256": ChunkedFile(path).sha256}
    report: dict[str, Any] = {
        "device": device, "pipeline": "motion", "time": "2026-11-28T20:00:00Z", "model": "motion", "version": 8,
        "state": "running", "reason": "", "delegate": "cpu", "degraded": False, "update": update,
    }  # fmt: skip
    topic = f"limpet/{device}/model/motion/reported"
    command = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-r", "-t", topic, "-m", json.dumps(report)]
    subprocess.run(command, check=True)


def test_ctrl_c_clears_the_list_and_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(content(1000))
    with mosquitto(tmp_path / "broker") as broker, listener(broker.port, "limpet-bundles/#") as heard:
        with sending(path, broker.url) as sender:
            wait_until(lambda: heard.messages)
            sender.send_signal(signal.SIGINT)
            text = output(sender)
            assert sender.returncode == 130
            assert text.endswith("0 chunks sent to 0 devices\n")
        wait_until(lambda: [one.payload for one in heard.messages][-1] == b"")


def test_a_broker_that_refuses_the_list_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(content(1000))
    (tmp_path / "acl").write_text("topic read #\n")
    with (
        mosquitto(tmp_path / "broker", settings=f"allow_anonymous true\nacl_file {tmp_path}/acl") as broker,
        sending(path, broker.url) as sender,
    ):
        text = output(sender)
    assert sender.returncode == 1
    assert "the broker refuses to take messages on limpet-bundles/" in text
    assert "check its access list" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mqtt://h", "--device", "a"], "--device and --pipeline go with --desired FILE"),
        (
            ["mqtt://h", "--desired", "d", "--pipeline", "p"],
            "--desired needs a URL, --pipeline NAME and --device ID",
        ),
        (["mqtt://h", "--desired", "d", "--pipeline", "p", "--device", "a/b"], "an id has no '/', '+' or '#'"),
        (["mqtt://u:p@h"], "write no password in the URL"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(b"x")
    assert cli.main(["model", "send", str(path), *options]) == 2
    assert message in capsys.readouterr().err
