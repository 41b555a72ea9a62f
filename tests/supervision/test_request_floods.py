"""Someone sends requests as fast as the network takes them."""

from __future__ import annotations

from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from limpet.config import Config, Device, PipelineConfig
from limpet.contracts.deliveries import Delivery
from limpet.supervision.update_files import UpdateFiles
from limpet.supervision.update_requests import AT_ONCE, UpdateRequests
from limpet.tables import UpdatesTable
from limpet.updates.state import Updates
from limpet.updates.stimuli import Cleared, Refused

if TYPE_CHECKING:
    from pathlib import Path

NOTHING: Any = None
"""Processes are not needed for requests that are too large, and for withdrawals."""
TOO_LARGE = b" " * 100_000


def test_attack_a_flood_of_requests_is_paced_and_the_newest_one_is_taken(tmp_path: Path) -> None:
    heard: list[tuple[str, Any]] = []

    def feed(name: str, stimulus: Any) -> bool:
        heard.append((name, stimulus))
        return True

    pipelines = {name: PipelineConfig(source="line", model="m.tflite") for name in ("p", "q")}
    device = Device(id="d", state=tmp_path)
    config = Config(tmp_path, device, {}, pipelines, {}, updates=UpdatesTable())
    requests = UpdateRequests(UpdateFiles(tmp_path), NOTHING, feed, NOTHING, NOTHING, NOTHING)

    def take(name: str, payload: bytes) -> None:
        requests.take(Delivery("desired", name, payload, False, "mqtt"), config, Updates())

    for count in range(1000):
        take("p", TOO_LARGE if count % 2 else b"")
    flood = len(heard)
    assert AT_ONCE <= flood < AT_ONCE + 10
    take("q", b"")
    assert heard[-1] == ("q", Cleared("mqtt"))
    due = requests.next_due()
    assert due is not None
    requests.tend(config, Updates())
    sleep(max(due - monotonic(), 0.0))
    while requests.next_due() is not None:
        requests.tend(config, Updates())
    assert len(heard) == flood + 2
    assert heard[-1][0] == "p"
    assert isinstance(heard[-1][1], Refused)


def test_a_request_that_waits_for_a_pipeline_that_was_removed_is_forgotten(tmp_path: Path) -> None:
    pipelines = {"p": PipelineConfig(source="line", model="m.tflite")}
    config = Config(tmp_path, Device(id="d", state=tmp_path), {}, pipelines, {}, updates=UpdatesTable())
    requests = UpdateRequests(UpdateFiles(tmp_path), NOTHING, lambda *_: True, NOTHING, NOTHING, NOTHING)
    for _ in range(100):
        requests.take(Delivery("desired", "p", b"", False, "mqtt"), config, Updates())
    due = requests.next_due()
    assert due is not None
    sleep(max(due - monotonic(), 0.0))
    without = Config(tmp_path, config.device, {}, {}, {}, updates=UpdatesTable())
    requests.tend(without, Updates())
    assert requests.next_due() is None
