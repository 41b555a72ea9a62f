"""Clients saturate models while processes are killed: the pipeline loses no sample, and clients recover."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from support import bundles, models
from support.api_daemon import ApiDaemon, api_daemon
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RATE = 100
STILL_TRIED = 503
"""The status of an error that will pass."""


class Load:
    """Clients that use a model without a pause. ``answers`` counts their statuses, 0 for none."""

    def __init__(self, started: ApiDaemon, model: str) -> None:
        self.answers: dict[int, int] = {}
        self.wrong: list[bytes] = []
        self._started = started
        self._path = f"/v2/models/{model}/infer"
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(4)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def more(self, status: int = 200) -> Callable[[], bool]:
        """Return what says whether there are ten more answers with a status."""
        before = self.answers.get(status, 0)
        return lambda: self.answers.get(status, 0) >= before + 10

    def _work(self, number: int) -> None:
        values = [float(number), 1.0, 2.0]
        stored = [round(value / models.SCALE) + models.ZERO_POINT for value in values]
        tensor = {"name": "input", "shape": [1, 3], "datatype": "FP32", "data": values}
        body = json.dumps({"inputs": [tensor]}).encode()
        while not self._ended.is_set():
            status = 0
            with suppress(OSError):
                answer = self._started.request(self._path, "POST", body, {"Content-Type": "application/json"})
                status = answer.status
                if status == 200 and answer.json["outputs"][0]["data"] not in (values, stored):
                    self.wrong.append(answer.body)
            self.answers[status] = self.answers.get(status, 0) + 1


@contextmanager
def load(started: ApiDaemon, model: str) -> Iterator[Load]:
    running = Load(started, model)
    running.start()
    try:
        wait_until(running.more())
        yield running
    finally:
        running.end()
    assert running.wrong == []
    assert set(running.answers) <= {0, 200, STILL_TRIED}, running.answers


def samples(started: ApiDaemon) -> list[int]:
    """Return the ordinals of the samples of all results so far."""
    lines = (started.folder / "results.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [one["sample"] for one in found if "sample" in one]


@contextmanager
def guest_daemon(folder: Path) -> Iterator[ApiDaemon]:
    store = folder / "state" / "models"
    store.mkdir(parents=True)
    content = models.dense(folder / "made.tflite", inputs=3, outputs=3, int8=False).read_bytes()
    members = {"model.tflite": content}
    bundles.bundle(store / "spare-1.limpet", members, name="spare", version=1, model="model.tflite")
    with api_daemon(folder, rate=RATE, api='models = ["spare"]\nrequests_per_second = 1e6') as started:
        wait_until(lambda: started.request("/v2/models/spare/ready").status == 200)
        yield started


def no_sample_is_lost(started: ApiDaemon) -> None:
    wait_until(lambda: len(samples(started)) > RATE)
    found = samples(started)
    assert found == list(range(found[0], found[0] + len(found)))


def test_a_guest_that_is_killed_costs_clients_a_moment_and_the_pipeline_nothing(tmp_path: Path) -> None:
    with guest_daemon(tmp_path) as started:
        with load(started, "spare") as clients:
            for _ in range(3):
                os.kill(started.daemon.pid_of("limpet@spare-1~"), signal.SIGKILL)
                wait_until(clients.more())
        no_sample_is_lost(started)


def test_a_model_that_never_returns_ends_its_guest_alone(tmp_path: Path) -> None:
    store = tmp_path / "state" / "models"
    store.mkdir(parents=True)
    members = {"model.tflite": models.endless(tmp_path / "made.tflite").read_bytes()}
    bundles.bundle(store / "endless-1.limpet", members, name="endless", version=1, model="model.tflite")
    tensor = {"name": "input", "shape": [1], "datatype": "FP32", "data": [1.0]}
    with api_daemon(tmp_path, rate=RATE, api='models = ["endless"]') as started:
        wait_until(lambda: started.request("/v2/models/endless/ready").status == 200)
        body = json.dumps({"inputs": [tensor]}).encode()
        answer = started.request("/v2/models/endless/infer", "POST", body, {"Content-Type": "application/json"})
        assert answer.status == STILL_TRIED, answer.body
        wait_until(lambda: "killed by SIGALRM" in started.daemon.log)
        wait_until(lambda: started.request("/v2/models/endless/ready").status == 200)
        no_sample_is_lost(started)


def test_a_gateway_that_is_killed_costs_clients_a_moment_and_the_pipeline_nothing(tmp_path: Path) -> None:
    with guest_daemon(tmp_path) as started:
        with load(started, "dense") as clients:
            os.kill(started.gateway_pid, signal.SIGKILL)
            wait_until(clients.more(), 60)
        no_sample_is_lost(started)


def test_a_worker_that_is_killed_is_started_again_and_so_are_its_clients_served(tmp_path: Path) -> None:
    with guest_daemon(tmp_path) as started:
        with load(started, "dense") as clients, load(started, "spare") as others:
            os.kill(started.daemon.pid_of("limpet:imu"), signal.SIGKILL)
            wait_until(others.more())
            wait_until(clients.more(), 60)
        assert "killed by SIGKILL" in started.daemon.log
        before = len(samples(started))
        wait_until(lambda: len(samples(started)) > before + RATE)
