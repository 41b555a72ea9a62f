"""What a worker says about its monitors: within limits, printable and finite, or it is refused."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.drift import MOST_SKETCHES, MonitorFigures, MonitorState, Moved, OpenAlarm
from limpet.errors import UnreadableError
from limpet.wire.border import check
from limpet.wire.records import Figures, FromWorker, Heartbeat

DECODER = msgspec.msgpack.Decoder(FromWorker)
NUMBERS = st.one_of(st.floats(), st.integers(-5, 1 << 62))
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["stuck", "x\n", "y" * 700]))
MOVED = st.fixed_dictionaries({"name": TEXTS, "before": NUMBERS, "now": NUMBERS})
ALARMS = st.fixed_dictionaries(
    {}, optional={"fault": TEXTS, "moved": st.lists(MOVED, max_size=10), "since_s": NUMBERS, "p_value": NUMBERS}
)
STATES = st.fixed_dictionaries({}, optional={"level": NUMBERS, "alarm": ALARMS, "problem": TEXTS})
FIGURES = st.fixed_dictionaries(
    {},
    optional={
        "windows": NUMBERS,
        "monitors": st.dictionaries(TEXTS, STATES, max_size=18),
        "sketches": st.dictionaries(TEXTS, st.lists(NUMBERS, max_size=3), max_size=3),
        "problem": TEXTS,
    },
)


INFINITE = Moved(name="x", before=0, now=math.inf)


def heard(figures: object) -> MonitorFigures:
    """Return figures as the supervisor has them."""
    data = msgspec.msgpack.encode({"type": "Heartbeat", "pipelines": {"a": {"monitors": figures}}, "dropped": {}})
    record = DECODER.decode(data)
    check(record, {"a"}, {})
    assert isinstance(record, Heartbeat)
    monitors = record.pipelines["a"].monitors
    assert monitors is not None
    return monitors


@given(FIGURES)
def test_figures_are_refused_or_can_be_published(figures: dict[str, object]) -> None:
    try:
        monitors = heard(figures)
    except (UnreadableError, msgspec.ValidationError):
        return
    for name, state in monitors.monitors.items():
        assert name.isprintable()
        assert 0 <= state.level <= 1e6
        if state.alarm is not None:
            assert all(math.isfinite(one.now) and one.name.isprintable() for one in state.alarm.moved)
    assert b"null" not in msgspec.json.encode(msgspec.structs.replace(monitors, problem="")).replace(
        b'"alarm":null', b""
    )


@pytest.mark.parametrize(
    "bad",
    [
        MonitorFigures(monitors={"m": MonitorState(level=math.nan)}),
        MonitorFigures(monitors={"m": MonitorState(alarm=OpenAlarm(p_value=math.nan))}),
        MonitorFigures(monitors={"m": MonitorState(alarm=OpenAlarm(moved=[INFINITE]))}),
        MonitorFigures(monitors={"m": MonitorState(problem="a\x1bb")}),
        MonitorFigures(sketches={f"{n}": [1] for n in range(MOST_SKETCHES + 1)}),
        MonitorFigures(sketches={"x": [1] * 66}),
        MonitorFigures(windows=-1),
    ],
)
def test_what_is_out_of_limits_is_refused(bad: MonitorFigures) -> None:
    data = msgspec.msgpack.encode(Heartbeat({"a": Figures(monitors=bad)}, {}))
    with pytest.raises((UnreadableError, msgspec.ValidationError)):
        check(DECODER.decode(data), {"a"}, {})
