"""Models by name: which there are, and the channels to their processes, which come and go."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from limpet.gateway.channels.models import Models
from limpet.gateway.errors import RequestError
from limpet.gateway.link import SupervisorLink
from limpet.gateway.open_inference.messages import InferRequest, Input
from limpet.gateway.open_inference.service import OpenInference
from limpet.wire.channel import Channel
from limpet.wire.gateway_records import FromGateway, GetModels, Opened, OpenModel, ServedModel, ToGateway
from limpet.wire.gateway_records import Models as Listed
from support.model_process import model_process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

REQUEST = InferRequest("model", "", "7", [Input("input", "INT8", [1, 4], b"\x01\x02\x03\x04")], [])


class Supervisor:
    """The other end of the gateway's link. It hands out the ends of sockets to processes, one after the other."""

    def __init__(self, ends: Sequence[socket.socket]) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.asked: list[FromGateway] = []
        self._ends = list(ends)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self.ours.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.ours.close()

    def _serve(self) -> None:
        channel: Channel[FromGateway] = Channel(self._theirs, FromGateway)
        with suppress(EOFError):
            while True:
                for record in channel.receive():
                    self.asked.append(record)
                    self._answer(channel, record)
        channel.close()

    def _answer(self, channel: Channel[FromGateway], record: FromGateway) -> None:
        if isinstance(record, GetModels):
            channel.send(Listed(record.number, [ServedModel("model", 3, ready=True)]))
        elif isinstance(record, OpenModel):
            if self._ends:
                channel.send(Opened(record.number), (self._ends.pop(0).fileno(),))
            else:
                channel.send(Opened(record.number, "it is not loaded"))

    def count(self, kind: type) -> int:
        return sum(isinstance(record, kind) for record in self.asked)


def with_supervisor(
    behaviours: Sequence[str], use: Callable[[OpenInference, Supervisor], Awaitable[None]]
) -> None:
    async def run(supervisor: Supervisor) -> None:
        channel: Channel[ToGateway] = Channel(supervisor.ours, ToGateway, fds=4)
        link = SupervisorLink(channel, lambda: None)
        protocol = OpenInference(Models(link, 1 << 16))
        await use(protocol, supervisor)
        with suppress(RequestError):
            (await protocol.find_channel("model", "")).close("the test is over")

    with ExitStack() as stack:
        ends = [stack.enter_context(model_process(each)) for each in behaviours]
        supervisor = Supervisor(ends)
        stack.callback(supervisor.close)
        asyncio.run(run(supervisor))


def test_requests_at_the_same_time_open_one_channel() -> None:
    async def use(protocol: OpenInference, supervisor: Supervisor) -> None:
        answers = await asyncio.gather(*(protocol.infer(REQUEST) for _ in range(20)))
        assert {answer.outputs[0].content for answer in answers} == {b"\x01\x02\x03\x04"}
        assert {(answer.model, answer.version, answer.id) for answer in answers} == {("model", "3", "7")}
        assert supervisor.count(OpenModel) == 1
        assert protocol.statistics["model", "3"].success.count == 20

    with_supervisor(["well"], use)


def test_models_that_do_not_exist_cost_the_supervisor_next_to_nothing() -> None:
    async def use(protocol: OpenInference, supervisor: Supervisor) -> None:
        for number in range(50):
            with pytest.raises(RequestError, match="does not exist") as refused:
                await protocol.infer(REQUEST._replace(model=f"other-{number}"))
            assert refused.value.cause == "unknown"
        assert supervisor.count(OpenModel) == 0
        assert supervisor.count(GetModels) < 50
        assert protocol.statistics == {}

    with_supervisor([], use)


def test_a_model_that_is_not_loaded_costs_the_supervisor_few_requests() -> None:
    async def use(protocol: OpenInference, supervisor: Supervisor) -> None:
        for _ in range(200):
            with pytest.raises(RequestError, match="it is not loaded") as refused:
                await protocol.infer(REQUEST)
            assert refused.value.cause == "busy"
        assert 1 <= supervisor.count(OpenModel) < 100

    with_supervisor([], use)


def test_a_request_that_a_leaving_process_had_no_time_for_runs_in_its_successor() -> None:
    async def use(protocol: OpenInference, supervisor: Supervisor) -> None:
        answer = await protocol.infer(REQUEST)
        assert answer.outputs[0].content == b"\x01\x02\x03\x04"
        assert supervisor.count(OpenModel) == 2

    with_supervisor(["leaves", "well"], use)


def test_a_request_that_ended_its_process_is_not_tried_again() -> None:
    async def use(protocol: OpenInference, supervisor: Supervisor) -> None:
        with pytest.raises(RequestError, match="its process ended") as refused:
            await protocol.infer(REQUEST)
        assert refused.value.cause == "busy"
        assert supervisor.count(OpenModel) == 1
        assert (await protocol.infer(REQUEST)).version == "3"
        assert supervisor.count(OpenModel) == 2
        with pytest.raises(RequestError, match="it is not loaded"):
            await protocol.infer(REQUEST._replace(version="3"))

    with_supervisor(["dies", "well"], use)


def test_a_model_with_an_open_batch_takes_several_windows() -> None:
    async def use(protocol: OpenInference, supervisor: Supervisor) -> None:
        three = bytes(range(12))
        answer = await protocol.infer(REQUEST._replace(inputs=[Input("input", "INT8", [3, 4], three)]))
        assert (answer.outputs[0].shape, answer.outputs[0].content) == ([3, 4], three)
        for shape in ([0, 4], [9, 4]):
            wrong = Input("input", "INT8", shape, bytes(shape[0] * 4))
            with pytest.raises(RequestError, match="1 to 8"):
                await protocol.infer(REQUEST._replace(inputs=[wrong]))
        assert supervisor.count(OpenModel) == 1

    with_supervisor(["batch"], use)


def test_a_model_with_tensors_that_the_protocol_lacks_is_refused() -> None:
    async def use(protocol: OpenInference, _supervisor: Supervisor) -> None:
        with pytest.raises(RequestError, match=r"\|S9"):
            await protocol.infer(REQUEST)

    with_supervisor(["strange dtype"], use)
