from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import Samples, SampleSpec, empty_samples
from limpet.contracts.fields import WindowSpec
from limpet.inference.window import Windower, windows_of

if TYPE_CHECKING:
    from collections.abc import Iterable

SENSOR = SampleSpec((2,), np.dtype(np.float32), ("a", "b"), rate=100.0)
MS = 1_000_000


@dataclass
class Sample:
    """One sample of a made-up source, and what became of it."""

    ordinal: int
    mono: int
    gap: bool
    seen: bool = False

    @property
    def value(self) -> list[float]:
        return [float(self.ordinal), -float(self.ordinal)]


@dataclass
class Expected:
    """What a naive reading of the window's definition gives."""

    windows: list[tuple[list[Any], int, bool]]
    discarded: int


def stream(steps: list[tuple[int, bool]]) -> list[Sample]:
    """Steps of time in ms, each with whether samples were lost before it."""
    mono, ordinal, samples = 10**12, 0, []
    for number, (step, gap) in enumerate(steps):
        mono += step * MS
        ordinal += 1 + 5 * (gap and number % 2)  # a lost sample may show in the ordinals, or not
        samples.append(Sample(ordinal, mono, gap))
    return samples


def blocks(samples: list[Sample], cuts: Iterable[int], spec: SampleSpec = SENSOR) -> list[Samples]:
    """Cut a stream into blocks at ``cuts`` and wherever there is a gap; an empty block at each cut."""
    gaps = [at for at, sample in enumerate(samples) if sample.gap]
    edges = sorted({0, len(samples), *gaps, *(cut % (len(samples) + 1) for cut in cuts)})
    made = []
    for begin, end in pairwise(edges):
        part = samples[begin:end]
        mono = np.array([s.mono for s in part], np.int64)
        values = np.array([s.value for s in part], spec.dtype)
        made += [Samples(values, mono, mono + 7, part[0].ordinal, part[0].gap), empty_samples(spec)]
    return made


def windows(windower: Windower, given: Iterable[Samples]) -> list[tuple[list[Any], int, bool]]:
    """Push blocks; return rows, ordinal and ``gap`` of each window, its stamps checked."""
    found = []
    for block in given:
        for window in windower.push(block):
            assert window.wall_ns == window.monotonic_ns + 7
            assert window.values.flags.c_contiguous
            assert windower.spec.shape[0] in (-1, len(window.values))
            found.append((window.values.tolist(), window.ordinal, window.gap))
    return found


def apart(before: Sample | None, sample: Sample, spec: WindowSpec) -> bool:
    """Whether there is a gap before ``sample``."""
    if before is None:
        return False
    far = spec.max_gap is not None and sample.mono - before.mono > spec.max_gap * 1e9
    return sample.gap or far


def by_count(samples: list[Sample], spec: WindowSpec) -> Expected:
    assert spec.size
    hop = spec.hop or spec.size
    buffer: list[Sample] = []
    found, skip, discarded, flag = [], 0, 0, False
    for before, sample in zip([None, *samples], samples, strict=False):
        if apart(before, sample, spec):
            flag = True
            if not spec.span_gaps:
                discarded += sum(not s.seen for s in buffer)
                buffer, skip = [], 0
        if skip:
            skip -= 1
            continue
        buffer.append(sample)
        if len(buffer) == spec.size:
            for s in buffer:
                s.seen = True
            found.append(([s.value for s in buffer], sample.ordinal, flag))
            flag = False
            skip = max(hop - spec.size, 0)
            buffer = buffer[hop:]
    return Expected(found, discarded)


def by_time(samples: list[Sample], spec: WindowSpec) -> Expected:
    assert spec.seconds
    span, hop = round(spec.seconds * 1e9), round((spec.hop_seconds or spec.seconds) * 1e9)
    grid = None if spec.size is None else np.rint(np.arange(spec.size) * (span / spec.size)).astype(np.int64)
    reach = span if grid is None else int(grid[-1])
    buffer: list[Sample] = []
    found, start, discarded, flag = [], 0, 0, False
    for before, sample in zip([None, *samples], samples, strict=False):
        if apart(before, sample, spec):
            flag = True
            if not spec.span_gaps:
                discarded += sum(not s.seen and s.mono >= start for s in buffer)
                buffer = []
        if not buffer:
            start = sample.mono
        buffer.append(sample)
        while sample.mono >= start + reach:
            inside = [s for s in buffer if start <= s.mono < start + span]
            if inside and grid is None:
                found.append(([s.value for s in inside], inside[-1].ordinal, flag))
            elif inside and grid is not None:
                last = next(s for s in buffer if s.mono >= start + reach)
                inside = [s for s in buffer if s.ordinal <= last.ordinal]
                found.append((interpolated(buffer, grid + start), last.ordinal, flag))
            for s in inside:
                s.seen = True
            flag = flag and not inside
            start += hop
    return Expected(found, discarded)


def interpolated(buffer: list[Sample], instants: Any) -> list[list[float]]:
    times = np.array([s.mono - buffer[0].mono for s in buffer], float)
    at = (instants - buffer[0].mono).astype(float)
    columns = [np.interp(at, times, column) for column in np.array([s.value for s in buffer]).T]
    rows: list[list[float]] = np.stack(columns, axis=1).tolist()
    return rows


steps = st.lists(
    st.tuples(st.sampled_from([1, 9, 10, 10, 10, 11, 30, 200]), st.sampled_from([False] * 15 + [True])),
    max_size=120,
)
cuts = st.lists(st.integers(0, 200), max_size=30)
gap_rules = {"max_gap": st.sampled_from([None, 0.02]), "span_gaps": st.booleans()}
time_rules = {
    "seconds": st.sampled_from([0.01, 0.035, 0.05, 0.1]),
    "hop_seconds": st.sampled_from([None, 0.01, 0.02, 0.05, 0.12]),
    **gap_rules,
}


@given(steps, cuts, st.builds(WindowSpec, size=st.integers(1, 9), hop=st.integers(1, 14), **gap_rules))
def test_by_count_any_chunking_gives_what_the_definition_gives(
    steps: list[tuple[int, bool]], cuts: list[int], spec: WindowSpec
) -> None:
    samples = stream(steps)
    windower = Windower(spec, SENSOR)
    found = windows(windower, blocks(samples, cuts))
    expected = by_count(samples, spec)
    assert found == expected.windows
    assert windower.discarded == expected.discarded


@given(steps, cuts, st.builds(WindowSpec, **time_rules))
def test_by_time_any_chunking_gives_what_the_definition_gives(
    steps: list[tuple[int, bool]], cuts: list[int], spec: WindowSpec
) -> None:
    samples = stream(steps)
    windower = Windower(spec, SENSOR)
    found = windows(windower, blocks(samples, cuts))
    expected = by_time(samples, spec)
    assert found == expected.windows
    assert windower.discarded == expected.discarded


@given(steps, cuts, st.builds(WindowSpec, size=st.integers(1, 8), **time_rules))
def test_resampling_is_linear_interpolation_whatever_the_chunking(
    steps: list[tuple[int, bool]], cuts: list[int], spec: WindowSpec
) -> None:
    samples = stream(steps)
    found = windows(Windower(spec, SENSOR), blocks(samples, cuts))
    expected = by_time(samples, spec)
    assert [rest for _, *rest in found] == [rest for _, *rest in expected.windows]
    for (rows, *_), (wanted, *_) in zip(found, expected.windows, strict=True):
        np.testing.assert_allclose(rows, wanted, rtol=1e-5, atol=1e-4)


def regular(count: int, period_ms: int = 10) -> list[Sample]:
    return stream([(period_ms, False)] * count)


def test_a_source_at_the_wanted_rate_is_resampled_to_its_own_samples() -> None:
    windower = Windower(WindowSpec(seconds=0.1, size=10), SENSOR)
    samples = regular(31)
    found = windows(windower, blocks(samples, []))
    assert [row[0] for rows, *_ in found for row in rows] == [s.ordinal for s in samples[:30]]
    assert windower.spec.rate == 100.0
    assert windower.spec.dtype == np.float32


def test_a_sample_on_the_grid_is_not_spoilt_by_the_one_after_it() -> None:
    values = np.array([[1.0, 1.0], [np.nan, np.inf], [3.0, 3.0]], np.float32)
    mono = np.arange(3, dtype=np.int64) * 10 * MS + 10**12
    windower = Windower(WindowSpec(seconds=0.01, size=1), SENSOR)
    rows = [w.values.tolist() for w in windower.push(Samples(values, mono, mono, 0))]
    assert rows[0] == [[1.0, 1.0]]
    assert rows[2] == [[3.0, 3.0]]


def test_integers_are_resampled_without_wrapping() -> None:
    spec = SampleSpec((1,), np.dtype(np.uint8))
    mono = np.array([0, 10 * MS], np.int64) + 10**12
    samples = Samples(np.array([[200], [100]], np.uint8), mono, mono, 0)
    (window,) = Windower(WindowSpec(seconds=0.01, size=2), spec).push(samples)
    assert window.values.tolist() == [[200.0], [150.0]]


def test_windows_inside_a_block_are_views_of_it() -> None:
    block = blocks(regular(100), [])[0]
    for spec in (WindowSpec(size=1), WindowSpec(size=8), WindowSpec(size=8, hop=3), WindowSpec(size=2, hop=5)):
        made = list(Windower(spec, SENSOR).push(block))
        assert made
        assert all(np.shares_memory(window.values, block.values) for window in made)


@pytest.mark.parametrize("size", [1, 2])
def test_images_pass_as_they_are(size: int) -> None:
    spec = SampleSpec((4, 6, 3), np.dtype(np.uint8))
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 6, 3), np.uint8)
    stamps = np.arange(10, dtype=np.int64)
    windower = Windower(WindowSpec(size=size), spec)
    assert windower.spec.shape == (size, 4, 6, 3)
    found = [
        window.values.copy()
        for at in range(10)
        for window in windower.push(Samples(images[at : at + 1], stamps[at : at + 1], stamps[at : at + 1], at))
    ]
    np.testing.assert_array_equal(np.concatenate(found), images)
    assert found[0].dtype == np.uint8


def test_shapes_are_known_before_data_flow() -> None:
    assert Windower(WindowSpec(size=5), SENSOR).spec.shape == (5, 2)
    assert Windower(WindowSpec(seconds=1.0), SENSOR).spec.shape == (-1, 2)
    assert Windower(WindowSpec(seconds=1.0, size=7), SENSOR).spec.shape == (7, 2)


@pytest.mark.parametrize(
    ("window", "every", "hop"),
    [
        (WindowSpec(size=8), 1, 8),
        (WindowSpec(size=8, hop=2), 1, 2),
        (WindowSpec(size=8, hop=2), 3, 6),
        (WindowSpec(seconds=1.0), 1, None),
        (WindowSpec(seconds=1.0, size=50), 1, 50),
        (WindowSpec(seconds=0.3, hop_seconds=0.1, size=30), 2, 20),
        (WindowSpec(seconds=1.0, hop_seconds=0.01, size=50), 1, None),  # half a row
    ],
)
def test_the_hop_between_windows_that_are_used_is_known_where_it_is_whole(
    window: WindowSpec, every: int, hop: int | None
) -> None:
    assert windows_of(window, SENSOR, every).hop == hop


def test_a_jump_of_the_ordinal_is_a_gap() -> None:
    windower = Windower(WindowSpec(size=4), SENSOR)
    one, two = blocks(regular(3), [])[0], blocks(regular(4), [])[0]
    two.index = 90
    found = windows(windower, [one, two])
    assert found == [(two.values.tolist(), 93, True)]
    assert windower.discarded == 3


def test_a_gap_marked_on_an_empty_block_holds_for_the_next_samples() -> None:
    lost = empty_samples(SENSOR)
    lost.gap = True
    first, second = blocks(regular(6), [3])[::2]
    windower = Windower(WindowSpec(size=3), SENSOR)
    assert [flag for *_, flag in windows(windower, [lost, first, lost, empty_samples(SENSOR), second])] == [
        False,
        True,
    ]


def test_a_clock_that_stands_still_costs_bounded_memory() -> None:
    spec = SampleSpec((1 << 22,), np.dtype(np.uint8))
    block = np.zeros((1, 1 << 22), np.uint8)
    stamp = np.full(1, 10**12, np.int64)
    windower = Windower(WindowSpec(seconds=1.0), spec)
    assert not [w for at in range(70) for w in windower.push(Samples(block, stamp, stamp, at))]
    assert windower.discarded >= 30
    later = [list(windower.push(Samples(block, stamp + at * 10**9, stamp, 70 + at))) for at in range(3)]
    assert [window.gap for made in later for window in made] == [True, False]


def test_a_clock_that_runs_backwards_is_a_gap_even_where_gaps_are_spanned() -> None:
    stamps = np.array([0, 10, 20, -500, -490, -480, -470], np.int64) * MS + 10**12
    samples = Samples(np.zeros((7, 2), np.float32), stamps, stamps + 7, 0)
    windower = Windower(WindowSpec(seconds=0.02, span_gaps=True), SENSOR)
    assert [(index, flag) for _, index, flag in windows(windower, [samples])] == [(1, False), (4, True)]
    assert windower.discarded == 1


def test_a_leap_of_years_makes_no_flood_of_windows() -> None:
    stamps = np.array([0, 10, 20, 30], np.int64) * MS + 10**12
    stamps[2:] += 3 * 365 * 86_400 * 10**9
    samples = Samples(np.zeros((4, 2), np.float32), stamps, stamps + 7, 0)
    for size in (None, 2):
        windower = Windower(WindowSpec(seconds=0.01, size=size, span_gaps=True), SENSOR)
        assert len(windows(windower, [samples])) <= 4


@pytest.mark.parametrize(("size", "hop"), [(4, 1), (4, 3), (4, 4), (4, 6), (1, 3)])
def test_large_blocks_may_follow_small_ones_at_any_time(size: int, hop: int) -> None:
    spec = WindowSpec(size=size, hop=hop)
    for lead in range(40):
        samples = regular(lead + 50)
        windower = Windower(spec, SENSOR)
        found = windows(windower, blocks(samples, [*range(lead), lead + 20, lead + 22, lead + 49]))
        assert found == by_count(samples, spec).windows


@pytest.mark.parametrize("size", [None, 5])
def test_many_small_blocks_by_time_forget_what_is_past(size: int | None) -> None:
    spec = WindowSpec(seconds=0.1, hop_seconds=0.05, size=size)
    for count in range(100, 150):
        samples = regular(count)
        samples[-1].gap = True
        windower = Windower(spec, SENSOR)
        found = windows(windower, blocks(samples, range(count)))
        expected = by_time(samples, spec)
        assert [rest for _, *rest in found] == [rest for _, *rest in expected.windows]
        assert windower.discarded == expected.discarded
