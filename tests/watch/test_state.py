"""What is known of devices: messages of any kind go in, and only what is right about its topic is believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limpet.watch import plain, state
from limpet.watch.state import Watched
from watch import messages as said

WALK = {"label": "walking", "score": 0.92, "top": [{"label": "walking", "score": 0.92}], "abstained": False}


def after(*received: tuple[str, bytes], now: float = 100.0) -> Watched:
    watched = Watched()
    for topic, payload in received:
        watched.take("press-07", topic, payload, now)
    return watched


def motion(watched: Watched) -> state.Pipeline:
    return watched.devices["press-07"].pipelines["motion"]


def test_messages_of_a_device_are_kept_by_what_they_are_about() -> None:
    watched = after(
        ("status", said.status()),
        ("health", said.device_health()),
        ("health/motion", said.pipeline_health()),
        ("model/motion/reported", said.payload(
            pipeline="motion", time=said.NOON, model="motion", version=3, state="running", reason="",
            delegate="cpu", degraded=False,
        )),
        ("event/motion", said.event("running")),
        ("event", said.event("clock_set", pipeline="")),
        ("input/board", said.inputs([1.0, None], [2.0, 3.0])),
        ("result/motion", said.result(8, WALK)),
    )  # fmt: skip
    device = watched.devices["press-07"]
    assert watched.unreadable == 0
    assert (device.status and device.status.status, device.health and device.health.pss_mb) == ("online", 57.0)
    assert [event.event for event in device.events] == ["running", "clock_set"]
    assert [list(curve) for curve in device.sources["board"].curves] == [[1.0, 2.0], [3.0]]
    assert device.source_of("motion") is device.sources["board"]
    pipeline = motion(watched)
    assert (pipeline.state, pipeline.results, pipeline.dropped) == ("running", 8, {"queue": 3})
    assert pipeline.words is not None
    assert pipeline.words.text == "walking 92%"


def test_an_event_that_comes_again_is_one_event() -> None:
    device = after(("event/motion", said.event("gap")), ("event/motion", said.event("gap"))).devices["press-07"]
    assert device.event_count == len(device.events) == 1


def test_events_that_came_too_fast_to_be_kept_are_counted() -> None:
    watched = after(*(("event/motion", said.event(str(number))) for number in range(state.MOST_EVENTS + 20)))
    events, lost = watched.devices["press-07"].events_after(10)
    assert (len(events), events[0].event, lost) == (state.MOST_EVENTS, "20", 10)
    assert watched.devices["press-07"].events_after(state.MOST_EVENTS + 20) == ([], 0)


def test_health_that_a_newer_one_overtook_changes_nothing() -> None:
    newer = said.pipeline_health(time="2026-11-28T12:00:01Z", state="waiting")
    assert motion(after(("health/motion", newer), ("health/motion", said.pipeline_health()))).state == "waiting"
    clock_set_back = said.pipeline_health(time="2026-11-28T11:00:00Z", state="failed")
    assert motion(after(("health/motion", newer), ("health/motion", clock_set_back))).state == "failed"


def test_a_batch_of_results_counts_each_of_them() -> None:
    batch = b"[" + said.result(1, WALK) + b"," + said.result(2, {**WALK, "label": "rest"}) + b"]"
    pipeline = motion(after(("result/motion", batch)))
    assert pipeline.results == 2
    assert pipeline.words is not None
    assert pipeline.words.text.startswith("rest")


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("result/motion", said.result(1, WALK, device="other-device")),
        ("result/motion", said.result(1, WALK, pipeline="other")),
        ("health/motion", said.pipeline_health(state="\x1b[2J")),
        ("health/motion", said.pipeline_health(dropped={"queue": "many"})),
        ("event", said.event("running")),
        ("input/board", said.inputs([1.0], source="camera")),
        ("status", said.status(status="ONLINE")),
        ("result/motion", b"\xff\xfe"),
        ("result/motion", b"[" * 100_000),
        ("result/motion", b'{"device": "press-07"}'),
        ("result/motion", b"null"),
        ("result/motion", said.result(1, "x" * state.LARGEST)),
        ("result/mot\x1bion", said.result(1, WALK, pipeline="mot\x1bion")),
        ("result/a/b", said.result(1, WALK, pipeline="a/b")),
        ("model/motion/desired", b"{}"),
        ("result/motion", said.result(10**400, WALK)),
        ("health/motion", said.pipeline_health(results=10**400)),
        ("health/motion", said.pipeline_health(time="2026-11-28T12:00:00")),  # in no time zone
        ("event/motion", said.event("gap", time="0001-01-01T00:00:00+14:00")),
        ("event/motion", said.event("gap", time="9999-12-31T23:59:59-14:00")),
        ("", b""),
    ],
)
def test_a_message_that_is_not_what_its_topic_says_shows_nothing_and_is_counted(
    topic: str, payload: bytes
) -> None:
    watched = after((topic, payload))
    assert watched.unreadable == 1
    assert not any(device.pipelines or device.events for device in watched.devices.values())


@pytest.mark.parametrize("name", ["", "a/b", "\x1b]0;x\x07", "x" * 65, "-x", "пресс"])
def test_a_device_with_a_name_that_none_can_have_is_not_shown(name: str) -> None:
    watched = Watched()
    watched.take(
        name, "status", json.dumps({"device": name, "boot": "1", "version": "1", "status": "online"}).encode(), 0.0
    )
    assert (watched.devices, watched.unreadable) == ({}, 1)


def test_devices_and_pipelines_are_bounded() -> None:
    watched = Watched()
    for number in range(2 * state.MOST_DEVICES):
        watched.take(f"d{number}", "status", said.status(device=f"d{number}"), 0.0)
    for number in range(2 * state.MOST_PIPELINES):
        watched.take(
            "d0", f"event/p{number}", said.event(f"running {number}", device="d0", pipeline=f"p{number}"), 0.0
        )
        watched.take("d0", f"health/p{number}", said.pipeline_health(device="d0", pipeline=f"p{number}"), 0.0)
    assert len(watched.devices) == state.MOST_DEVICES
    assert len(watched.devices["d0"].pipelines) == state.MOST_PIPELINES
    assert len(watched.devices["d0"].events) == state.MOST_EVENTS


def test_the_deletion_of_a_retained_message_is_none() -> None:
    assert after(("health/motion", b""), ("model/motion/reported", b"")).unreadable == 0


def test_results_a_second_are_counted_by_their_numbers_and_fade_when_none_come() -> None:
    watched = Watched()
    for second in range(6):
        watched.take("press-07", "result/motion", said.result(1 + 10 * second, WALK), 100.0 + second)
    assert motion(watched).rate(105.0) == 10.0
    late = motion(watched).rate(125.0)
    assert late is not None
    assert 0 < late < 1
    assert motion(after(("result/motion", said.result(1, WALK)))).rate(101.0) is None


def test_another_run_of_the_daemon_begins_anew() -> None:
    watched = after(("status", said.status()), ("result/motion", said.result(900, WALK)))
    watched.take("press-07", "status", said.status(), 101.0)
    assert motion(watched).results == 900
    watched.take("press-07", "status", said.status(boot="5-def"), 102.0)
    assert watched.devices["press-07"].pipelines == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just(said.NOON),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WHOLE = {
    "status": said.status(), "health": said.device_health(), "health/motion": said.pipeline_health(),
    "event/motion": said.event("x"), "input/board": said.inputs([1.0]), "result/motion": said.result(1, WALK),
    "log": said.log_line("x", left_out=1),
    "health ": said.device_health(
        api={"state": "listening", "addresses": ["x"]}, audit={"seq": 1, "sha256": "x"},
        accelerators=[{"name": "n", "where": "w", "delegate": "d", "usable": False, "why_not": ["x"]}],
    ),
    "health/motion ": said.pipeline_health(placement={"op_share": 0.5}, clipped=0.5, sandbox=["x"]),
}  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a message with some fields replaced, or any bytes."""
    key = draw(st.sampled_from(sorted(WHOLE)))
    topic = key.strip()
    if draw(st.booleans()):
        return topic, draw(st.binary(max_size=50))
    fields = json.loads(WHOLE[key])
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), max_size=3))
    return topic, json.dumps(fields | {name: draw(JSON) for name in chosen}).encode()


@settings(max_examples=50)
@given(st.lists(damaged(), max_size=6))
@example(
    [
        (
            "result/motion",
            said.result(10**15, {"values": {"t": 1e308}, "units": {}, "in_range": True, "out_of_range": []}),
        )
    ]
)
def test_no_message_raises_and_lines_are_printable(received: list[tuple[str, bytes]]) -> None:
    watched = after(*received)
    for device in watched.devices.values():
        for event in device.events:
            assert plain.event_line(event).isprintable()
        for pipeline in device.pipelines.values():
            assert plain.pipeline_line(device, pipeline, 101.0).isprintable()
        assert len(plain.status_line([device], 101.0, 40, 3)) <= 40


def test_a_line_says_what_a_pipeline_does() -> None:
    watched = after(
        ("health/motion", said.pipeline_health()),
        ("input/board", said.inputs([1.0])),
        ("result/motion", said.result(8, WALK)),
    )
    device = watched.devices["press-07"]
    assert plain.pipeline_line(device, motion(watched), 100.0) == (
        "motion: walking 92%, 99.6 samples/s, 8 results, dropped: queue 3"
    )
    watched.take("press-07", "health/motion", said.pipeline_health(state="waiting", reason="no port"), 100.0)
    assert plain.pipeline_line(device, motion(watched), 100.0) == (
        "motion: waiting (no port), 8 results, dropped: queue 3"
    )
    away = said.pipeline_health(state="waiting", reason="unplugged", dropped={"unplugged": 1})
    watched.take("press-07", "health/motion", away, 100.0)
    assert plain.pipeline_line(device, motion(watched), 100.0) == (
        "motion: waiting (unplugged), 8 results, source: unplugged 1 time"
    )


def test_pipelines_that_do_not_fit_into_a_line_take_turns() -> None:
    watched = Watched()
    for name in ("one", "two"):
        watched.take("press-07", f"health/{name}", said.pipeline_health(pipeline=name, dropped={}), 0.0)
    devices = list(watched.devices.values())
    whole = "one: no result yet, 7 results | two: no result yet, 7 results"
    assert plain.status_line(devices, 0.0, 80, 1) == whole
    assert plain.status_line(devices, 0.0, 40, 0).startswith("one: ")
    assert plain.status_line(devices, 0.0, 40, 1).startswith("two: ")
