"""What waits for acknowledgement, and which message a broker does not take: decided without a broker."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.dialect import Publish
from limpet.delivery.mqtt import poison
from limpet.delivery.mqtt.dialect_requests import INTERVAL, LARGEST, MOST_WAITING, DialectRequests
from limpet.delivery.mqtt.inflight import Flight, InFlight, Releases, Sending
from limpet.delivery.mqtt.outgoing import Outgoing
from limpet.delivery.mqtt.poison import BREAKS, MOST, PARTS, PoisonSearch
from limpet.delivery.mqtt.publish_packets import PublishHead, PublishHeads, TopicAliases
from limpet.delivery.mqtt.ready_queue import ReadyQueue
from limpet.delivery.outbox import EntryId, item_array
from limpet.errors import UnreadableError


def ids(*numbers: int) -> tuple[EntryId, ...]:
    return tuple(EntryId("result", number) for number in numbers)


def test_ids_are_released_in_the_order_of_sending_once_all_publishes_are_done() -> None:
    releases = Releases()
    first = releases.begin(ids(1, 2), 1)
    second = releases.begin(ids(3), 1)
    releases.expect(first, 1)  # two dialects
    releases.finish(second)
    releases.finish(first)
    assert list(releases.acked) == []
    releases.finish(first)
    assert list(releases.acked) == [*ids(1, 2, 3)]


def test_a_message_without_a_publish_is_done_at_once_and_an_ended_connection_releases_nothing() -> None:
    releases = Releases()
    releases.begin(ids(1), 0)
    open_group = releases.begin(ids(2), 1)
    releases.clear()
    releases.finish(open_group)
    assert list(releases.acked) == [*ids(1)]


def test_messages_in_flight_are_counted_in_bytes_and_the_oldest_is_known() -> None:
    in_flight = InFlight()
    for mid, size in ((7, 10), (8, 20)):
        in_flight.add(mid, Flight(Sending(Publish("t", bytes(size))), float(mid), 1, retain=False))
    assert (len(in_flight), in_flight.size) == (2, 30)
    oldest = in_flight.oldest()
    assert oldest
    assert oldest.at == 7.0
    assert in_flight.take(9) is None
    assert in_flight.take(7)
    assert in_flight.take(7) is None
    assert (len(in_flight), in_flight.size) == (1, 20)


def test_the_ready_queue_knows_its_bytes() -> None:
    ready = ReadyQueue(1000)
    first, second = Outgoing("t", (b"{}",)), Outgoing("t", (b"{}", b"{}"))
    ready.add(first)
    ready.add(second)
    assert (len(ready), ready.size) == (2, len(b"{}") + len(b"[{},{}]"))
    assert [ready.take(), ready.take(), ready.take()] == [first, second, None]
    assert ready.size == 0


# --- the poison message


def search(poisoned: int, count: int, batch: int) -> tuple[PoisonSearch, int, list[bytes]]:
    """Send batches of items to a broker that closes the connection over one; return the ends that it took."""
    found, ends = PoisonSearch(), 0
    items = [b"%d" % number for number in range(count)]
    while True:
        step = found.most_items or batch
        batches = [items[start : start + step] for start in range(0, len(items), step)]
        for sent in batches:
            keys = [poison.item_key(item) for item in sent]
            if b"%d" % poisoned not in sent:
                found.passed(keys, len(sent))
                items = [item for item in items if item not in sent]
                continue
            ends += 1
            key = found.broke([keys])
            if key is not None:
                assert key == poison.item_key(b"%d" % poisoned)
                return found, ends, items
            break


@given(st.integers(0, 299), st.integers(1, 300))
def test_the_poison_message_is_found_in_few_ends_of_the_connection(poisoned: int, batch: int) -> None:
    found, ends, left = search(poisoned, 300, batch)
    assert b"%d" % poisoned in left
    assert ends <= BREAKS + 3 + BREAKS  # suspected, narrowed by PARTS each time, proven
    assert PARTS**3 > 300
    assert not found.is_refused(poison.item_key(b"other"), 0.0)


def test_a_batch_whose_parts_all_pass_was_too_large() -> None:
    found = PoisonSearch()
    keys = [poison.item_key(b"%d" % number) for number in range(20)]
    for _ in range(BREAKS + 1):
        assert found.broke([keys]) is None
    assert found.active
    assert found.most_items == 20 // PARTS
    assert found.passed(keys[:10], 500) is None
    assert found.passed(keys[10:], 400) == 500
    assert not found.active


def test_ends_without_a_message_in_common_suspect_none() -> None:
    found = PoisonSearch()
    for number in range(10):
        assert found.broke([[poison.item_key(b"%d" % number)]]) is None
        assert not found.active
    assert found.broke([]) is None


def test_a_mark_changes_no_key_and_refusals_end() -> None:
    assert poison.item_key(b'{"a":1}') == poison.item_key(b'{"replayed":true,"a":1}')
    found = PoisonSearch()
    found.refuse(poison.topic_key("t", 1000), until=10.0)
    assert found.is_topic_refused("t", 2000, now=9.0)
    assert not found.is_topic_refused("t", 10, now=9.0)
    assert not found.is_topic_refused("t", 2000, now=10.0)
    for number in range(MOST + 5):
        found.refuse(b"%d" % number, until=10.0)
    assert not found.is_refused(b"0", 0.0)
    assert found.is_refused(b"%d" % MOST, 0.0)


# --- topics as numbers


def test_a_topic_is_left_out_once_the_broker_has_acknowledged_its_number() -> None:
    aliases = TopicAliases()
    aliases.limit = 1
    assert aliases.write("a") == ("a", 1)
    assert aliases.write("b") == ("b", 0)
    aliases.sent(5, PublishHead("a", 1, None))
    aliases.acknowledged(5, 0x87)
    assert aliases.write("a") == ("a", 1)
    aliases.sent(6, PublishHead("a", 1, None))
    aliases.acknowledged(6, 0x10)
    assert aliases.write("a") == ("", 1)


def test_replies_take_no_number_and_3_1_1_has_none() -> None:
    heads = PublishHeads("5")
    heads.aliases.limit = 10
    assert heads.head(Publish("answers/me", b""), None, b"1").alias == 0
    assert heads.head(Publish("result/a", b""), 60.0, b"").alias == 1
    assert PublishHeads("3.1.1").head(Publish("result/a", b"", content_type="x"), 60.0, b"") == PublishHead(
        "result/a", 0, None
    )


# --- messages to dialects


def test_messages_to_dialects_are_answered_one_at_a_time_and_bounded() -> None:
    ignored: list[str] = []
    requests = DialectRequests(lambda cause, _text: ignored.append(cause))
    for number in range(MOST_WAITING + 2):
        requests.add("t", b"%d" % number)
        requests.add("t", b"0")
    requests.add("t", bytes(LARGEST + 1))
    assert ignored == ["too many", "too many", "too large"]
    assert requests.next(100.0) == ("t", b"0")
    requests.answered("t", 100.0)
    assert requests.next(100.0 + INTERVAL - 0.1) is None
    assert requests.next(100.0 + INTERVAL) == ("t", b"1")
    assert requests.next(100.0 + INTERVAL) == ("t", b"2")  # there was no answer to the one before


# --- items on the disk


@given(st.lists(st.binary(max_size=40), max_size=40))
def test_items_come_out_of_their_frame_as_they_went_in(items: list[bytes]) -> None:
    data = item_array.join(items)
    assert len(data) <= sum(map(len, items)) + item_array.MOST_OVERHEAD * (len(items) + 1)
    assert item_array.split(data, len(items)) == tuple(items)
    with pytest.raises(UnreadableError):
        item_array.split(data, len(items) + 1)


@given(st.binary(max_size=60), st.integers(0, 5))
def test_any_other_bytes_are_unreadable_or_items(data: bytes, count: int) -> None:
    with suppress(UnreadableError):
        assert len(item_array.split(data, count)) == count
