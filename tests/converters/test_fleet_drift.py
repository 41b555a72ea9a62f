"""Sketches of a fleet: added over devices and restarts, and compared with the reference."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.monitor import Observed
from limpet.contracts.reference import FeatureReference, Reference
from limpet.inference.monitoring import Sketches
from limpet_convert import cli, fleet_drift
from support.bundles import bundle

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(5)
NORMAL = RANDOM.normal(size=8000).astype(np.float32)
DISCRETE = RANDOM.choice([0.0, 0.5, 1.0], 8000, p=[0.7, 0.2, 0.1]).astype(np.float32)


def feature(name: str, values: np.ndarray) -> FeatureReference:
    return FeatureReference(
        name=name,
        mean=float(values.mean()),
        std=float(values.std()),
        quantiles=np.quantile(values, np.linspace(0, 1, 65)).tolist(),
        effective=len(values),
    )


REFERENCE = Reference(windows=8000, features=[feature("x.mean", NORMAL), feature("x.repeated", DISCRETE)])


def sketches(first: np.ndarray, second: np.ndarray) -> dict[str, list[int]]:
    """Return what a device counts of these windows."""
    made = Sketches(REFERENCE, 0)
    nothing = np.full(len(first), -1, np.int32)
    scores = nothing.astype(np.float32)
    made.count(Observed(np.stack([first, second], 1), scores, nothing, None, nothing.astype(np.int64)))
    return made.take()


def line(device: str, time: int, found: dict[str, list[int]], **fields: Any) -> bytes:
    health = {"device": device, "pipeline": "motion", "time": f"2026-01-01T00:00:{time:02}Z", "model": "motion"}
    return msgspec.json.encode({**health, "version": 7, "monitors": {"sketches": found}, "other": 1, **fields})


def test_windows_of_the_reference_have_an_index_near_zero_and_moved_ones_a_large_one() -> None:
    usual = fleet_drift.add_up([line("a", 1, sketches(NORMAL, DISCRETE))], "motion", 7)
    rows = {row.feature: row for row in fleet_drift.compare(usual, REFERENCE)}
    assert rows["x.mean"].windows == 8000
    assert rows["x.mean"].index < 0.01
    assert rows["x.repeated"].index < 0.02
    moved = fleet_drift.add_up([line("a", 1, sketches(NORMAL + 1, DISCRETE))], "motion", 7)
    first = fleet_drift.compare(moved, REFERENCE)[0]
    assert (first.feature, first.device) == ("x.mean", "a")
    assert first.index > fleet_drift.LARGE
    assert first.outside == pytest.approx(float((NORMAL.max() <= NORMAL + 1).mean()), abs=1e-3)


def test_counts_add_over_devices_and_over_restarts_of_one() -> None:
    lines = [
        line("a", 3, {"x.mean": [5, 0]}),  # started again
        line("a", 1, {"x.mean": [4, 2]}),
        line("a", 2, {"x.mean": [9, 3]}),
        line("b", 1, {"x.mean": [1, 1]}),
        line("b", 2, {"x.mean": [1, 2]}),
        line("c", 1, {"x.mean": [100, 100]}, version=8),
        line("d", 1, {"x.mean": [100, 100]}, pipeline="other"),
        b"not JSON",
        b'{"type": "result"}',
        b"",
    ]
    sums = fleet_drift.add_up(lines, "motion", 7, "motion")
    assert sums.devices == {"a": {"x.mean": [14, 3]}, "b": {"x.mean": [1, 2]}}
    assert sums.of("x.mean") == [15, 5]
    assert (sums.messages, sums.unreadable) == (5, 1)


@given(st.lists(st.lists(st.integers(0, 1 << 60), max_size=5), max_size=6), st.binary(max_size=40))
def test_messages_of_any_kind_add_up_to_something(counts: list[list[int]], other: bytes) -> None:
    lines = [line("a", place, {"x.mean": found}) for place, found in enumerate(counts)]
    sums = fleet_drift.add_up([*lines, other.replace(b"\n", b"")], "motion", 7)
    for row in fleet_drift.compare(sums, REFERENCE):
        assert row.index >= 0


def test_the_command_prints_a_table_and_fails_if_a_feature_is_far_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = {"model.tflite": b"m", "reference.json": msgspec.json.encode(REFERENCE)}
    path = bundle(tmp_path / "motion-7.limpet", members, version=7, reference="reference.json")
    usual, moved = tmp_path / "usual.jsonl", tmp_path / "moved.jsonl"
    usual.write_bytes(line("a", 1, sketches(NORMAL, DISCRETE)) + b"\n")
    moved.write_bytes(line("b\x1b", 1, sketches(NORMAL + 2, DISCRETE)) + b"\n")
    assert cli.main(["drift", str(path), str(usual)]) == 0
    assert "1 devices, 1 messages" in capsys.readouterr().out
    assert cli.main(["drift", str(path), str(usual), str(moved)]) == 1
    out = capsys.readouterr().out
    assert "b\\x1b" in out
    assert "large" in out
    assert cli.main(["drift", str(path), str(usual), str(moved), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["devices"], document["features"][0]["feature"]) == (2, "x.mean")
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    assert cli.main(["drift", str(path), str(empty)]) == 1
    assert "no message has sketches of motion 7" in capsys.readouterr().err
