"""What reporters bring about models waits for the supervisor, within bounds."""

from __future__ import annotations

from limpet.contracts.deliveries import Delivery
from limpet.delivery.deliveries import LARGEST_CHUNKS, MOST_CHUNKS, DeliveryInbox

A, B = "a" * 64, "b" * 64


def inbox() -> DeliveryInbox:
    return DeliveryInbox(lambda: None)


def desired(payload: bytes, *, name: str = "motion", retained: bool = False, reporter: str = "mqtt") -> Delivery:
    return Delivery("desired", name, payload, retained, reporter)


def chunk(index: int, size: int = 10, sha256: str = A) -> Delivery:
    return Delivery("chunk", sha256, bytes(size), retained=False, reporter="mqtt", index=index)


def test_nothing_is_taken_until_it_is_expected() -> None:
    box = inbox()
    assert not box.deliver(desired(b"{}"))
    assert not box.deliver(Delivery("root", "", b"[]", retained=True, reporter="mqtt"))
    assert not box.deliver(chunk(0))
    assert box.take_states() == []
    assert box.take_chunk() is None


def test_a_desired_state_of_an_unknown_pipeline_is_dropped() -> None:
    box = inbox()
    box.expect(["motion"], trust=False)
    assert not box.deliver(desired(b"{}", name="other"))
    assert not box.deliver(Delivery("root", "", b"[]", retained=True, reporter="mqtt"))
    assert box.deliver(desired(b"{}"))
    assert box.take_states() == [desired(b"{}")]
    assert box.take_states() == []


def test_the_newest_desired_state_replaces_one_that_waits() -> None:
    box = inbox()
    box.expect(["motion", "sound"], trust=True)
    for number in range(1000):
        assert box.deliver(desired(b"%d" % number))
    box.deliver(desired(b"s", name="sound"))
    box.deliver(desired(b"o", reporter="other"))
    assert [(one.reporter, one.payload) for one in box.take_states()] == [
        ("mqtt", b"999"),
        ("mqtt", b"s"),
        ("other", b"o"),
    ]


def test_a_retained_copy_does_not_hide_that_the_request_was_sent_again() -> None:
    box = inbox()
    box.expect(["motion"], trust=False)
    box.deliver(desired(b"again", retained=False))
    box.deliver(desired(b"again", retained=True))
    assert [one.retained for one in box.take_states()] == [False]


def test_chunks_are_bounded_in_number_and_bytes() -> None:
    box = inbox()
    box.want_chunks([A])
    taken = [box.deliver(chunk(index)) for index in range(MOST_CHUNKS + 5)]
    assert taken == [True] * MOST_CHUNKS + [False] * 5
    assert box.take_chunk() == chunk(0)
    assert box.deliver(chunk(7))
    while box.take_chunk():
        pass
    assert box.deliver(chunk(0, LARGEST_CHUNKS))
    assert not box.deliver(chunk(1, 1))


def test_chunks_of_a_file_that_is_not_wanted_any_more_are_dropped() -> None:
    box = inbox()
    box.want_chunks([A, B])
    box.deliver(chunk(0, sha256=A))
    box.deliver(chunk(1, sha256=B))
    box.want_chunks([B])
    assert not box.deliver(chunk(2, sha256=A))
    assert box.take_chunk() == chunk(1, sha256=B)
    assert box.take_chunk() is None


def test_what_is_missing_is_kept_with_a_rising_number_and_wakes_the_reporters() -> None:
    box, woken = inbox(), []
    with box.watching(lambda: woken.append(box.wanted)):
        box.ask(A, [(0, 3)], needs_list=True)  # not wanted
        assert woken == []
        box.want_chunks([A])
        box.ask(A, [(0, 3)], needs_list=True)
        box.ask(A, [(0, 3)], needs_list=True)
        box.want_chunks([A])
    box.want_chunks([])
    missing = [one.chunks[A] for one in woken]
    assert [one and (one.ranges, one.needs_list) for one in missing] == [
        None,
        (((0, 3),), True),
        (((0, 3),), True),
    ]
    numbers = [one.number for one in missing if one]
    assert numbers == sorted(set(numbers))
    assert box.wanted.chunks == {}
