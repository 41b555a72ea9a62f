"""The gateway's end of the channel to a model's process, which may do anything."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from limpet.errors import UnreadableError
from limpet.gateway.channels.answers import check
from limpet.gateway.channels.attaching import attached
from limpet.gateway.channels.model_channel import PATIENCE, ModelChannel
from limpet.gateway.channels.spans import Span
from limpet.gateway.errors import RequestError
from limpet.wire.guest_records import MOST_TENSORS, MOST_WAITING, Inferred, Placed, Serving, TensorFacts
from support.model_process import model_process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MEMORY = 1 << 12
CONTENT = b"\x01\x02\x03\x04"


def with_channel(behaviour: str, use: Callable[[ModelChannel], Awaitable[None]]) -> list[ModelChannel]:
    """Use a channel to a process. Return those that ended meanwhile."""
    ended: list[ModelChannel] = []

    async def run() -> None:
        with model_process(behaviour) as end:
            channel = await attached(end.dup(), lambda _: MEMORY, ended.append)
            before = list(ended)
            await use(channel)
            ended[:] = [*before, *ended]
            channel.close("the test is over")

    asyncio.run(run())
    return ended


async def infer(channel: ModelChannel, content: bytes = CONTENT, patience: float = 20.0) -> bytes:
    span = await channel.take(256)
    try:
        channel.memory[span.offset : span.offset + len(content)] = content
        placed = Placed("|i1", [1, len(content)], span.offset)
        inferred = await channel.run(span, [placed], Span(span.offset + 64, 64), real=False, patience=patience)
        return output(channel, inferred)
    finally:
        channel.give_back(span)


def output(channel: ModelChannel, inferred: Inferred) -> bytes:
    (placed,) = inferred.outputs
    return bytes(channel.memory[placed.offset : placed.offset + placed.shape[1]])


def test_outputs_come_back_through_the_memory() -> None:
    async def use(channel: ModelChannel) -> None:
        assert await infer(channel) == CONTENT
        assert channel.serving.model == "model"
        assert channel.idle

    with_channel("well", use)


def test_answers_in_another_order_reach_those_who_wait_for_them() -> None:
    async def use(channel: ModelChannel) -> None:
        contents = [bytes([n] * 4) for n in range(3)]
        assert await asyncio.gather(*(infer(channel, content) for content in contents)) == contents

    with_channel("last first", use)


@pytest.mark.parametrize(
    "behaviour",
    ["another's memory", "before its memory", "too large", "another dtype", "no output", "another number", "dies"],
)
def test_a_process_that_answers_nonsense_or_dies_loses_its_channel_alone(behaviour: str) -> None:
    async def use(channel: ModelChannel) -> None:
        first = await channel.take(64)  # so that offset 0 is another's
        for _ in range(2):
            with pytest.raises(RequestError, match="cannot be used now") as refused:
                await infer(channel)
            assert refused.value.cause == "busy"
        channel.give_back(first)

    assert len(with_channel(behaviour, use)) == 1


@pytest.mark.parametrize(
    ("behaviour", "cause", "text"),
    [("busy", "busy", "others wait"), ("fails", "failed", "the runtime refused")],
)
def test_a_refusal_of_the_model_fails_its_request_alone(behaviour: str, cause: str, text: str) -> None:
    async def use(channel: ModelChannel) -> None:
        for _ in range(2):
            with pytest.raises(RequestError, match=text) as refused:
                await infer(channel)
            assert refused.value.cause == cause
        assert channel.idle

    with_channel(behaviour, use)


@pytest.mark.parametrize(
    ("behaviour", "text"), [("refuses", "it keeps state"), ("garbage at first", "the model's process ended")]
)
def test_a_process_that_does_not_serve_gives_no_channel(behaviour: str, text: str) -> None:
    async def use(_channel: ModelChannel) -> None:
        raise AssertionError("there should be no channel")

    with pytest.raises(RequestError, match=text):
        with_channel(behaviour, use)


def test_memory_of_a_request_that_is_given_up_is_not_used_before_the_process_has_answered() -> None:
    async def use(channel: ModelChannel) -> None:
        with pytest.raises(RequestError, match=r"did not answer within 0\.01 s"):
            await infer(channel, patience=0.01)
        assert not channel.idle
        assert not channel.is_stuck(monotonic())
        assert channel.is_stuck(monotonic() + PATIENCE)
        span = await channel.take(64)
        assert span.offset >= 256
        channel.give_back(span)

    with_channel("silent", use)


def test_requests_wait_for_memory_in_turn_and_too_many_are_refused() -> None:
    async def use(channel: ModelChannel) -> None:
        whole = await channel.take(MEMORY)
        waiting = [asyncio.create_task(infer(channel, bytes([n] * 4))) for n in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match=f"{MOST_WAITING} requests wait") as refused:
            await channel.take(64)
        assert refused.value.cause == "busy"
        waiting[3].cancel()
        channel.give_back(whole)
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(found.pop(3), asyncio.CancelledError)
        assert found == [bytes([n] * 4) for n in range(MOST_WAITING) if n != 3]
        assert channel.idle
        with pytest.raises(RequestError, match=f"this model has {MEMORY}"):
            await channel.take(MEMORY + 1)

    with_channel("well", use)


def test_outputs_that_lie_in_each_other_are_refused() -> None:
    facts = [TensorFacts(f"output{n}", "|i1", [16]) for n in range(MOST_TENSORS)]
    serving = Serving("model", 1, "0" * 64, "runtime", "cpu", [], facts)
    within = Span(64, 16 * MOST_TENSORS)
    apart = [Placed("|i1", [16], 64 + 16 * n) for n in range(MOST_TENSORS)]
    check(Inferred(1, apart), serving, within)
    with pytest.raises(UnreadableError, match="into each other"):
        check(Inferred(1, [Placed("|i1", [within.size], 64)] * MOST_TENSORS), serving, within)
