"""Five bad models, whole and signed by a trusted key, are stopped by admission. The pipeline at work goes on."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from limpet.deployment.local import examined
from support import bad_models, trusting
from support.broker import wait_until
from support.daemon import Consumer, Daemon, daemon, missing
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.broker import Mosquitto

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


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with Board(tmp_path / "line") as plugged:
        yield plugged


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


def test_bad_models_are_stopped_and_no_result_of_the_running_one_is_lost_or_doubled(
    tmp_path: Path, broker: Mosquitto, consumer: Consumer, board: Board
) -> None:
    signed(bad_models.good(tmp_path))
    (tmp_path / "root.json").write_bytes(trusting.root(KEYS))
    path = tmp_path / "limpet.toml"
    path.write_text(CONFIG.format(url=broker.url, folder=tmp_path))
    with daemon(path) as running:
        board.wait_opened()
        sending = Sending(board)
        sending.start()
        try:
            consumer.wait_results("number", 20)
            worker = running.pid_of("line")
            for version, what in enumerate(bad_models.BAD, 2):
                bundle = signed(bad_models.bad(tmp_path, what, version))
                assert examined(bundle).problem == ""
                order(tmp_path, running, bundle, version)
                wait_until(lambda version=version: reached(consumer, "failed", version), 30)  # type: ignore[misc]
                assert REASONS[what] in update(consumer)["reason"]
                consumer.wait_results("number", 5)
            order(tmp_path, running, signed(bad_models.good(tmp_path, 7)), 7)
            wait_until(lambda: reached(consumer, "good", 7), 30)
        finally:
            sent = sending.end() - 1  # the line takes the first one for the rest of another
        wait_until(lambda: len(consumer.results("number")) >= sent)
        assert running.pid_of("line") == worker
        assert not (tmp_path / "state/cache/admission").exists()
        assert running.stop() == 0
    results = consumer.results("number")
    assert not missing(results)
    assert len({one["id"] for one in results}) == len(results) == sent
    assert {one["version"] for one in results} == {1, 7}
    assert not consumer.events("number", "crashed")
    assert not consumer.events("number", "swap_failed")
