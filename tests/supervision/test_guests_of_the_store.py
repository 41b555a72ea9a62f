"""Models of the store that no pipeline runs: loaded into processes of their own, for clients of the gateway."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from limpet.fork.launch import ForkServerProcess
from limpet.supervision.guests import Guests
from limpet.tables import ApiTable
from limpet.wire.gateway_records import Done, Load, NotFound, Opened, OpenModel, Unload
from limpet.wire.records import RawResults
from support import bundles, models
from support.broker import wait_until
from support.crew import Crew, configured
from support.guest_client import GuestClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.config import Config
    from limpet.wire.guest_records import Serving

ROW = np.array([[1.0, 2.0, 3.0]], np.float32)


def put(store: Path, name: str, version: int, make: Callable[..., Path], **options: Any) -> Path:
    """Put a bundle with a model into the store."""
    store.mkdir(parents=True, exist_ok=True)
    content = make(store.parent / "made.tflite", **options).read_bytes()
    path = store / f"{name}-{version}.limpet"
    return bundles.bundle(path, {"model.tflite": content}, name=name, version=version, model="model.tflite")


class Place:
    """A fleet, and what answers the gateway about models."""

    def __init__(self, folder: Path, api: ApiTable, **more: Any) -> None:
        self.config: Config = msgspec.structs.replace(configured(folder), api=api, **more)
        self.crew = Crew(ForkServerProcess())
        self.guests = Guests(self.crew.fleet, list)
        self.answers: list[Any] = []
        self._clients: list[GuestClient] = []
        self.crew.run(self.config)
        self.guests.use(self.config)

    def reply(self, answer: Any, fds: tuple[int, ...] = ()) -> None:
        if fds:
            self._clients.append(GuestClient(socket.socket(fileno=os.dup(fds[0]))))
        self.answers.append(answer)

    def ask(self, how: Callable[..., None], request: Any) -> str:
        """Return the problem of the answer."""
        before = len(self.answers)
        how(request, self.reply)
        self.turn_until(lambda: len(self.answers) > before)
        assert isinstance(self.answers[-1], Done | NotFound | Opened)
        return self.answers[-1].problem

    def load(self, name: str, version: int | None = None) -> str:
        return self.ask(self.guests.load, Load(1, name, version))

    def unload(self, name: str, version: int | None = None) -> str:
        return self.ask(self.guests.unload, Unload(1, name, version))

    def open(self, name: str, version: int | None = None) -> tuple[GuestClient, Serving]:
        assert self.ask(self.guests.open, OpenModel(1, name, version)) == ""
        client = self._clients[-1]
        return client, client.begin()

    def models(self) -> dict[tuple[str, int], str]:
        """Return the models and why they are not ready."""
        found = self.guests.models(1).models
        assert all(one.ready == (not one.reason) for one in found)
        return {(one.name, one.version): one.reason for one in found}

    def turn_until(self, condition: Callable[[], object]) -> None:
        def turned() -> object:
            self.guests.tend(time.monotonic())
            return condition()

        self.crew.turn_until(turned)

    def pid(self, name: str) -> int | None:
        return self.crew.fleet.pids().get(f"guest {name}~guest")

    def goes_on(self) -> None:
        """Wait until the pipelines have more results."""
        count = self._results()
        self.turn_until(lambda: self._results() >= count + 3)
        assert self.crew.crashes("a") == self.crew.crashes("b") == []

    def _results(self) -> int:
        return sum(len(one.items) for one in self.crew.said if isinstance(one, RawResults))

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.crew.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("place")
    store = folder / "state" / "models"
    put(store, "dense", 1, models.dense, inputs=3, outputs=3)
    put(store, "dense", 2, models.dense, inputs=3, outputs=2, batch=-1)
    put(store, "sum", 1, models.accumulator, size=3)
    put(store, "product", 1, models.times)
    put(store, "crash", 1, models.crashing)
    put(store, "named", 1, models.dense, inputs=3, outputs=3, int8=False)
    (store / "broken-1.limpet").write_bytes(b"no zip")
    running = Place(folder, ApiTable(models=["named", "missing"], load=True, most_models=3))
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _unloaded(place: Place) -> Iterator[None]:
    yield
    for name, version in place.models():
        if name != "named":
            place.guests.unload(Unload(1, name, version), lambda *_: None)


def test_a_model_that_the_configuration_names_is_loaded_and_answers(place: Place) -> None:
    client, serving = place.open("named")
    assert (serving.model, serving.version, serving.delegate) == ("named", 1, "cpu")
    assert client.infer(ROW)[0].tolist() == ROW.tolist()
    assert place.models()["named", 1] == ""
    assert "no model 'missing'" in place.models()["missing", 0]
    assert place.models()["dense", 2] == "it is not loaded"


def test_clients_load_and_unload_a_model(place: Place) -> None:
    assert "is not loaded" in place.ask(place.guests.open, OpenModel(1, "dense"))
    assert place.load("dense") == ""
    client, serving = place.open("dense")
    assert (serving.version, serving.batch, serving.inputs[0].shape) == (2, 64, [-1, 3])
    rows = np.arange(12, dtype=np.int8).reshape(4, 3)
    assert client.infer(rows)[0].tolist() == rows[:, :2].tolist()
    assert place.load("dense", 1) == ""
    assert [place.open("dense", version)[1].version for version in (1, 2, None)] == [1, 2, 2]
    assert place.load("dense", 2) == ""
    assert "3 models are loaded already" in place.load("sum")
    pid = place.pid("dense-2")
    assert place.unload("dense", 2) == ""
    assert client.ended()
    assert pid is not None
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert "is not loaded" in place.unload("dense", 2)


def test_a_name_that_a_client_makes_up_is_answered_and_not_listed(place: Place) -> None:
    assert "no model 'made-up'" in place.load("made-up")
    assert "no model 'made-up'" in place.load("made-up", 7)
    assert "made-up" not in {name for name, _ in place.models()}


def test_a_model_that_is_not_loaded_is_not_found_so_that_clients_do_not_try_again(place: Place) -> None:
    answers: list[object] = []
    place.guests.open(OpenModel(1, "dense", 1), lambda answer, _fds=(): answers.append(answer))
    assert answers == [NotFound(1, "no pipeline runs dense version 1, and it is not loaded. Load it first")]


def test_a_model_with_several_inputs_gets_them_all(place: Place) -> None:
    assert place.load("product") == ""
    client, serving = place.open("product")
    ones = [np.full([max(n, 1) for n in one.shape], 3, one.dtype) for one in serving.inputs]
    (output,) = client.infer(*ones)
    assert output.ravel().tolist() == [9.0] * output.size


def test_state_does_not_pass_from_one_request_to_the_next(place: Place) -> None:
    assert place.load("sum") == ""
    client, _ = place.open("sum")
    other, _ = place.open("sum")
    assert client.infer(ROW)[0].tolist() == other.infer(ROW)[0].tolist() == client.infer(ROW)[0].tolist()


def test_a_model_that_crashes_its_process_harms_nothing_else(place: Place) -> None:
    named, _ = place.open("named")
    assert "its process ended: killed by SIGSEGV" in place.load("crash")
    assert "its process ended" in place.models()["crash", 1]
    assert named.infer(ROW)[0].tolist() == ROW.tolist()
    place.goes_on()


def test_a_guest_has_a_sandbox_and_yields_to_the_pipelines(place: Place) -> None:
    place.open("named")
    pid = place.pid("named-1")
    assert pid is not None
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Seccomp:\t2" in status
    assert "NoNewPrivs:\t1" in status
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 5


def test_a_guest_that_is_killed_is_started_again(place: Place) -> None:
    client, _ = place.open("named")
    pid = place.pid("named-1")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert client.ended()
    place.turn_until(lambda: place.pid("named-1") not in {None, pid} and place.models()["named", 1] == "")
    again, _ = place.open("named")
    assert again.infer(ROW)[0].tolist() == ROW.tolist()
    place.goes_on()


def test_a_reload_keeps_a_guest_and_brings_a_newer_version_to_work(place: Place) -> None:
    store = place.config.folders.store
    put(store, "grown", 1, models.dense, inputs=3, outputs=3)
    assert place.load("grown") == ""
    old, _ = place.open("grown")
    place.guests.use(place.config)
    place.turn_until(lambda: place.models()["named", 1] == place.models()["grown", 1] == "")
    assert old.infer(ROW)[0].dtype == np.int8
    put(store, "grown", 2, models.dense, inputs=3, outputs=2)
    place.guests.use(place.config)
    place.turn_until(lambda: place.models().get(("grown", 2)) == "")
    assert old.ended()
    new, serving = place.open("grown")
    assert (serving.version, new.infer(ROW)[0].shape) == (2, (1, 2))
    assert place.unload("grown") == ""


def test_what_is_no_model_is_not_loaded(place: Place) -> None:
    assert "no model 'other'" in place.load("other")
    assert "broken-1.limpet" in place.load("broken")
    assert "no version 7 of 'dense'" in place.load("dense", 7)


def test_names_that_clients_invent_are_not_remembered(place: Place) -> None:
    before = place.models().keys()
    for n in range(4):
        assert "no model" in place.load(f"invented-{n}")
    assert "not a path" in place.load("invented.tflite")
    assert place.models().keys() == before


def test_models_are_not_loaded_for_clients_unless_the_configuration_says_so(place: Place) -> None:
    only = ApiTable(models=["named"])
    place.guests.use(msgspec.structs.replace(place.config, api=only))
    try:
        assert "no `load = true`" in place.load("dense")
        assert "no `load = true`" in place.unload("named")
        place.turn_until(lambda: place.models() == {("named", 1): ""})
    finally:
        place.guests.use(place.config)
