"""The ring on the disk: bounded, whole files only, and the most valuable captures stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.captures import form, ring, rules
from limpet.contracts.captures import Truth, WindowForm
from limpet.errors import UnreadableError
from support.captured import capture, packed

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.captures.ring import Ring

ROOM = 3 * len(packed(capture(number=1))) + 100


def keep(into: Ring, reason: str = "unsure") -> int:
    number = into.next_number()
    one = capture(number=number, reasons=[reason])
    assert into.add(one, packed(one))
    return number


def numbers(root: Path) -> list[int]:
    return [one.capture.number for one in ring.entries(root, "motion")]


def test_the_oldest_capture_of_the_same_worth_goes_first(tmp_path: Path) -> None:
    held = ring.Ring(tmp_path, "motion", ROOM)
    for _ in range(5):
        keep(held)
    assert numbers(tmp_path) == [3, 4, 5]
    assert held.evicted == 2
    assert held.size <= ROOM


def test_a_capture_does_not_take_the_place_of_one_that_is_worth_more(tmp_path: Path) -> None:
    held = ring.Ring(tmp_path, "motion", ROOM)
    for reason in ("command", "unsure", "command"):
        keep(held, reason)
    keep(held, "drifted")
    assert numbers(tmp_path) == [1, 3, 4]
    one = capture(number=9, reasons=["unsure"])
    assert not held.add(one, packed(one))
    assert numbers(tmp_path) == [1, 3, 4]


@pytest.mark.parametrize("noted", [b"9999999999", b"99999999999999999999", b"-3", b"x", b""])
def test_a_file_with_a_number_that_no_capture_may_have_does_not_end_the_ring(tmp_path: Path, noted: bytes) -> None:
    held = ring.Ring(tmp_path, "motion", ROOM)
    keep(held)
    (tmp_path / "motion" / "last").write_bytes(noted)
    assert keep(held) == 2


def test_an_uploaded_capture_goes_before_all_others(tmp_path: Path) -> None:
    held = ring.Ring(tmp_path, "motion", ROOM)
    for reason in ("command", "unsure", "unsure"):
        keep(held, reason)
    ring.mark_sent(ring.path_of(tmp_path, "motion", 1))
    held.refresh()
    keep(held, "audit")
    assert numbers(tmp_path) == [2, 3, 4]


def test_no_number_comes_twice_even_if_all_captures_are_deleted(tmp_path: Path) -> None:
    held = ring.Ring(tmp_path, "motion", ROOM)
    ring.delete(ring.path_of(tmp_path, "motion", keep(held)))
    assert keep(ring.Ring(tmp_path, "motion", ROOM)) == 2


def test_what_is_no_whole_capture_is_deleted_and_named_when_the_ring_is_opened(tmp_path: Path) -> None:
    held = ring.Ring(tmp_path, "motion", ROOM)
    keep(held), keep(held)
    there = tmp_path / "motion"
    whole = ring.path_of(tmp_path, "motion", 2).read_bytes()
    (there / "0000000002.capture").write_bytes(whole[:-1])
    (there / "0000000003.new").write_bytes(whole[:40])
    (there / "0000000004.capture").write_bytes(whole)
    (there / "0000000005.capture").symlink_to("/etc/passwd")
    (there / "0000000006.truth").write_bytes(b"{}")
    os.mkfifo(there / "0000000007.capture")
    (there / "\N{SUPERSCRIPT TWO}.truth").write_bytes(b"a digit that is no number")
    again = ring.Ring(tmp_path, "motion", ROOM)
    assert numbers(tmp_path) == [1]
    assert sorted(one.name for one in there.iterdir()) == ["0000000001.capture", "last"]
    assert len(again.damaged) == 4


def test_a_smaller_limit_holds_at_once(tmp_path: Path) -> None:
    held = ring.Ring(tmp_path, "motion", ROOM)
    keep(held, "command"), keep(held, "unsure")
    assert ring.Ring(tmp_path, "motion", ROOM // 2).size <= ROOM // 2
    assert numbers(tmp_path) == [1]


def test_a_truth_stays_beside_its_capture_and_goes_with_it(tmp_path: Path) -> None:
    held = ring.Ring(tmp_path, "motion", ROOM)
    keep(held)
    path = ring.path_of(tmp_path, "motion", 1)
    truth = Truth(truth="walk", by="ann", time=datetime(2026, 11, 29, tzinfo=timezone.utc))
    ring.write_truth(path, truth)
    assert ring.find(tmp_path, "motion/1").truth == truth
    path.with_suffix(ring.TRUTH).write_bytes(b'{"truth": 1e999}')
    assert ring.find(tmp_path, "motion/1").truth is None
    ring.delete(path)
    assert not list((tmp_path / "motion").glob("0*"))


@pytest.mark.parametrize("name", ["motion", "motion/x", "../x/1", "motion/²", "motion/12345678901", "motion/8"])
def test_a_name_that_is_no_capture_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableError):
        ring.find(tmp_path, name)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 50)), max_size=12),
    st.tuples(st.integers(1, 4), st.integers(1, 50)),
    st.integers(1, 200),
    st.integers(1, 12),
)
def test_eviction_makes_room_and_never_takes_what_is_worth_more(
    held: list[tuple[int, int]], new: tuple[int, int], most: int, count: int
) -> None:
    going = rules.evicted(held, new, most, count)
    better = [size for worth, size in held if worth > new[0]]
    assert (going is None) == (sum(better) + new[1] > most or len(better) >= count)
    for place in going or ():
        assert held[place][0] <= new[0]
    if going is not None:
        assert sum(size for place, (_, size) in enumerate(held) if place not in going) + new[1] <= most
        assert len(held) - len(going) < count


def test_attack_a_ring_holds_no_more_captures_than_it_can_know(tmp_path: Path) -> None:
    held = ring.Ring(tmp_path, "motion", 1 << 20, 4)
    for _ in range(6):
        keep(held)
    assert numbers(tmp_path) == [3, 4, 5, 6]
    for number in range(7, 13):  # a stranger copies files into the folder
        one = capture(number=number)
        ring.path_of(tmp_path, "motion", number).write_bytes(packed(one))
    held.refresh()
    assert sorted(path.name for path in (tmp_path / "motion").iterdir()) == [
        *(f"{number:010d}.capture" for number in range(9, 13)),
        "last",
    ]
    assert [one.number for one in held.held] == [9, 10, 11, 12]
    assert held.evicted == 8


def test_attack_a_ring_remembers_little_of_a_large_header(tmp_path: Path) -> None:
    wide = WindowForm(
        encoding="raw", shape=[3, 1000], dtype="float32", parts=[12_000], channels=["c" * 199] * 1000
    )
    held = ring.Ring(tmp_path, "motion", 1 << 30)
    for _ in range(20):
        one = capture(number=held.next_number(), id=f"press/motion/b1/{held.size}", window=wide)
        held.add(one, packed(one))
    assert held.size > 20 * 200_000
    assert len(msgspec.msgpack.encode(held.held)) < 20 * 200
    assert held.number_of("press/motion/b1/0") == 1
    again = ring.Ring(tmp_path, "motion", 1 << 30)
    assert again.number_of("press/motion/b1/0") == 1
    ring.delete(ring.path_of(tmp_path, "motion", 1))
    again.refresh()
    assert again.number_of("press/motion/b1/0") is None
    assert [one.number for one in again.held] == list(range(2, 21))


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.captured import capture, packed
from limpet.captures.ring import Ring
held = Ring(Path(sys.argv[1]), "motion", 20 * len(packed(capture())))
while True:
    one = capture(number=held.next_number())
    held.add(one, packed(one))
    print(one.number, flush=True)
"""


def test_after_kill_9_each_capture_is_whole_and_the_ring_is_bounded(tmp_path: Path, request: Any) -> None:
    program = WRITER.format(tests=str(request.config.rootpath / "tests"))
    most = 20 * len(packed(capture()))
    written = 0
    for round_ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(15 + 7 * round_):
            written = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        there = [ring.find(tmp_path, f"motion/{number}") for number in numbers(tmp_path)]
        assert all(form.read(one.path).capture.number == one.capture.number for one in there)
        assert sum(one.size for one in there) <= most
        assert there[-1].capture.number >= written
        damaged = ring.Ring(tmp_path, "motion", most).damaged
        assert not damaged
