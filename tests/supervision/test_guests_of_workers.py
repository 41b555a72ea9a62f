"""Clients use the models of pipelines that run, in real workers, and do no harm to the pipelines."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.fork.launch import ForkServerProcess
from limpet.wire.guest_records import MOST_WAITING, Infer, Placed
from limpet.wire.records import RawResults
from support.crew import Crew, configured
from support.guest_client import HALF, GuestClient
from support.models import SCALE, ZERO_POINT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    folder: Path = tmp_path_factory.mktemp("crew")
    with_workers = Crew(ForkServerProcess())
    with_workers.run(configured(folder))
    yield with_workers
    with_workers.close()


@pytest.fixture
def connect(crew: Crew) -> Iterator[Callable[[], GuestClient]]:
    clients: list[GuestClient] = []

    def connected(pipeline: str = "a") -> GuestClient:
        ours, theirs = socket.socketpair()
        clients.append(GuestClient(ours))
        with theirs:
            crew.fleet.connect_model(pipeline, theirs)
        return clients[-1]

    yield connected
    for client in clients:
        client.close()


def in_background(crew: Crew, work: Callable[[], None]) -> None:
    """Do something while the fleet is looked after."""
    failures: list[BaseException] = []

    def worked() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=worked)
    thread.start()
    crew.turn_until(lambda: not thread.is_alive())
    if failures:
        raise failures[0]


def send_for_ever(client: GuestClient, data: bytes) -> None:
    while True:
        client.channel.socket.sendall(data)


def results(crew: Crew, pipeline: str) -> int:
    return sum(
        result.pipeline == pipeline for one in crew.said if isinstance(one, RawResults) for result in one.items
    )


def goes_on(crew: Crew, pipeline: str = "a") -> None:
    """Wait until a pipeline has three more results."""
    before = results(crew, pipeline)
    crew.turn_until(lambda: results(crew, pipeline) >= before + 3)
    assert crew.crashes(pipeline) == []


def test_a_client_runs_the_model_of_a_pipeline_on_stored_or_real_values(
    crew: Crew, connect: Callable[[], GuestClient]
) -> None:
    client = connect()

    def work() -> None:
        serving = client.begin()
        assert (serving.model, serving.version, serving.delegate, serving.batch) == ("dense", 0, "cpu", 1)
        (tensor,) = serving.inputs
        assert (tensor.dtype, tensor.shape, tensor.scale, tensor.zero_point) == ("|i1", [1, 3], SCALE, ZERO_POINT)
        stored = np.array([[-128, 3, 127]], np.int8)
        real = (stored.astype(np.float32) - ZERO_POINT) * np.float32(SCALE)
        assert client.infer(stored)[0].tolist() == stored.tolist()
        assert client.infer(stored, real=True)[0].tolist() == real.tolist()
        assert client.infer(real)[0].tolist() == stored.tolist()
        assert client.infer(real, real=True)[0].tolist() == real.tolist()

    in_background(crew, work)
    goes_on(crew)


def test_what_is_wrong_with_a_request_fails_it_alone(crew: Crew, connect: Callable[[], GuestClient]) -> None:
    client = connect()

    def work() -> None:
        client.begin()
        right = np.zeros((1, 3), np.int8)
        assert "has 1 inputs, but 2 came" in client.problem(right, right)
        assert "takes |i1 or <f4, but <i4 came" in client.problem(right.astype("<i4"))
        assert "has shape [1, 3], but [1, 4] came" in client.problem(np.zeros((1, 4), np.int8))
        assert "has shape [1, 3], but [3] came" in client.problem(np.zeros(3, np.int8))
        assert "need more than the 2 bytes" in client.problem(right, size=2)
        for offset in (2 * HALF, 2 * HALF - 2):
            client.channel.send(Infer(7, [Placed("|i1", [1, 3], offset)], HALF, HALF))
            assert "is not in the memory" in client.answer().problem
        client.channel.send(Infer(8, [Placed("|i1", [1, 3], 0)], 2 * HALF, HALF))
        assert "need more than" in client.answer().problem
        assert client.infer(right)[0].tolist() == [[0, 0, 0]]

    in_background(crew, work)


@pytest.mark.parametrize("fault", ["early", "unsealed", "small", "huge", "nonsense", "number"])
def test_a_gateway_that_breaks_the_rules_loses_its_socket_alone(
    crew: Crew, connect: Callable[[], GuestClient], fault: str
) -> None:
    client, other = connect(), connect()

    def work() -> None:
        client.receive()
        if fault == "early":
            client.channel.send(Infer(1, [], 0, 0))
        elif fault == "unsealed":
            client.attach(sealed=False)
        elif fault == "small":
            client.attach(4096, said=8192)
        elif fault == "huge":
            client.channel.socket.sendall((1 << 31).to_bytes(4, "little"))
        elif fault == "nonsense":
            client.channel.socket.sendall(b"\x03\0\0\0\xc1\xc1\xc1")
        else:
            client.attach()
            client.channel.send(
                {"type": "Infer", "number": 1, "inputs": [["|i1", [1, -3], 0]], "offset": 0, "size": 0}
            )
        assert client.ended()
        other.begin()
        assert other.infer(np.ones((1, 3), np.int8))[0].tolist() == [[1, 1, 1]]

    in_background(crew, work)
    goes_on(crew)


def test_a_gateway_that_floods_and_reads_nothing_loses_its_socket_and_the_pipeline_goes_on(
    crew: Crew, connect: Callable[[], GuestClient]
) -> None:
    client = connect()

    def work() -> None:
        client.begin()
        data = client.channel.encode(Infer(1, [Placed("|i1", [1, 3], 0)], HALF, HALF)) * 1000
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(client, data)

    in_background(crew, work)
    goes_on(crew)


def test_requests_above_the_limit_are_answered_as_busy(crew: Crew, connect: Callable[[], GuestClient]) -> None:
    client = connect()

    def work() -> None:
        client.begin()
        record = client.channel.encode(Infer(1, [Placed("|i1", [1, 3], 0)], HALF, HALF))
        client.channel.socket.sendall(record * (MOST_WAITING + 5))
        answers = [client.answer() for _ in range(MOST_WAITING + 5)]
        assert sum(not one.problem for one in answers) >= MOST_WAITING
        assert all("requests wait" in one.problem for one in answers if one.busy)

    in_background(crew, work)


def test_a_pipeline_that_does_not_run_is_refused(connect: Callable[[str], GuestClient]) -> None:
    with pytest.raises(KeyError):
        connect("none")


def test_a_worker_that_is_killed_ends_the_sockets_of_clients(
    crew: Crew, connect: Callable[[str], GuestClient]
) -> None:
    client = connect("b")

    def work() -> None:
        client.begin()
        os.kill(crew.fleet.pids()["worker two"], signal.SIGKILL)
        assert client.ended()

    in_background(crew, work)
    before = results(crew, "b")
    crew.turn_until(lambda: results(crew, "b") >= before + 5)

    fresh = connect("b")

    def again() -> None:
        fresh.begin()
        assert fresh.infer(np.ones((1, 3), np.int8))[0].tolist() == [[1, 1, 1]]

    in_background(crew, again)
