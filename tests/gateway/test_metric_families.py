"""The device's figures as metrics."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limpet import histogram
from limpet.gateway.metrics.families import families
from limpet.gateway.metrics.family import BOUNDS, Durations, Family, Point, durations
from limpet.gateway.metrics.inference import inference_families
from support.figures import figures, served


def _by_name(found: list[Family]) -> dict[str, Family]:
    return {family.name: family for family in found}


def test_what_a_machine_cannot_measure_is_left_out() -> None:
    before = _by_name(families(figures()))
    after = _by_name(families(figures(temperature_c=None, pss_mb=None, accelerators=[], audit=None)))
    assert before.keys() - after.keys() == {
        "limpet.machine.temperature",
        "limpet.memory",
        "limpet.accelerator.usable",
        "limpet.audit.lost.lines",
    }


def test_a_pipeline_has_one_state_among_all() -> None:
    points = _by_name(families(figures()))["limpet.pipeline.state"].points
    assert [point.labels["state"] for point in points if point.value] == ["running"]
    assert len(points) == 6


def test_figures_of_a_reporter_that_are_no_numbers_are_no_metrics() -> None:
    reporters = {"odd": {"kind": 7, "waiting": "many", "shed": [1], "published": None, "missed": 2}}
    found = _by_name(families(figures(reporters=reporters)))
    assert found["limpet.reporter"].points[0].labels == {"reporter": "odd", "kind": "7"}
    assert {name for name in found if name.startswith(("limpet.reporter", "limpet.outbox"))} == {
        "limpet.reporter",
        "limpet.reporter.missed.messages",
    }


def test_counters_rise_with_what_they_count() -> None:
    found = _by_name(families(figures()))
    assert found["limpet.pipeline.results"].points[0].value == 1200
    assert found["limpet.pipeline.dropped.samples"].points[0].labels == {"pipeline": "motion", "cause": "queue"}
    assert found["limpet.machine.cpu.busy"].points[0].value == 40.0


def test_what_clients_had_models_do_is_counted_by_model_and_outcome() -> None:
    found = _by_name(inference_families(served()))
    labels = {"model": "gesture", "version": "3"}
    assert found["limpet.inference.requests"].points == [
        Point({**labels, "outcome": "success"}, 8),
        Point({**labels, "outcome": "failed"}, 1),
    ]
    assert {name: family.points for name, family in found.items() if name != "limpet.inference.requests"} == {
        "limpet.inference.windows": [Point(labels, 16)],
        "limpet.inference.runs": [Point(labels, 2.5)],
        "limpet.inference.request.time": [Point(labels, 0.004)],
        "limpet.inference.queue.time": [Point(labels, 0.001)],
        "limpet.inference.run.time": [Point(labels, 0.002)],
    }
    assert inference_families({}) == []


def test_bounds_are_powers_of_two_as_native_histograms_have_them() -> None:
    assert all(bound.hex().startswith("0x1.0000000000000p") for bound in BOUNDS)


@given(st.lists(st.integers(0, 60_000_000_000), max_size=40))
def test_durations_are_counted_at_most_a_sixteenth_too_high(values: list[int]) -> None:
    buckets: dict[int, int] = {}
    for value in values:
        histogram.merge(buckets, {histogram.bucket_of(value): 1})
    counted = durations(buckets)
    assert sum(counted.counts) == len(values)
    below = 0
    for bound, count in zip(BOUNDS, counted.counts, strict=False):
        below += count
        assert below <= sum(value <= bound * 1e9 for value in values)
        assert below >= sum(value < bound * 1e9 * 15 / 16 for value in values)
    assert abs(counted.total_s - sum(values) / 1e9) <= sum(values) / 32e9 + len(values) * 1e-9


@given(st.dictionaries(st.integers(0, histogram.BUCKETS - 1), st.integers(0, 1 << 32), max_size=20))
def test_a_histogram_only_rises(buckets: dict[int, int]) -> None:
    before = durations(buckets)
    after = durations({bucket: count + 1 for bucket, count in buckets.items()})
    assert all(new >= old for new, old in zip(after.counts, before.counts, strict=True))
    assert after.total_s >= before.total_s
    assert isinstance(after, Durations)
