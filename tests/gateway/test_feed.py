"""The gateway's stream: one subscription for all clients, each with its own bounds."""

from __future__ import annotations

import asyncio
import json
import resource
import selectors
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from limpet.contracts.messages import Origin, Reply
from limpet.delivery.bus import Bus
from limpet.delivery.monitor import Monitor
from limpet.delivery.monitor_socket import BYTES_AT_ONCE, MonitorSocket
from limpet.errors import UnreadableError
from limpet.gateway import feed as gateway_feed
from limpet.gateway.feed import Feed, parse
from limpet.gateway.link import FRESH, NotFoundError, SupervisorLink
from limpet.supervision.gateway_answers import GatewayAnswers, Known, Services
from limpet.supervision.ledger import Account
from limpet.supervision.pictures import Pictures
from limpet.supervision.recent_results import RecentResults
from limpet.supervision.tracing import Tracing
from limpet.wire.channel import Channel
from limpet.wire.gateway_records import (
    FromGateway,
    GetPicture,
    GetRecent,
    Obey,
    Picture,
    Recent,
    Replied,
    ToGateway,
    Watch,
    Watching,
)
from limpet.wire.records import RawAnswered, Transition
from support import reports
from support.broker import wait_until
from support.watched import event, reported, result

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from limpet.contracts.messages import DeviceHealth
    from limpet.contracts.reporter import Command
    from limpet.gateway.feed import Item, Subscription
    from limpet.supervision.guests import Guests
    from limpet.wire.gateway_records import Answer
    from limpet.wire.records import Ask

ORIGIN = Origin("press-07", "4-abc", "1.0")
JPEG = b"\xff\xd8\xff picture \xff\xd9"


class Desk:
    """The supervisor's side: a bus, and what answers the gateway, on a thread as the supervisor's."""

    def __init__(self, path: Path) -> None:
        self.bus = Bus()
        self.monitor = Monitor(self.bus)
        self.selector = selectors.PollSelector()
        self.recent = RecentResults()
        self.pictures = Pictures(self._ask)
        self.watches = self.measured = 0
        self._asked: list[int] = []
        self.obeyed: list[tuple[str, str, bytes, str]] = []
        self._socket = MonitorSocket(path / "monitor.sock", self.monitor, ORIGIN, self.selector)
        account = Account("one", "", Transition("one", "running"))
        known = Known(
            device=self._device,
            pipelines=list,
            models=list,
            accounts=lambda: [account],
            guests=cast("Guests", None),
            cpu=lambda: None,
            tracing=Tracing(),
        )
        self.answers = GatewayAnswers(known, Services(self._watch, self._obey, self.recent, self.pictures))
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self._channel: Channel[FromGateway] = Channel(ours, FromGateway)
        self.selector.register(self._channel, selectors.EVENT_READ, self._read)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._turn)

    def _device(self) -> DeviceHealth:
        self.measured += 1
        return reports.device_health()

    def _watch(self, connection: socket.socket) -> str:
        self.watches += 1
        return self._socket.serve(connection)

    def _obey(self, reporter: str, command: Command) -> None:
        self.obeyed.append((reporter, command.name, command.payload, command.answers))
        command.reply(Reply(device="press-07", command=command.name, ok=True))

    def _ask(self, pipeline: str, ask: Ask) -> None:
        if pipeline != "one":
            raise KeyError(pipeline)
        self._asked.append(ask.number)

    def _read(self) -> None:
        for record in self._channel.receive():
            self.answers.answer(record, self._reply)  # type: ignore[arg-type]

    def _reply(self, answer: Answer, fds: tuple[int, ...] = ()) -> None:
        self._channel.send(answer, fds)

    def _turn(self) -> None:
        while not self._ended.is_set():
            for key, _ in self.selector.select(0.02):
                key.data()
            self._socket.tend()
            while self._asked:
                picture = msgspec.Raw(msgspec.json.encode(JPEG))
                self.pictures.answered(RawAnswered(self._asked.pop(), result=picture))

    @contextmanager
    def working(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._thread.join()
            self._socket.close()
            self._channel.close()
            self.theirs.close()
            self.selector.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    one = Desk(tmp_path)
    with one.working():
        yield one


def run(desk: Desk, work: Callable[[SupervisorLink, Feed], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        link = SupervisorLink(Channel(desk.theirs, ToGateway, fds=16), lambda: pytest.fail("the desk is gone"))
        await asyncio.wait_for(work(link, Feed(link)), 20)

    asyncio.run(main())


async def until(subscription: Subscription, found: Callable[[Item], bool]) -> list[Item]:
    """Return all messages up to those that came with the first that is looked for."""
    items: list[Item] = []
    while not any(map(found, items)):
        items += await subscription.read()
    return items


def test_all_clients_share_one_subscription_and_each_begins_with_the_state(desk: Desk) -> None:
    desk.bus.append(reported(3))
    desk.monitor.append(event("before"))

    async def work(_link: SupervisorLink, feed: Feed) -> None:
        with feed.subscribe() as first:
            items = await until(first, lambda item: item.kind == "event")
            assert items[0].topic == "status"
            assert {item.topic for item in items} == {"status", "model/one/reported", "event/one"}
            desk.bus.append(result(1))
            with feed.subscribe() as second:
                late = await until(second, lambda item: item.kind == "event")
                assert late[0].topic == "status"
                assert {item.topic for item in late} >= {"status", "model/one/reported", "event/one"}
                desk.bus.append(result(2))
                for each in (first, second):
                    found = await until(each, lambda item: b'"sequence":2' in item.line)
                    assert json.loads(found[-1].line)["message"]["sequence"] == 2
        assert desk.watches == 1

    run(desk, work)


def test_a_client_gets_only_what_it_wants(desk: Desk) -> None:
    async def work(_link: SupervisorLink, feed: Feed) -> None:
        with feed.subscribe(lambda item: item.kind == "result" and item.pipelines == ("two",)) as subscription:
            with feed.subscribe() as other:
                await until(other, lambda item: item.kind == "status")
            desk.bus.extend([result(1), result(1, pipeline="two"), result(2), result(2, pipeline="two")])
            items = await until(subscription, lambda item: b'"sequence":2' in item.line)
            assert [item.topic for item in items] == ["result/two", "result/two"]

    run(desk, work)


def test_a_client_that_reads_late_misses_messages_and_gets_the_state_again(desk: Desk) -> None:
    desk.bus.append(reported(3))
    number = 70
    assert gateway_feed.MOST_BYTES < number * 10_000 < BYTES_AT_ONCE  # too much for one client, not for the daemon

    async def work(_link: SupervisorLink, feed: Feed) -> None:
        with feed.subscribe() as slow, feed.subscribe() as quick:
            await until(quick, lambda item: item.kind == "model")
            got = 0
            for start in range(0, number, 10):
                desk.bus.extend([result(start + each, 10_000) for each in range(10)])
                last = f'"sequence":{start + 9},'.encode()
                items = await until(quick, lambda item, last=last: last in item.line)  # type: ignore[misc]
                got += sum(item.kind == "result" for item in items)
            assert got == number
            late = await slow.read()
            kinds = [item.kind for item in late]
            results = kinds.count("result")
            missed = next(item for item in late if item.missed)
            assert missed.missed + results == number
            assert sum(len(item.line) for item in late) < gateway_feed.MOST_BYTES + 50_000
            assert kinds[kinds.index("missed") :] == ["missed", "status", "model"]

    run(desk, work)


def test_the_subscription_ends_without_clients_and_begins_again(desk: Desk) -> None:
    async def work(link: SupervisorLink, _feed: Feed) -> None:
        feed = Feed(link, linger=0.05)
        with feed.subscribe() as subscription:
            await until(subscription, lambda item: item.kind == "status")
            assert desk.monitor.watched
        await asyncio.to_thread(wait_until, lambda: not desk.monitor.watched)
        with feed.subscribe() as subscription:
            await until(subscription, lambda item: item.kind == "status")
        assert desk.watches == 2

    run(desk, work)


def test_commands_recent_results_and_pictures_come_through_the_link(desk: Desk) -> None:
    desk.recent.use(["one"], wanted=True)
    desk.recent.take([result(number) for number in range(1, 4)])

    async def work(link: SupervisorLink, _feed: Feed) -> None:
        obeyed = await link.ask(lambda n: Obey(n, "ping", b"{}", "uid 1000"), Replied)
        assert json.loads(obeyed.reply) == {"device": "press-07", "command": "ping", "ok": True}
        assert desk.obeyed == [("api", "ping", b"{}", "uid 1000")]
        recent = await link.ask(lambda n: GetRecent(n, "one", 2), Recent)
        assert [json.loads(one)["sequence"] for one in recent.results] == [2, 3]
        picture = await link.ask(lambda n: GetPicture(n, "one"), Picture)
        assert (picture.jpeg, picture.problem) == (JPEG, "")
        with pytest.raises(NotFoundError, match="no pipeline 'other'"):
            await link.ask(lambda n: GetRecent(n, "other", 2), Recent)

    run(desk, work)


def test_a_daemon_without_descriptors_says_so(desk: Desk) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    replies: list[Answer] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        desk.answers.answer(Watch(1), lambda answer, _fds=(): replies.append(answer))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert replies == [Watching(1, "the daemon could not open a stream: Too many open files")]


def test_clients_that_want_figures_at_once_share_them(desk: Desk) -> None:
    async def work(link: SupervisorLink, _feed: Feed) -> None:
        found = await asyncio.gather(*(link.figures() for _ in range(50)))
        assert {id(figures) for figures in found} == {id(found[0])}
        assert desk.measured == 1
        before = found[0]
        await asyncio.sleep(2 * FRESH)
        assert (await link.figures()) is not before
        assert desk.measured == 2

    run(desk, work)


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b'{"topic": 3}', b'{"topic": "input/a", "message": 3}', b"\xff"]
)
def test_a_line_that_is_none_is_unreadable(line: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse(line)
