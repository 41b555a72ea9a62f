"""What holds for every monitor."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observations import DIMENSIONS, blocks, reference, windows

from limpet import plugins
from limpet.contracts.monitor import Abilities, Alarm, Need, Observed

REFERENCE_WINDOWS = windows(1, 4000)
REFERENCE = reference(REFERENCE_WINDOWS)
ALLOWED = 1e-8
KINDS = plugins.names("monitors")
each = pytest.mark.parametrize("kind", KINDS)


def calibrated(kind: str) -> dict[str, Any]:
    module = plugins.load("monitors", kind)
    thresholds: dict[str, Any] = module.calibrate(module.Config(), REFERENCE_WINDOWS, REFERENCE, ALLOWED)
    return thresholds


THRESHOLDS = {kind: calibrated(kind) for kind in KINDS}


def opened(kind: str) -> Any:
    module = plugins.load("monitors", kind)
    return module.open(module.Config(), REFERENCE, THRESHOLDS[kind])


@each
def test_it_declares_what_it_looks_at(kind: str) -> None:
    needs = plugins.abilities(plugins.load("monitors", kind), Abilities).needs
    assert needs
    assert set(needs) <= set(get_args(Need))


@each
def test_its_thresholds_survive_json(kind: str) -> None:
    thresholds = THRESHOLDS[kind]
    assert json.loads(json.dumps(thresholds, allow_nan=False)) == thresholds


@each
def test_windows_like_the_reference_raise_no_alarm(kind: str) -> None:
    monitor = opened(kind)
    assert all(monitor.see(block) is None for block in blocks(windows(2, 4096), 64))


def rounded(alarm: Alarm | None) -> Any:
    """Return what two equal alarms have in common: sums differ a little by the order of their terms."""
    if alarm is None:
        return None
    moved = [(one.name, f"{one.before:.6g}", f"{one.now:.6g}") for one in alarm.moved]
    return moved, alarm.since_ns, f"{alarm.p_value:.6g}", alarm.fault, alarm.reason


@each
def test_the_size_of_blocks_makes_no_difference(kind: str) -> None:
    observed = windows(3, 1100)
    observed.features += 3
    observed.scores[:] = 0.2
    observed.classes[:] = 2
    assert observed.embeddings is not None
    observed.embeddings += 3
    last = []
    for size in (1, 50, 64, 1100):
        monitor = opened(kind)
        for block in blocks(observed, size):
            alarm = monitor.see(block)
        last.append(rounded(alarm))
    assert last == last[:1] * 4


@each
def test_a_monitor_that_is_reset_goes_on_as_if_newly_opened(kind: str) -> None:
    monitor = opened(kind)
    strange = windows(4, 700)
    strange.features += 9
    monitor.see(strange)
    monitor.reset()
    fresh = opened(kind)
    for block in blocks(windows(5, 600), 64):
        assert monitor.see(block) == fresh.see(block)


numbers = st.sampled_from([0.0, 1.0, -1.0, 3e38, -3e38, float("nan"), float("inf"), float("-inf"), 1e-40])


@each
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_no_number_ends_a_monitor(kind: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 70))
    value = data.draw(numbers)
    observed = Observed(
        features=np.full((count, 4), value, np.float32),
        scores=np.full(count, data.draw(numbers), np.float32),
        classes=np.full(count, data.draw(st.integers(-1, 2)), np.int32),
        embeddings=np.full((count, DIMENSIONS), value, np.float32),
        times_ns=np.full(count, data.draw(st.sampled_from([0, 5, -5, 1 << 62])), np.int64),
    )
    monitor = opened(kind)
    for _ in range(4):
        alarm = monitor.see(observed)
        if alarm:
            assert 0 <= alarm.p_value <= 1
            assert all(np.isfinite([moved.before, moved.now]).all() for moved in alarm.moved)
            msgspec.json.encode(alarm)


foreign = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@each
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_thresholds_that_a_monitor_cannot_use_are_refused(kind: str, data: st.DataObject) -> None:
    thresholds = dict(THRESHOLDS[kind])
    thresholds[data.draw(st.sampled_from([*thresholds, "no_such_key"]))] = data.draw(foreign)
    module = plugins.load("monitors", kind)
    try:
        monitor = module.open(module.Config(), REFERENCE, thresholds)
    except ValueError as error:
        problem = str(error)
    else:
        problem = kind
        monitor.see(windows(6, 600))
    assert kind in problem


@each
def test_a_reference_without_what_it_needs_is_refused(kind: str) -> None:
    module = plugins.load("monitors", kind)
    empty = type(REFERENCE)(windows=0)
    with pytest.raises(ValueError, match="reference"):
        module.calibrate(module.Config(), windows(1, 0), empty, ALLOWED)
    with pytest.raises(ValueError, match="reference"):
        module.open(module.Config(), empty, THRESHOLDS[kind])
