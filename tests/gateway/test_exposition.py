"""The text that Prometheus reads, read back by ``prometheus_client``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from limpet.gateway.metrics.exposition import OPEN_METRICS, TEXT, accepted, name_of, write
from limpet.gateway.metrics.families import families
from limpet.gateway.metrics.family import Durations, Family, Point
from support.figures import figures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def _samples(found: Iterable[Metric]) -> dict[str, list[tuple[dict[str, str], float]]]:
    read: dict[str, list[tuple[dict[str, str], float]]] = {}
    for metric in found:
        for sample in metric.samples:
            read.setdefault(sample.name, []).append((sample.labels, sample.value))
    return read


def test_both_formats_say_the_same() -> None:
    found = families(figures(pipelines=2))
    plain = _samples(read_text(write(found, TEXT).decode()))
    assert plain == _samples(read_open_metrics(write(found, OPEN_METRICS).decode()))
    assert plain["limpet_pipeline_results_total"] == [
        ({"pipeline": "motion"}, 1200),
        ({"pipeline": "motion-2"}, 1200),
    ]
    assert plain["limpet_machine_temperature_celsius"] == [({}, 61.5)]
    assert plain["limpet_accelerator_usable"][0][1] == 1


def test_every_family_has_its_kind_unit_and_text() -> None:
    found = families(figures())
    read = {metric.name: metric for metric in read_open_metrics(write(found, OPEN_METRICS).decode())}
    for family in found:
        metric = read[name_of(family)]
        assert (metric.type, metric.documentation) == (family.kind, family.text)
        assert metric.unit == "" or metric.name.endswith(f"_{metric.unit}")


def test_buckets_of_a_histogram_add_up_to_its_count() -> None:
    value = Durations(tuple(range(24)), 12.5)
    text = write([Family("limpet.wait", "histogram", "s", "", [Point({}, value)])], OPEN_METRICS).decode()
    read = _samples(read_open_metrics(text))
    buckets = [count for _, count in read["limpet_wait_seconds_bucket"]]
    assert buckets == sorted(buckets)
    assert read["limpet_wait_seconds_bucket"][-1] == ({"le": "+Inf"}, sum(range(24)))
    assert read["limpet_wait_seconds_count"] == [({}, sum(range(24)))]
    assert read["limpet_wait_seconds_sum"] == [({}, 12.5)]


@given(st.text(max_size=30), st.floats())
def test_any_label_and_number_is_read_back(label: str, value: float) -> None:
    found = [Family("limpet.odd", "gauge", "", "A\n\\ text.", [Point({"label": label}, value)])]
    ((labels, read),) = _samples(read_open_metrics(write(found, OPEN_METRICS).decode()))["limpet_odd"]
    assert labels["label"] == label
    assert read == value or (read != read and value != value)  # noqa: PLR0124 - NaN


def test_a_half_character_in_a_label_is_replaced() -> None:
    found = [Family("limpet.odd", "gauge", "", "", [Point({"label": "a\ud800"}, 1)])]
    assert b'label="a?"' in write(found, TEXT)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html, text/plain;q=0.9", TEXT),
        (PROMETHEUS, OPEN_METRICS),
        ("application/openmetrics-text", OPEN_METRICS),
        ("application/openmetrics-text;q=0.1, text/plain", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=x", TEXT),
        (";;,,;q=", TEXT),
    ],
)
def test_open_metrics_are_written_for_those_who_prefer_them(accept: str, expected: object) -> None:
    assert accepted(accept) == expected
