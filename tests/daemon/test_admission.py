"""Five bad models, whole and signed by a trusted key, are stopped by admission. The pipeline at work goes on."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from limpet.deployment.local import examined
from support import bad_models, trusting
from support.broker import mosquitto, wait_until
from support.daemon import Consumer, Daemon, daemon, missing
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5

[mqtt]
url = "{url}"

[trust]
root = "root.json"

[sources.line]
kind = "serial"
port = "{folder}/line"
channels = ["n"]
framing = "csv"

[pipelines.number]
source = "line"
model = "number-1.limpet"
deadline = 1.0
"""
KEYS = trusting.Keys()
RATE = 200
REASONS = {
    "segfault": "the runtime crashed (SIGSEGV) while the model was loaded",
    "hang": "nothing happened for 1 s while one window ran",
    "memory": "memory",
    "wrong answers": "wrong outputs for its golden vectors: off by 5, 0 is allowed",
    "wrong shape": "the model's input 'input' has shape [1, 3], but its source, window and transforms give [1, 1]",
}


class Sending(threading.Thread):
    """A board that sends 0, 1, 2, ... at a steady rate."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board
        self._ended = threading.Event()
        self.sent = 0

    def run(self) -> None:
        begin = time.monotonic()
        while not self._ended.wait(0.005):
            due = int((time.monotonic() - begin) * RATE)
            self._board.send("".join(f"{n}\n" for n in range(self.sent, due)).encode())
            self.sent = max(self.sent, due)

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self.sent


def signed(bundle: Path) -> Path:
    """Add the signature of the maker of models to a bundle."""
    with zipfile.ZipFile(bundle, "a") as archive:
        manifest = archive.read("manifest.json")
        version = json.loads(manifest)["version"]
        signature = trusting.signature(manifest, [KEYS.maker], name="number", version=version)
        archive.writestr(zipfile.ZipInfo("signature"), signature)
    return bundle


def order(folder: Path, running: Daemon, bundle: Path, version: int) -> None:
    """Have the daemon install a bundle, as `limpet model install` does."""
    data = bundle.read_bytes()
    desired = {
        "model": "number",
        "version": version,
        "sha256": hashlib.sha256(data).hexdigest(),
        "length": len(data),
        "policy": {"trial_windows": 5},
    }
    requests = folder / "state" / "requests"
    requests.mkdir(parents=True, exist_ok=True)
    (requests / "number.limpet").write_bytes(data)
    (requests / "new").write_text(json.dumps({"order": "update", "desired": desired}))
    (requests / "new").replace(requests / "number.json")
    running.signal(signal.SIGHUP)


def update(consumer: Consumer) -> dict[str, Any]:
    said = consumer.last("model/number/reported")
    return dict(said["update"] or {}) if said else {}


def reached(consumer: Consumer, stage: str, version: int) -> bool:
    now = update(consumer)
    return bool(now) and now["stage"] == stage and now["wanted"]["version"] == version


class Line(NamedTuple):
    """A daemon whose pipeline runs a good model on what a board sends all the time."""

    folder: Path
    running: Daemon
    consumer: Consumer
    sending: Sending
    worker: int


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """Start one for all tests here: a bad model leaves it as it was."""
    folder = tmp_path_factory.mktemp("line")
    signed(bad_models.good(folder))
    (folder / "root.json").write_bytes(trusting.root(KEYS))
    path = folder / "limpet.toml"
    with mosquitto(folder / "broker") as broker, Board(folder / "line") as board:
        path.write_text(CONFIG.format(url=broker.url, folder=folder))
        consumer = Consumer(broker.port)
        with daemon(path) as running:
            board.wait_opened()
            sending = Sending(board)
            sending.start()
            try:
                consumer.wait_results("number", 20)
                yield Line(folder, running, consumer, sending, running.pid_of("line"))
            finally:
                sending.end()
        consumer.close()


@pytest.mark.parametrize("what", bad_models.BAD)
def test_bad_model_is_stopped_by_admission(line: Line, what: str) -> None:
    version = 2 + [*bad_models.BAD].index(what)
    bundle = signed(bad_models.bad(line.folder, what, version))
    assert examined(bundle).problem == ""
    order(line.folder, line.running, bundle, version)
    wait_until(lambda: reached(line.consumer, "failed", version))
    assert REASONS[what] in update(line.consumer)["reason"]
    line.consumer.wait_results("number", 5)
    assert line.running.pid_of("line") == line.worker


def test_a_good_model_goes_through_after_bad_ones_and_no_result_is_lost_or_doubled(line: Line) -> None:
    consumer, running = line.consumer, line.running
    order(line.folder, running, signed(bad_models.good(line.folder, 7)), 7)
    wait_until(lambda: reached(consumer, "good", 7))
    sent = line.sending.end() - 1  # the line takes the first one for the rest of another
    wait_until(lambda: len(consumer.results("number")) >= sent)
    assert running.pid_of("line") == line.worker
    assert not (line.folder / "state/cache/admission").exists()
    assert running.stop() == 0
    results = consumer.results("number")
    assert not missing(results)
    assert len({one["id"] for one in results}) == len(results) == sent
    assert {one["version"] for one in results} == {1, 7}
    assert not consumer.events("number", "crashed")
    assert not consumer.events("number", "swap_failed")
