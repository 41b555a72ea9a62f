"""The host of monitors: blocks, a share of the pipeline's time, faults of plugins, alarms and sketches."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from limpet.contracts.data import Samples
from limpet.contracts.drift import MonitorFigures, Moved
from limpet.contracts.monitor import Alarm, Observed
from limpet.contracts.reference import FeatureReference, Reference
from limpet.inference.gathering import BLOCK
from limpet.inference.monitoring import Monitoring, edges_of, misfit
from limpet.inference.pipeline import Pipeline
from limpet.inference.plan import MonitorPlan
from limpet.inference.resolving import Configured
from limpet.inference.single import plan_model
from limpet.monitors import univariate
from limpet.wire.border import check_monitors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHUTTLE = Path(__file__).parents[2] / "agent/limpet/demo_data/shuttle-1.limpet"
NAMES = [f"f{n}.mean" for n in range(1, 10)]


class Spy:
    """A monitor that keeps what it saw. ``say`` returns its alarm."""

    def __init__(self, say: Callable[[Observed], Alarm | None] = lambda _: None) -> None:
        self.level = 0.5
        self.seen: list[tuple[np.ndarray, np.ndarray, bool]] = []
        self._say = say

    def see(self, observed: Observed) -> Alarm | None:
        self.seen.append((observed.features.copy(), observed.times_ns.copy(), observed.gap))
        return self._say(observed)

    def reset(self) -> None:
        self.seen.clear()


def plugged(kind: str, monitor: object) -> Configured:
    return Configured(kind, SimpleNamespace(open=lambda _config, _reference, _thresholds: monitor), None)


def values(count: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(1).normal(shift, 1, (count, 9)).astype(np.float32)


def reference(thresholds: dict[str, dict[str, Any]], names: list[str] = NAMES) -> Reference:
    normal = values(4000)
    features = [
        FeatureReference(
            name=name,
            mean=float(normal[:, n].mean()),
            std=float(normal[:, n].std()),
            quantiles=np.quantile(normal[:, n], np.linspace(0, 1, 33)).tolist(),
            effective=4000,
        )
        for n, name in enumerate(names)
    ]
    return Reference(windows=4000, features=features, thresholds=thresholds)


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    with Pipeline(plan_model(SHUTTLE, None, ["cpu"], tmp_path)) as opened:
        yield opened


def watched(
    pipeline: Pipeline, tmp_path: Path, chosen: dict[str, object], share: float = 1e9, names: list[str] = NAMES
) -> Monitoring:
    path = tmp_path / "reference.json"
    path.write_bytes(msgspec.json.encode(reference({kind: {} for kind in chosen}, names)))
    plugins = tuple(plugged(kind, monitor) for kind, monitor in chosen.items())
    return Monitoring(pipeline, MonitorPlan(share, (), plugins), path)


def fed(pipeline: Pipeline, samples: np.ndarray, first: int = 0, *, gap: bool = False) -> int:
    stamps = (first + np.arange(len(samples))) * 1_000_000
    return sum(1 for _ in pipeline.feed(Samples(samples, stamps, stamps, first, gap)))


def looked(monitoring: Monitoring) -> MonitorFigures:
    """Return the figures after the last windows were looked at."""
    monitoring.tend(10**18)
    return monitoring.figures()


def test_monitors_see_all_windows_in_blocks_and_know_of_gaps(pipeline: Pipeline, tmp_path: Path) -> None:
    spy = Spy()
    monitoring = watched(pipeline, tmp_path, {"spy": spy})
    samples = values(BLOCK + 30)
    assert fed(pipeline, samples) == len(samples)
    assert fed(pipeline, samples[: BLOCK - 10], 500, gap=True) == BLOCK - 10
    monitoring.tend(10**18)
    assert [(len(features), gap) for features, _, gap in spy.seen] == [
        (BLOCK, True),
        (30, False),
        (BLOCK - 10, True),
    ]
    np.testing.assert_allclose(np.concatenate([spy.seen[0][0], spy.seen[1][0]]), samples, rtol=1e-6)
    assert spy.seen[2][1][0] == 500_000_000
    figures = monitoring.figures()
    assert (figures.windows, figures.skipped) == (2 * BLOCK + 20, 0)
    assert figures.monitors["spy"].level == 0.5
    assert monitoring.figures().windows == 0


def test_a_monitor_that_fails_is_left_out_by_name_and_the_others_go_on(pipeline: Pipeline, tmp_path: Path) -> None:
    def fail(_: Observed) -> Alarm | None:
        raise ZeroDivisionError("no windows")

    broken, sound = Spy(fail), Spy()
    monitoring = watched(pipeline, tmp_path, {"broken": broken, "sound": sound})
    assert fed(pipeline, values(3 * BLOCK)) == 3 * BLOCK
    states = looked(monitoring).monitors
    assert (len(broken.seen), len(sound.seen)) == (1, 3)
    (notice,) = monitoring.notices()
    assert notice.startswith("the monitor broken does not run: ZeroDivisionError: no windows")
    assert monitoring.notices() == []
    assert "no windows" in states["broken"].problem
    assert states["sound"].problem == ""


def test_windows_are_skipped_and_counted_where_monitors_would_exceed_their_share(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    spy = Spy()
    monitoring = watched(pipeline, tmp_path, {"spy": spy}, share=1e-9)
    assert fed(pipeline, values(10 * BLOCK)) == 10 * BLOCK
    figures = looked(monitoring)
    assert len(spy.seen) <= 1
    assert figures.skipped > 8 * BLOCK
    assert figures.busy_us > 0
    assert figures.spent_us > 0


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_windows_are_skipped_between_blocks_alone_and_the_next_block_says_so(
    pipeline: Pipeline, tmp_path: Path, share: float
) -> None:
    """Holes in a block once doubled the time between windows: a false alarm of the rate."""
    spy = Spy()
    monitoring = watched(pipeline, tmp_path, {"spy": spy}, share=share)
    first, samples = 0, values(50)
    while len(spy.seen) < 4 and first < 300_000:
        fed(pipeline, samples, first)
        monitoring.tend(10**9)
        first += 50
    assert len(spy.seen) >= 4
    assert monitoring.figures().skipped > 0
    before = -1
    for _, times, gap in spy.seen:
        places = times // 1_000_000
        assert (np.diff(places) == 1).all()
        assert gap == (places[0] != before + 1 or before < 0)
        before = places[-1]


def test_a_block_fills_up_if_there_is_no_time_for_the_next_one(pipeline: Pipeline, tmp_path: Path) -> None:
    def be_slow(_: Observed) -> None:
        until = perf_counter() + 0.002
        while perf_counter() < until:
            pass

    spy = Spy(be_slow)
    monitoring = watched(pipeline, tmp_path, {"spy": spy}, share=0.3)
    place, sample = 0, values(1)
    while len(spy.seen) < 3 and place < 30_000:  # As from a slow sensor: 10 s pass after each window.
        fed(pipeline, sample, place)
        monitoring.tend(10**18)
        place += 1
    sizes = [len(features) for features, _, _ in spy.seen[1:]]  # What the first one takes was not known.
    assert sum(sizes) > 20 * len(sizes) > 20


def test_a_reference_of_other_windows_is_a_problem_and_the_pipeline_runs(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    monitoring = watched(pipeline, tmp_path, {"spy": Spy()}, names=["temperature.mean"])
    assert fed(pipeline, values(9)) == 9
    assert "its reference has 'temperature.mean', which the windows here do not have" in monitoring.problem
    assert monitoring.figures().problem == monitoring.problem
    assert len(monitoring.notices()) == 1


def test_a_misfit_is_known_before_anything_is_opened(tmp_path: Path) -> None:
    plan = plan_model(SHUTTLE, None, ["cpu"], tmp_path)
    assert misfit(plan) == ""
    found = []
    for names in (NAMES, ["temperature.mean"]):
        path = tmp_path / f"{len(names)}.json"
        path.write_bytes(msgspec.json.encode(reference({}, names)))
        bundle = msgspec.structs.replace(plan.bundle, reference=path)
        found.append(misfit(msgspec.structs.replace(plan, bundle=bundle, monitors=MonitorPlan(0.05))))
    assert found[0] == ""
    assert found[1].startswith("monitors do not run: its reference has 'temperature.mean'")


def test_a_monitor_that_this_version_does_not_have_is_named(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_bytes(msgspec.json.encode(reference({"of_the_future": {}, "univariate": {"spans": "wrong"}})))
    states = Monitoring(pipeline, MonitorPlan(1e9), path).figures().monitors
    assert "'of_the_future' is not one of the monitors" in states["of_the_future"].problem
    assert "the reference's thresholds of univariate" in states["univariate"].problem


def test_whatever_a_monitor_says_is_within_the_limits_of_a_record(pipeline: Pipeline, tmp_path: Path) -> None:
    moved = [Moved(name="x" * 500 + "\n", before=float("nan"), now=float("inf"))] * 40
    strange = Alarm(moved, since_ns=1 << 62, p_value=float("nan"), fault="haunted", reason="\x1b" * 900)  # type: ignore[arg-type]
    spy = Spy(lambda _: strange)
    spy.level = float("inf")
    monitoring = watched(pipeline, tmp_path, {"spy": spy})
    fed(pipeline, values(BLOCK))
    figures = msgspec.msgpack.decode(msgspec.msgpack.encode(looked(monitoring)), type=MonitorFigures)
    check_monitors(figures)
    alarm = figures.monitors["spy"].alarm
    assert alarm is not None
    assert (alarm.fault, alarm.p_value, len(alarm.moved)) == ("", 0.0, 8)


def test_drift_of_one_channel_is_an_alarm_of_the_real_monitor_and_ends_with_it(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    normal = values(4000)
    whole = reference({})
    observed = Observed(
        normal, np.zeros(4000, np.float32), np.full(4000, -1, np.int32), None, np.arange(4000) * 1_000_000
    )
    whole.thresholds = {"univariate": univariate.calibrate(univariate.Config(), observed, whole, 1e-8)}
    path = tmp_path / "reference.json"
    path.write_bytes(msgspec.json.encode(whole))
    monitoring = Monitoring(pipeline, MonitorPlan(1e9), path)
    fed(pipeline, normal)
    assert monitoring.alarms == {}
    moved = normal.copy()
    moved[:, 4] += 3
    fed(pipeline, moved, 4000)
    alarm = monitoring.alarms["univariate"]
    assert alarm.moved[0].name == "f5.mean"
    assert alarm.since_s > 0
    for turn in range(2, 8):
        fed(pipeline, normal, turn * 4000)
    assert monitoring.alarms == {}


def test_sketches_count_each_window_once_in_the_bins_of_the_reference(pipeline: Pipeline, tmp_path: Path) -> None:
    monitoring = watched(pipeline, tmp_path, {"spy": Spy()})
    samples = values(5 * BLOCK, shift=0.5)
    fed(pipeline, samples)
    sketches = looked(monitoring).sketches
    edges = np.array(edges_of(reference({}).features[2]), np.float32)
    assert sketches["f3.mean"] == [
        int(np.sum(np.searchsorted(edges, samples[:, 2], "right") == n)) for n in range(12)
    ]
    assert all(sum(counts) == 5 * BLOCK for counts in sketches.values())
    assert monitoring.figures().sketches == {}


def test_another_pipeline_with_the_same_model_goes_on_with_the_monitors(tmp_path: Path) -> None:
    alarm = Alarm([], since_ns=0, p_value=0.0)
    found = []
    for identity in ("a" * 64, "b" * 64):
        plan = plan_model(SHUTTLE, None, ["cpu"], tmp_path)
        monitors = MonitorPlan(1e9, (), (plugged("spy", Spy(lambda _: alarm)),))
        old_plan = msgspec.structs.replace(plan, identity="a" * 64, monitors=monitors)
        new_plan = msgspec.structs.replace(plan, identity=identity, monitors=monitors)
        path = tmp_path / "reference.json"
        path.write_bytes(msgspec.json.encode(reference({"spy": {}})))
        with Pipeline(old_plan) as old, Pipeline(new_plan) as new:
            before, after = Monitoring(old, monitors, path), Monitoring(new, monitors, path)
            fed(old, values(BLOCK))
            before.tend(10**18)
            after.adopt(before)
            found.append(list(after.alarms))
    assert found == [["spy"], []]
