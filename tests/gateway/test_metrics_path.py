"""``/metrics`` of a real daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from limpet.gateway.metrics.exposition import OPEN_METRICS, TEXT
from limpet.gateway.metrics.routes import Page
from support.api_daemon import ApiDaemon, api_daemon
from support.broker import wait_until
from support.figures import figures, served

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import Metric


def _scrape(running: ApiDaemon) -> dict[str, Metric]:
    answer = running.request("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    return {metric.name: metric for metric in text_string_to_metric_families(answer.body.decode())}


def test_the_figures_of_a_daemon_that_works_rise(tmp_path: Path) -> None:
    with api_daemon(tmp_path) as running:
        wait_until(lambda: _results(running) > 0)
        first = _scrape(running)
        wait_until(lambda: _results(running) > first["limpet_pipeline_results"].samples[0].value)
        wait_until(lambda: _invoked(_scrape(running)) > _invoked(first))
        last = _scrape(running)
    assert last["limpet_device"].samples[0].labels["device"] == "press-07"
    assert last["limpet_pipeline"].samples[0].labels["model"] == "dense"
    started = [found["limpet_start_time_seconds"].samples[0].value for found in (first, last)]
    assert abs(started[0] - started[1]) < 1
    for name, metric in first.items():
        if metric.type == "counter":
            assert last[name].samples[0].value >= metric.samples[0].value, name


def _results(running: ApiDaemon) -> float:
    return _scrape(running)["limpet_pipeline_results"].samples[0].value


def _invoked(found: dict[str, Metric]) -> float:
    metric = found.get("limpet_pipeline_stage_duration_seconds")
    samples = metric.samples if metric else []
    return sum(one.value for one in samples if one.name.endswith("_count") and one.labels["stage"] == "invoke")


def test_the_text_is_written_again_for_other_figures_and_another_format() -> None:
    page, first, second = Page(served()), figures(), figures(load_1m=9.5)
    assert page.text(first, TEXT) is page.text(first, TEXT)
    assert page.text(first, OPEN_METRICS).endswith(b"# EOF\n")
    assert b"limpet_machine_load 9.5\n" in page.text(second, TEXT)
    assert b'limpet_inference_windows_total{model="gesture",version="3"} 16\n' in page.text(second, TEXT)
