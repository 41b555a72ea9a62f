"""Reading a source over its interruptions: a real pty, and a source that goes away on a schedule."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.contracts.data import Samples, SampleSpec, empty_samples
from limpet.errors import ConfigError, SourceError
from limpet.inference.reader import Expected, Reader
from limpet.sources import serial
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Scripted:
    """A source: each opening takes the next part of the script, numbers of samples and errors."""

    Config = dict

    def __init__(self, *parts: list[int | Exception]) -> None:
        self.parts = list(parts)
        self.open_now = 0

    def describe(self, _config: Any) -> SampleSpec:
        return SampleSpec((1,), np.dtype(np.float32), ("a",))

    @contextmanager
    def open(self, _config: Any, dropped: Counter[str]) -> Iterator[Iterator[Samples]]:
        part = self.parts.pop(0)
        if isinstance(part[0], Exception):
            raise part[0]
        self.open_now += 1
        try:
            yield self._play(part, dropped)
        finally:
            self.open_now -= 1

    def _play(self, part: list[int | Exception], dropped: Counter[str]) -> Iterator[Samples]:
        index = 0
        for step in part:
            if isinstance(step, Exception):
                dropped["noise"] += 1
                raise step
            none = np.zeros(step, np.int64)
            yield Samples(np.zeros((step, 1), np.float32), none, none, index)
            index += step


AWAY = SourceError("port: gone")


def heard(source: Scripted) -> tuple[list[tuple[int, int, bool]], Counter[str]]:
    """Return length, first ordinal and gap of each block that is not empty."""
    dropped: Counter[str] = Counter()
    blocks = list(Reader(source, {}, dropped))
    assert source.open_now == 0
    return [(len(block), block.index, block.gap) for block in blocks if len(block)], dropped


def test_it_ends_when_the_source_ends() -> None:
    assert heard(Scripted([3, 0, 2])) == ([(3, 0, False), (2, 3, False)], {})


def test_after_an_interruption_ordinals_go_on_and_the_first_block_has_a_gap() -> None:
    script = Scripted([3, AWAY], [AWAY], [0, 2, 1, AWAY], [4])
    assert heard(script) == (
        [(3, 0, False), (2, 3, True), (1, 5, False), (4, 6, True)],
        {"noise": 2, "disconnected": 2},
    )


def test_a_source_that_is_away_at_the_start_was_never_disconnected() -> None:
    assert heard(Scripted([AWAY], [AWAY], [2])) == ([(2, 0, False)], {})


def test_away_says_why_while_it_is_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reader = Reader(Scripted([1, AWAY], [SourceError("port: denied")], [0, 1]), {}, Counter())
    seen: list[str | None] = []
    for _ in reader:
        if not seen or seen[-1] != reader.away:
            seen.append(reader.away)
    assert seen == [None, "port: gone", "port: denied", None]
    assert [record.getMessage() for record in caplog.records] == [
        "source away: port: gone",
        "source away: port: denied",
        "source back; it was away: port: denied",
    ]


def test_it_waits_longer_each_time_and_shows_that_it_is_alive() -> None:
    reader = Reader(Scripted([AWAY], [AWAY], [AWAY], [AWAY], [1]), {}, Counter())
    began = last = time.monotonic()
    for samples in reader:
        now = time.monotonic()
        assert now - last < 1
        last = now
        if not len(samples):
            assert samples.values.shape == (0, 1)
    assert last - began >= (0.1 + 0.2 + 0.4 + 0.8) / 2


def test_an_opening_that_brings_nothing_does_not_shorten_the_wait() -> None:
    reader = Reader(Scripted([0, AWAY], [0, AWAY], [0, AWAY], [0, AWAY], [1]), {}, Counter())
    began = time.monotonic()
    list(reader)
    assert time.monotonic() - began >= (0.1 + 0.2 + 0.4 + 0.8) / 2


def test_a_source_that_brings_a_little_and_goes_is_not_opened_without_end() -> None:
    source = Scripted(*([1, AWAY] for _ in range(100)))
    until = time.monotonic() + 1.5
    for _ in Reader(source, {}, Counter()):
        if time.monotonic() > until:
            break
    assert len(source.parts) > 90, "waits of 50 to 100 ms would open it more than ten times"


def test_what_is_no_source_error_passes_through() -> None:
    script = Scripted([1, ZeroDivisionError()])
    with pytest.raises(ZeroDivisionError):
        list(Reader(script, {}, Counter()))
    assert script.open_now == 0
    with pytest.raises(ConfigError):
        list(Reader(Scripted([ConfigError(["x"])]), {}, Counter()))


class Quiet:
    """A source of which every sample is dropped, or that has none."""

    Config = dict

    def __init__(self, drops: int) -> None:
        self.drops = drops

    def describe(self, _config: Any) -> SampleSpec:
        return SampleSpec((1,), np.dtype(np.float32), ("a",), rate=None if self.drops else 100.0)

    @contextmanager
    def open(self, config: Any, dropped: Counter[str]) -> Iterator[Iterator[Samples]]:
        yield self._play(config, dropped)

    def _play(self, config: Any, dropped: Counter[str]) -> Iterator[Samples]:
        while True:
            dropped["noise"] += self.drops
            yield empty_samples(self.describe(config))
            time.sleep(0.2)


def test_a_source_without_a_note_is_away_as_well_if_no_usable_sample_comes() -> None:
    readers = [
        Reader(source, {}, Counter(), Expected(spec=source.describe({})))
        for source in (Quiet(drops=3), Quiet(drops=0))
    ]
    for _ in zip(range(100), *readers, strict=False):
        if all(reader.away for reader in readers):
            break
    assert [reader.away for reader in readers] == [
        "no usable sample for some seconds; all are dropped: noise",
        "no usable sample for some seconds; the source sends none",
    ]


def test_leaving_it_closes_the_source() -> None:
    script = Scripted([1, 1, 1])
    samples = iter(Reader(script, {}, Counter()))
    assert len(next(samples)) == 1
    assert script.open_now == 1
    del samples
    assert script.open_now == 0


def test_a_board_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    dropped: Counter[str] = Counter()
    with Board(tmp_path / "node") as board:
        config = serial.Config(port=str(board.path), channels=["a"], framing="csv")
        reader = Reader(serial, config, dropped)
        samples = iter(reader)
        assert len(next(samples)) == 0  # which opens it
        board.send(b"\n1\n2\n")
        first = next(block for block in samples if len(block))
        board.unplug()
        gone = next(block for block in samples if reader.away)
        assert len(gone) == 0
        assert str(board.path) in str(reader.away)
        board.plug()
        while reader.away:
            next(samples)
        board.send(b"\n3\n")
        again = next(block for block in samples if len(block))
    assert first.values.tolist() == [[1], [2]]
    assert (again.values.tolist(), again.index, again.gap) == ([[3]], 2, True)
    assert dropped == {"disconnected": 1}


def test_empty_samples_have_the_shape_of_the_source() -> None:
    spec = SampleSpec((2, 3), np.dtype(np.uint8))
    assert empty_samples(spec, 5).values.shape == (0, 2, 3)
