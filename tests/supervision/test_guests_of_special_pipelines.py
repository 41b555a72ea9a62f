"""Clients on pipelines whose models keep state, run on an accelerator, learn, or are replaced meanwhile."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.commands import _channels, _starter
from limpet.config import build
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import desired
from limpet.fork.launch import ForkServerProcess
from limpet.runtimes import mahalanobis
from limpet.wire.guest_records import Refused
from limpet.wire.records import RawResults
from support import bundles, delegate, models
from support.crew import Crew
from support.guest_client import GuestClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.config import Config

ROW = np.array([[1.0, 2.0, 3.0]], np.float32)


def configured(folder: Path, fast: str = "dense") -> Config:
    """``a`` keeps state, ``b`` runs on an accelerator, and ``c`` learns."""
    regress = {"kind": "regress"}
    source = {"kind": "replay", "path": str(folder / "recording.csv"), "rate": 100, "loop": True}
    on_spare = {"delegates": ["spare", "cpu"], "least_speed": 0.0}
    return build(
        {
            "device": {"id": "d", "state": str(folder / "state")},
            "sources": {"one": source},
            "pipelines": {
                "a": {"source": "one", "model": "sum.tflite", "stateful": True, "decoder": regress},
                "b": {"source": "one", "model": fast, "decoder": regress, **on_spare},
                "c": {"source": "one", "model": "machine"},
            },
            "delegates": {"spare": {"kind": "external", "library": str(delegate.build(folder))}},
            "jsonl": {},
        },
        folder,
    )


class Place:
    """The fleet, and clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.crew = Crew(ForkServerProcess())
        self._clients: list[GuestClient] = []
        self.crew.run(configured(folder))

    def change(self, wanted: Config) -> None:
        checking = self.crew.prepare(wanted)
        self.crew.fleet.assign(assignments(desired(wanted, checking.found)))

    def connect(self, pipeline: str) -> GuestClient:
        ours, theirs = socket.socketpair()
        self._clients.append(GuestClient(ours))
        with theirs:
            self.crew.fleet.connect_model(pipeline, theirs)
        return self._clients[-1]

    def delegate_of(self, pipeline: str) -> str:
        """Return the delegate of the last result."""
        found = [one for said in self.crew.said if isinstance(said, RawResults) for one in said.items]
        return next((one.delegate for one in reversed(found) if one.pipeline == pipeline), "")

    def turn_until(self, condition: Callable[[], object]) -> None:
        self.crew.turn_until(condition)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.crew.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("special")
    models.accumulator(folder / "sum.tflite", 3)
    (folder / "recording.csv").write_text("a,b,c\n" + "1,2,3\n" * 50)
    store = folder / "state" / "models"
    store.mkdir(parents=True)
    for name, outputs in (("dense", 3), ("other", 2)):
        content = models.dense(folder / "made.tflite", inputs=3, outputs=outputs).read_bytes()
        members = {"model.tflite": content}
        bundles.bundle(store / f"{name}-1.limpet", members, name=name, version=1, model="model.tflite")
    channels = ["a", "b", "c"]
    options = mahalanobis.Options(shape=[1, 3], windows=100_000)
    content = _starter.packed("machine", channels, _channels.window(None, 3), options)
    (store / "machine-0.limpet").write_bytes(content)
    made = Place(folder)
    yield made
    made.close()


def test_clients_do_not_see_the_state_of_the_pipeline_nor_of_each_other(place: Place) -> None:
    one, other = place.connect("a"), place.connect("a")
    one.begin()
    other.begin()
    for client in (one, other, one):
        assert client.infer(ROW)[0].tolist() == ROW.tolist()


def test_a_client_uses_the_accelerator_of_a_pipeline_on_stored_and_real_values(place: Place) -> None:
    place.turn_until(lambda: place.delegate_of("b") == "spare")
    client = place.connect("b")
    assert client.begin().delegate == "spare"
    stored = np.int8([[-128, 3, 127]])
    assert client.infer(stored)[0].tolist() == stored.tolist()
    assert client.infer(ROW, real=True)[0].tolist() == ROW.tolist()
    assert client.infer(ROW)[0].dtype == np.int8
    assert "has shape" in client.problem(np.zeros((1, 4), np.int8))
    place.turn_until(lambda: place.delegate_of("b") == "spare")


def test_a_model_that_learns_from_what_it_runs_is_refused(place: Place) -> None:
    answer = place.connect("c").receive()
    assert isinstance(answer, Refused)
    assert "learns on this device" in answer.problem


def test_a_model_that_is_replaced_ends_its_sockets(place: Place) -> None:
    client = place.connect("b")
    assert client.begin().model == "dense"
    place.change(configured(place.folder, "other"))
    place.turn_until(client_ended(client))
    again = place.connect("b")
    assert again.begin().model == "other"
    assert again.infer(ROW)[0].shape == (1, 2)
    place.turn_until(lambda: place.crew.crashes("b") == ["other 1 on spare took over"])


def client_ended(client: GuestClient) -> Callable[[], bool]:
    """Return what says whether the socket has ended, without waiting."""

    def ended() -> bool:
        client.channel.socket.setblocking(False)
        try:
            return not client.channel.socket.recv(1)
        except BlockingIOError:
            return False

    return ended
