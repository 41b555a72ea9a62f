"""What comes over MQTT about models: requests, roots and chunks, through a real broker and within bounds."""

from __future__ import annotations

import contextlib
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from limpet.contracts.chunks import LARGEST_CHUNK, MOST_CHUNKS
from limpet.contracts.deliveries import Delivery
from limpet.contracts.updates import LARGEST_DESIRED
from limpet.delivery.deliveries import DeliveryInbox
from limpet.delivery.mqtt.connection import Incoming
from limpet.delivery.mqtt.connection_machine import ConnectionMachine
from limpet.delivery.mqtt.connection_state import (
    Accepted,
    Due,
    Exchange,
    Lost,
    PauseOver,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from limpet.delivery.mqtt.incoming_models import (
    BYTES_AT_ONCE,
    CHUNKS_AT_ONCE,
    FLOOD,
    INTERVAL,
    IncomingModels,
)
from limpet.delivery.mqtt.subscriptions import Subscriptions
from limpet.reporters import mqtt
from support import reports
from support.broker import Mosquitto, listener, mosquitto, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = "limpet/press-07"
A, B = "a" * 64, "b" * 64


# --- by topic, size and rate, without a broker


class Bench:
    """Incoming messages on an inbox that wants the pipeline ``motion``, roots, and the file ``A``."""

    def __init__(self) -> None:
        self.ignored: list[str] = []
        self.inbox = DeliveryInbox(lambda: None)
        self.inbox.expect(["motion"], trust=True)
        self.inbox.want_chunks([A])
        self.models = IncomingModels(ROOT, "mqtt", self.inbox, lambda cause, _text: self.ignored.append(cause))

    def send(self, topic: str, payload: bytes, now: float = 0.0, *, retained: bool = False) -> bool:
        return self.models.take(Incoming(topic, payload, retained, "", b""), now)

    def drain(self) -> list[int]:
        taken = []
        while chunk := self.inbox.take_chunk():
            taken.append(chunk.index)
        return taken


def test_requests_and_roots_are_delivered_as_they_came() -> None:
    bench = Bench()
    assert bench.send(f"{ROOT}/model/motion/desired", b"\xff{", retained=True)
    assert bench.send(f"{ROOT}/trust/desired", b"[]")
    bench.models.deliver_due(0.0)
    assert bench.inbox.take_states() == [
        Delivery("desired", "motion", b"\xff{", retained=True, reporter="mqtt"),
        Delivery("root", "", b"[]", retained=False, reporter="mqtt"),
    ]


def test_a_request_for_a_pipeline_that_is_not_configured_is_counted() -> None:
    bench = Bench()
    assert bench.send(f"{ROOT}/model/other/desired", b"{}")
    assert bench.send(f"{ROOT}/model/motion/x/desired", b"{}")
    bench.models.deliver_due(0.0)
    assert bench.inbox.take_states() == []
    assert bench.ignored == ["unknown pipeline"] * 2


def test_a_request_that_is_too_large_is_counted() -> None:
    bench = Bench()
    bench.send(f"{ROOT}/model/motion/desired", bytes(LARGEST_DESIRED + 1))
    bench.send(f"{ROOT}/trust/desired", bytes(LARGEST_DESIRED + 1))
    bench.models.deliver_due(0.0)
    assert bench.inbox.take_states() == []
    assert bench.ignored == ["too large"] * 2


def test_an_empty_request_withdraws_the_one_before() -> None:
    bench = Bench()
    bench.send(f"{ROOT}/model/motion/desired", b"")
    bench.models.deliver_due(0.0)
    assert [one.payload for one in bench.inbox.take_states()] == [b""]


def test_of_a_flood_of_requests_one_a_second_is_delivered_and_the_last_is_among_them() -> None:
    bench, taken = Bench(), []
    for number in range(1001):
        now = number / 100
        bench.send(f"{ROOT}/model/motion/desired", b"%d" % number, now)
        bench.models.deliver_due(now)
        taken += bench.inbox.take_states()
    bench.models.deliver_due(10.0 + INTERVAL)
    taken += bench.inbox.take_states()
    assert 10 <= len(taken) <= 12
    assert taken[-1].payload == b"1000"


def test_a_retained_copy_does_not_hide_a_request_that_waits() -> None:
    bench = Bench()
    bench.send(f"{ROOT}/model/motion/desired", b"{}", retained=False)
    bench.send(f"{ROOT}/model/motion/desired", b"{}", retained=True)
    bench.models.deliver_due(0.0)
    assert [one.retained for one in bench.inbox.take_states()] == [False]


@pytest.mark.parametrize(
    "place", ["01", "-1", "+1", " 1", "x", "", str(MOST_CHUNKS), "1/2", "٣", "list/1", "1" * 30]
)
def test_a_chunk_with_an_impossible_index_is_counted(place: str) -> None:
    bench = Bench()
    assert bench.send(f"limpet-bundles/{A}/{place}", b"x")
    assert bench.drain() == []
    assert bench.ignored == ["chunk"]


def test_attack_chunk_from_a_stranger_that_is_too_large_or_of_another_file_goes_no_further() -> None:
    bench = Bench()
    bench.send(f"limpet-bundles/{A}/3", bytes(LARGEST_CHUNK + 1))
    bench.send(f"limpet-bundles/{B}/3", b"x")
    assert bench.drain() == []
    assert bench.ignored == ["chunk"]
    assert bench.models.strays == {f"limpet-bundles/{B}/+"}


def test_chunks_have_a_rate_in_number_and_bytes() -> None:
    bench, taken = Bench(), []
    for index in range(int(CHUNKS_AT_ONCE) + 10):
        bench.send(f"limpet-bundles/{A}/{index}", b"x")
        taken += bench.drain()
    assert taken == list(range(int(CHUNKS_AT_ONCE)))
    assert bench.ignored == ["chunks too fast"] * 10
    later, taken = 100.0, []
    for index in range(BYTES_AT_ONCE // LARGEST_CHUNK + 5):
        bench.send(f"limpet-bundles/{A}/{index}", bytes(LARGEST_CHUNK), later)
        taken += bench.drain()
    assert taken == list(range(BYTES_AT_ONCE // LARGEST_CHUNK))


def test_a_flood_of_chunks_has_its_subscription_rest() -> None:
    bench = Bench()
    for _ in range(int(CHUNKS_AT_ONCE) + FLOOD):
        bench.send(f"limpet-bundles/{A}/0", b"x")
    assert bench.models.floods == {f"limpet-bundles/{A}/+"}


def test_chunks_that_find_no_room_are_counted() -> None:
    bench = Bench()
    for index in range(70):
        bench.send(f"limpet-bundles/{A}/{index}", b"x")
    assert bench.ignored == ["chunks waiting"] * 6


def test_missing_chunks_are_asked_for_once_the_subscription_is_active_and_again_on_a_new_connection() -> None:
    bench = Bench()
    bench.inbox.ask(A, [(0, 3), (9, 9)], needs_list=True)
    assert bench.models.questions(lambda _topic: False, 0.0) == []
    (question,) = bench.models.questions(lambda topic: topic == f"limpet-bundles/{A}/+", 0.0)
    assert (question.topic, question.qos, question.retain) == (f"{ROOT}/bundle/{A}/missing", 1, False)
    assert json.loads(question.payload) == {
        "device": "press-07",
        "sha256": A,
        "ranges": [[0, 3], [9, 9]],
        "needs_list": True,
    }
    assert bench.models.questions(lambda _topic: True, 5.0) == []
    bench.models.begin()
    assert len(bench.models.questions(lambda _topic: True, 5.0)) == 1


def test_a_deployer_that_asks_all_the_time_is_heard_once_a_second() -> None:
    bench, asked = Bench(), []
    for number in range(500):
        bench.inbox.ask(A, [(number, number)], needs_list=False)
        asked += bench.models.questions(lambda _topic: True, number / 100)
    asked += bench.models.questions(lambda _topic: True, 5.0 + INTERVAL)
    assert 5 <= len(asked) <= 6
    assert json.loads(asked[-1].payload)["ranges"] == [[499, 499]]


def test_ranges_that_cannot_be_are_not_asked_for() -> None:
    bench = Bench()
    bench.inbox.ask(A, [(-1, 3), (5, 4), (0, MOST_CHUNKS), (7, 8)], needs_list=False)
    (question,) = bench.models.questions(lambda _topic: True, 0.0)
    assert json.loads(question.payload)["ranges"] == [[7, 8]]


@given(st.text(), st.binary(max_size=100))
def test_no_topic_is_too_strange(rest: str, payload: bytes) -> None:
    bench = Bench()
    for begin in ("limpet-bundles/", f"limpet-bundles/{A}/", f"{ROOT}/model/", f"{ROOT}/trust/", ROOT):
        bench.send(f"{begin}{rest}", payload)
        bench.send(f"{begin}{rest}/desired", payload)
    assert all(0 <= index < MOST_CHUNKS or index == -1 for index in bench.drain())
    assert {one.name for one in bench.inbox.take_states()} <= {"", "motion"}


# --- subscriptions that come and go


def wanting(*files: str, pipelines: tuple[str, ...] = ()) -> Any:
    inbox = DeliveryInbox(lambda: None)
    inbox.expect(pipelines, trust=False)
    inbox.want_chunks(files)
    return inbox.wanted


def connected(subscriptions: Subscriptions, *, wildcards: bool = True) -> tuple[ConnectionMachine, list[str]]:
    machine = ConnectionMachine("limpet-press-07", "5", 60.0, subscriptions)
    return machine, connect(machine, wildcards=wildcards)


def connect(machine: ConnectionMachine, *, wildcards: bool = True) -> list[str]:
    machine.handle(PauseOver(), 0.0)
    return answer(machine, machine.handle(Accepted("5", retain=True, wildcards=wildcards, qos=1), 0.0), 0.0)


def answer(machine: ConnectionMachine, done: list[Any], now: float, refusal: str = "") -> list[str]:
    """Answer subscriptions until there are none; return what was done."""
    topics = []
    while not isinstance(done[-1], Exchange):
        topics += [f"-{topic}" for one in done if isinstance(one, Unsubscribe) for topic in one.topics]
        assert isinstance(done[-1], Subscribe)
        topics.append(f"{done[-1].topic} {done[-1].qos}")
        done = machine.handle(Subscribed(done[-1].topic, refusal), now)
    return topics + [f"-{topic}" for one in done if isinstance(one, Unsubscribe) for topic in one.topics]


def test_subscriptions_to_chunks_come_and_go_while_the_connection_stays() -> None:
    subscriptions = Subscriptions(ROOT, (), commands=True)
    subscriptions.want(wanting(pipelines=("motion", "sound")))
    machine, first = connected(subscriptions)
    assert first == [f"{ROOT}/command/+ 1", f"{ROOT}/model/+/desired 1"]
    subscriptions.want(wanting(A, B, pipelines=("motion", "sound")))
    done = answer(machine, machine.handle(Due(), 1.0), 1.0)
    assert done == [f"limpet-bundles/{A}/+ 0", f"limpet-bundles/{B}/+ 0"]
    assert machine.is_subscribed(f"limpet-bundles/{A}/+")
    subscriptions.want(wanting(B))
    done = answer(machine, machine.handle(Due(), 2.0), 2.0)
    assert done == [f"-{ROOT}/model/+/desired", f"-limpet-bundles/{A}/+"]
    assert not machine.is_subscribed(f"limpet-bundles/{A}/+")


def test_what_is_retained_for_a_new_pipeline_is_fetched_by_another_subscription() -> None:
    subscriptions = Subscriptions(ROOT, (), commands=True)
    subscriptions.want(wanting(pipelines=("motion",)))
    machine, _ = connected(subscriptions)
    subscriptions.want(wanting(pipelines=("motion", "sound")))
    assert answer(machine, machine.handle(Due(), 1.0), 1.0) == [f"{ROOT}/model/+/desired 1"]
    subscriptions.want(wanting(pipelines=("sound",)))
    assert answer(machine, machine.handle(Due(), 2.0), 2.0) == []
    assert machine.is_subscribed(f"{ROOT}/model/+/desired")
    subscriptions.want(wanting(pipelines=("motion", "sound")))
    assert answer(machine, machine.handle(Due(), 3.0), 3.0, "no") == [f"{ROOT}/model/+/desired 1"]
    assert answer(machine, machine.handle(Due(), 4.0), 4.0) == []


def test_a_broker_without_wildcards_gets_a_subscription_for_each_pipeline_and_none_for_chunks() -> None:
    subscriptions = Subscriptions(ROOT, (), commands=False)
    subscriptions.want(wanting(A, pipelines=("sound", "motion")))
    _, topics = connected(subscriptions, wildcards=False)
    assert topics == [f"{ROOT}/model/motion/desired 1", f"{ROOT}/model/sound/desired 1"]


def test_a_refused_subscription_to_chunks_is_not_repeated_until_it_is_wanted_anew() -> None:
    subscriptions = Subscriptions(ROOT, (), commands=False)
    machine, _ = connected(subscriptions)
    subscriptions.want(wanting(A))
    assert answer(machine, machine.handle(Due(), 1.0), 1.0, "no") == [f"limpet-bundles/{A}/+ 0"]
    assert not machine.is_subscribed(f"limpet-bundles/{A}/+")
    assert answer(machine, machine.handle(Due(), 2.0), 2.0) == []
    subscriptions.want(wanting())
    assert answer(machine, machine.handle(Due(), 3.0), 3.0) == []
    subscriptions.want(wanting(A))
    assert answer(machine, machine.handle(Due(), 4.0), 4.0) == [f"limpet-bundles/{A}/+ 0"]


def test_a_flooded_subscription_rests_and_comes_back() -> None:
    subscriptions = Subscriptions(ROOT, (), commands=False)
    subscriptions.want(wanting(A))
    machine, _ = connected(subscriptions)
    subscriptions.leave_out(f"limpet-bundles/{A}/+", 31.0)
    assert answer(machine, machine.handle(Due(), 1.0), 1.0) == [f"-limpet-bundles/{A}/+"]
    assert machine.handle(Due(), 20.0) == [Exchange(31.0)]
    assert answer(machine, machine.handle(Due(), 31.0), 31.0) == [f"limpet-bundles/{A}/+ 0"]


def test_a_chunk_that_ends_connections_has_its_subscription_left_out() -> None:
    subscriptions = Subscriptions(ROOT, (), commands=True)
    subscriptions.want(wanting(A))
    machine, topics = connected(subscriptions)
    assert topics == [f"{ROOT}/command/+ 1", f"limpet-bundles/{A}/+ 0"]
    machine.handle(Lost("a packet of 9999999 bytes", "unreadable"), 0.0)
    assert connect(machine) == [f"{ROOT}/command/+ 1"]


# --- through a real broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@contextlib.contextmanager
def publisher(port: int) -> Iterator[Client]:
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


@contextlib.contextmanager
def reporting(broker: Mosquitto, folder: Path, inbox: DeliveryInbox, **options: Any) -> Iterator[reports.Fed[Any]]:
    config = mqtt.Config(url=broker.url, reconnect_max=0.1, **options)
    with reports.opened(mqtt, config, folder, deliveries=inbox) as reporter:
        wait_until(lambda: reporter.health()["connected"])
        yield reporter


class Taken:
    """What came out of an inbox so far."""

    def __init__(self, inbox: DeliveryInbox) -> None:
        self._inbox = inbox
        self.states: list[Delivery] = []
        self.chunks: list[Delivery] = []

    def look(self) -> Taken:
        self.states += self._inbox.take_states()
        while chunk := self._inbox.take_chunk():
            self.chunks.append(chunk)
        return self


def clear(client: Client, *topics: str) -> None:
    for topic in topics:
        client.publish(topic, b"", 1, retain=True).wait_for_publish(10)


def test_retained_requests_come_at_the_start_after_a_restart_of_the_broker_and_live(tmp_path: Path) -> None:
    inbox = DeliveryInbox(lambda: None)
    inbox.expect(["motion"], trust=True)
    taken = Taken(inbox)
    with mosquitto(tmp_path / "broker") as broker:
        with publisher(broker.port) as client:
            client.publish(f"{ROOT}/model/motion/desired", b"one", 1, retain=True).wait_for_publish(10)
            client.publish(f"{ROOT}/trust/desired", b"[]", 1, retain=True).wait_for_publish(10)
        with reporting(broker, tmp_path / "state", inbox):
            wait_until(lambda: len(taken.look().states) == 2)
            assert [(one.kind, one.payload, one.retained) for one in taken.states] == [
                ("desired", b"one", True),
                ("root", b"[]", True),
            ]
            taken.states.clear()
            broker.stop(signal.SIGTERM)
            broker.start()
            wait_until(lambda: len(taken.look().states) == 2)
            assert {(one.payload, one.retained) for one in taken.states} == {(b"one", True), (b"[]", True)}
            with publisher(broker.port) as client:
                taken.states.clear()
                client.publish(f"{ROOT}/model/motion/desired", b"two", 1, retain=True).wait_for_publish(10)
                wait_until(lambda: taken.look().states)
                assert [(one.payload, one.retained) for one in taken.states] == [(b"two", False)]


def test_a_broker_with_updates_off_brings_no_requests(broker: Mosquitto, tmp_path: Path) -> None:
    inbox = DeliveryInbox(lambda: None)
    inbox.expect(["motion"], trust=True)
    inbox.want_chunks([A])
    commands: list[str] = []
    bus_config = mqtt.Config(url=broker.url, updates=False)
    with (
        publisher(broker.port) as client,
        reports.opened(
            mqtt, bus_config, tmp_path, obey=lambda one: commands.append(one.name), deliveries=inbox
        ) as fed,
    ):
        wait_until(lambda: fed.health()["connected"])
        client.publish(f"{ROOT}/model/motion/desired", b"x", 1)
        client.publish(f"limpet-bundles/{A}/0", b"x", 1)
        client.publish(f"{ROOT}/command/ping", b"", 1)
        wait_until(lambda: commands)
        assert Taken(inbox).look().states == []
        assert fed.health()["ignored"] == {}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_chunks_come_while_they_are_wanted_and_missing_ones_are_asked_for(
    broker: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    inbox = DeliveryInbox(lambda: None)
    taken = Taken(inbox)
    sha256 = A if protocol == "5" else B
    with (
        publisher(broker.port) as client,
        listener(broker.port, "limpet/press-07/bundle/#") as heard,
        reporting(broker, tmp_path, inbox, protocol=protocol) as fed,
    ):
        client.publish(f"limpet-bundles/{sha256}/list", b"the list", 1, retain=True).wait_for_publish(10)
        inbox.want_chunks([sha256])
        wait_until(lambda: taken.look().chunks)
        assert [(one.index, one.payload, one.retained) for one in taken.chunks] == [(-1, b"the list", True)]
        inbox.ask(sha256, [(0, 5)], needs_list=False)
        wait_until(lambda: heard.messages)
        assert heard.messages[0].topic == f"limpet/press-07/bundle/{sha256}/missing"
        assert heard.messages[0].json["ranges"] == [[0, 5]]
        client.publish(f"limpet-bundles/{sha256}/0", b"zero", 1)
        wait_until(lambda: len(taken.look().chunks) == 2)
        assert taken.chunks[1] == Delivery("chunk", sha256, b"zero", retained=False, reporter="mqtt", index=0)
        inbox.want_chunks([])
        wait_until(lambda: not _is_subscribed(broker.port, f"limpet-bundles/{sha256}/1"))
        assert fed.health()["connected"]
        clear(client, f"limpet-bundles/{sha256}/list")


def _is_subscribed(port: int, topic: str) -> bool:
    """Whether a broker has a subscriber to a topic: its answer to a message with QoS 1 says so."""
    answers: list[int] = []
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_publish = lambda _client, _data, _mid, reason, _properties: answers.append(reason.value)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(topic, b"x", 1)
    wait_until(lambda: answers)
    client.disconnect()
    client.loop_stop()
    return answers == [0]


def test_a_subscription_that_the_broker_kept_for_another_file_is_given_up(
    broker: Mosquitto, tmp_path: Path
) -> None:
    topic = f"limpet-bundles/{'d' * 64}/0"
    inbox = DeliveryInbox(lambda: None)
    inbox.expect(["motion"], trust=False)
    inbox.want_chunks(["d" * 64])
    with reporting(broker, tmp_path, inbox):
        wait_until(lambda: _is_subscribed(broker.port, topic))
    inbox.want_chunks([])
    with reporting(broker, tmp_path, inbox) as fed:
        wait_until(lambda: not _is_subscribed(broker.port, topic))  # its first message makes it go
        assert fed.health()["connected"]
        assert inbox.take_chunk() is None


def test_a_flood_of_a_stranger_ends_the_subscription_and_not_the_connection(
    broker: Mosquitto, tmp_path: Path
) -> None:
    inbox = DeliveryInbox(lambda: None)
    inbox.want_chunks([A])
    with publisher(broker.port) as client, reporting(broker, tmp_path, inbox) as fed:
        wait_until(lambda: _is_subscribed(broker.port, f"limpet-bundles/{A}/0"))

        def flooded() -> bool:
            for index in range(1000):
                client.publish(f"limpet-bundles/{A}/{index}", b"x", 0)
            return not _is_subscribed(broker.port, f"limpet-bundles/{A}/0")

        wait_until(flooded)
        assert fed.health()["connected"]
        assert fed.health()["reconnects"] == 0
        assert fed.health()["ignored"]["chunks too fast"] >= FLOOD


def test_results_and_commands_go_on_while_50_mb_of_chunks_come(broker: Mosquitto, tmp_path: Path) -> None:
    inbox = DeliveryInbox(lambda: None)
    inbox.want_chunks([A])
    taken = Taken(inbox)
    commands: list[str] = []
    config = mqtt.Config(url=broker.url, batch_age=0.0)
    payload, count = bytes(LARGEST_CHUNK), 400
    with (
        publisher(broker.port) as client,
        publisher(broker.port) as operator,
        listener(broker.port) as heard,
        reports.opened(
            mqtt, config, tmp_path, obey=lambda one: commands.append(one.name), deliveries=inbox
        ) as fed,
    ):
        wait_until(lambda: fed.health()["connected"])
        for index in range(count):
            client.publish(f"limpet-bundles/{A}/{index}", payload, 0)
            if index % 40 == 0:
                fed.report(reports.result(index // 40))
                operator.publish(f"{ROOT}/command/ping", b"", 1)
            taken.look()
        wait_until(lambda: taken.look() and len(heard.results()["motion"]) == 10 and len(commands) == 10)
        wait_until(lambda: _dropped(fed) + len(taken.look().chunks) == count)
        assert len(taken.chunks) >= BYTES_AT_ONCE // LARGEST_CHUNK / 2
        assert fed.health()["reconnects"] == 0


def _dropped(fed: reports.Fed[Any]) -> int:
    ignored = fed.health()["ignored"]
    return ignored.get("chunks too fast", 0) + ignored.get("chunks waiting", 0)
