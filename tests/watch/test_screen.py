"""The screen fits any terminal, and shows what matters most."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from limpet.errors import LimpetError
from limpet.watch.picture import save_svg
from limpet.watch.screen import PAGES, View, frame
from limpet.watch.state import Watched
from limpet.watch.words import cells
from watch import messages as said
from watch.test_state import WALK, after, damaged

if TYPE_CHECKING:
    from pathlib import Path


def drawn(watched: Watched, width: int, height: int, view: View | None = None) -> list[str]:
    """Return the lines that a terminal would show."""
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(frame(watched, view or View(), (width, height), 101.0))
    return capture.get().splitlines()


def whole() -> Watched:
    watched = after(
        ("status", said.status()),
        ("health", said.device_health()),
        ("health/motion", said.pipeline_health()),
        ("input/board", said.inputs([0.5, -2.0], [1.5, 3.0])),
        ("event/motion", said.event("waiting", reason="no port")),
    )
    for number in range(30):
        watched.take("press-07", "result/motion", said.result(8 + number, WALK), 99.0 + number / 15)
    return watched


def test_everything_that_is_known_is_shown() -> None:
    text = "\n".join(drawn(whole(), 100, 30))
    for part in (
        "press-07", "online", "cpu 25%", "memory 57 MB", "51 °C", "outbox mqtt 12 (not connected)", "limpet 1.0",
        "motion  running  motion v3 on cpu", "walking 92%", "1.5 ms", "█", "99.6 samples/s", "results/s",
        "37 in all", "ax    1.5", "ay      3", "dropped queue 3", "queue 100 µs/2 ms", "invoke 100 µs/2 ms",
        "motion: waiting: no port", "q quit",
    ):  # fmt: skip
        assert part in text


def test_what_was_spared_is_a_share_of_the_windows() -> None:
    watched = whole()
    gate = {"windows": 200, "spared": 184, "saved_s": 1.0, "cost_s": 0.1}
    savings = {"gate": gate, "early_exit": {**gate, "spared": 50}, "cache": {**gate, "windows": 0}}
    watched.take("press-07", "health/motion", said.pipeline_health(savings=savings), 100.0)
    assert "model not run: 92% by gate, 25% by early exit" in "\n".join(drawn(watched, 100, 30))


def test_a_camera_has_frames_and_no_size_before_the_first_one() -> None:
    for shape, form in ([240, 320, 3], "picture 320 x 240"), ([0, 0, 3], ""):
        watched = whole()
        watched.take("press-07", "input/board", said.inputs(shape=shape, channels=[], rate=10.0), 100.0)
        text = "\n".join(drawn(watched, 100, 30))
        assert "10 frames/s" in text
        assert form in text
        assert "picture 0" not in text


def test_a_terminal_of_40_by_15_shows_state_result_rates_and_drops() -> None:
    lines = drawn(whole(), 40, 15)
    text = "\n".join(lines)
    for part in ("press-07", "motion  running", "walking 92%", "99.6 samples/s", "dropped queue 3", "waiting: no"):
        assert part in text
    assert len(lines) <= 15
    assert max(map(cells, lines)) <= 40


def test_a_score_is_drawn_against_its_limit() -> None:
    watched = Watched()
    for number, score in enumerate([0.1, 0.2, 3.0]):
        output = {"anomalous": score > 1, "score": score, "threshold": 1.0}
        watched.take("press-07", "result/motion", said.result(number + 1, output), 100.0)
    text = "\n".join(drawn(watched, 80, 24))
    assert "ANOMALY 3 of 1" in text
    assert "score ▁▁█ limit 1" in text


def test_what_is_wrong_with_the_connection_is_said_first() -> None:
    watched = whole()
    watched.notice = "the daemon has stopped; connecting again"
    watched.missed, watched.unreadable = 3, 1
    lines = drawn(watched, 80, 24)
    assert "the daemon has stopped" in lines[1]
    assert "3 messages missed" in lines[2]
    assert "1 messages that cannot be read" in lines[2]


def test_before_the_first_message_there_is_a_screen() -> None:
    assert "no message yet" in drawn(Watched(), 40, 15)[1]


def test_pipelines_that_have_no_room_are_reached_with_keys() -> None:
    watched = Watched()
    for number in range(10):
        name = f"p{number}"
        watched.take("press-07", f"health/{name}", said.pipeline_health(pipeline=name), 100.0)
    view = View()
    text = "\n".join(drawn(watched, 60, 15, view))
    assert "p0" in text
    assert "more pipelines" in text
    assert "p9" not in text
    for _ in range(20):
        view.press("down", watched)
    assert "p9" in "\n".join(drawn(watched, 60, 15, view))
    view.press("up", watched)
    assert "p8" in "\n".join(drawn(watched, 60, 15, view))


def test_tab_shows_the_next_device() -> None:
    watched = whole()
    watched.take("pump-2", "status", said.status(device="pump-2"), 100.0)
    view = View()
    assert "press-07 (1 of 2)" in drawn(watched, 80, 24, view)[0]
    view.press("tab", watched)
    assert "pump-2 (2 of 2)" in drawn(watched, 80, 24, view)[0]
    view.press("tab", watched)
    assert "press-07" in drawn(watched, 80, 24, view)[0]


def test_one_pipeline_has_a_page_with_all_that_is_known() -> None:
    watched = whole()
    placed = {"op_share": 0.9, "time_share": 0.75, "speed": 3.5}
    unsure = {"windows": 50, "abstained": 5, "set_sizes": {"1": 30, "2": 20}, "mean_set_size": 1.4}
    alarm = {"since": said.NOON, "fault": "stuck", "moved": [{"name": "ax\x1b", "before": 0, "now": 1}]}
    states = {"sensor": {"level": 1.25, "alarm": alarm}, "adwin": {"level": 0, "problem": "no scores"}}
    monitors = {"windows": 4000, "skipped": 20, "cost": 0.02, "monitors": states}
    health = said.pipeline_health(
        placement=placed,
        sandbox=["landlock"],
        clipped=0.25,
        failovers=2,
        uncertainty=unsure,
        monitors=monitors,
        accuracy={
            "all": {"answers": 200, "right": 180, "low": 0.85, "high": 0.93},
            "recent": {"answers": 200, "right": 180, "low": 0.85, "high": 0.93},
            "slices": {
                "site=north": {"answers": 150, "right": 140, "low": 0.88, "high": 0.96},
                "site=so\x1buth": {"answers": 50, "right": 40, "low": 0.67, "high": 0.9},
            },
        },
        adaptations={"in_force": {"threshold": 3}, "last": 3},
        savings={"gate": {"windows": 36_000, "spared": 33_120, "saved_s": 298.1, "cost_s": 2.2}},
        captures={
            "count": 154,
            "bytes": 10_000_000,
            "most_bytes": 50_000_000,
            "kept": {},
            "lost": {"hour": 14, "busy": 1},
            "labelled": 4,
            "problem": "no space",
        },
    )
    watched.take("press-07", "health/motion", health, 100.0)
    watched.take("press-07", "health/other", said.pipeline_health(pipeline="other", state="failed"), 100.0)
    watched.take("press-07", "event", said.event("started", pipeline=""), 100.0)
    view = View()
    view.press("enter", watched)
    text = "\n".join(drawn(watched, 100, 50, view))
    for part in (
        "drift: sensor: the sensor repeats the same value; ax\\x1b moved from 0 to 1",
        "4,000 windows, 20 skipped, 2% of the time", "sensor: 125%, alarm", "adwin: no scores",
        "motion  running  motion v3 on cpu (1 of 2)", "walking 92%", "p99", "invoke            100 µs      2 ms",
        "90% of ops, 75% of time on the delegate, 3.5 times the CPU", "failovers 2", "3 queue",
        "90% of 200 answers (85% to 93%)", "site=so\\x1buth: 80% of 50 answers", "threshold, adaptation 3",
        "gate: 92% of 36,000 windows, saved 298 s, cost 2.2 s", "no space",
        "154, 20% of the room, 4 labelled, 15 windows lost",
        "25% of the windows", "10% of the windows, 1.4 classes a set",
        "landlock", "motion: waiting: no port", "←→ pipelines", "a all",
    ):  # fmt: skip
        assert part in text
    assert "started" not in text
    view.press("right", watched)
    assert "other  failed" in "\n".join(drawn(watched, 100, 40, view))
    view.press("escape", watched)
    assert "q quit" in "\n".join(drawn(watched, 100, 40, view))
    assert view.page == "all"


def test_the_device_has_a_page() -> None:
    watched = whole()
    api = {"state": "failed", "problem": "it cannot listen: Address already in use", "restarts": 3}
    accelerator = {
        "name": "npu",
        "where": "usb 1",
        "delegate": "edgetpu",
        "usable": False,
        "why_not": ["no rights"],
    }
    health = said.device_health(
        api=api, accelerators=[accelerator], audit={"seq": 12, "sha256": "aa"}, uptime_s=93_600.0,
        clock_synchronised=False, pipelines={"motion": "starting", "third": "failed"},
    )  # fmt: skip
    watched.take("press-07", "health", health, 100.0)
    view = View()
    view.press("d", watched)
    text = "\n".join(drawn(watched, 100, 30, view))
    for part in (
        "press-07  boot 4-abc", "limpet 1.0", "machine       up for 1 d 2 h", "25%, load 0.5",
        "57 MB of Limpet, 100 MB available",
        "51 °C", "not synchronised", "failed  it cannot listen: Address already in use  restarts 3", "12 lines",
        "npu: no rights", "mqtt  not connected  outbox depth 12", "motion                   running",
        "third                    failed", "signed models run here",
    ):  # fmt: skip
        assert part in text


def test_events_and_log_have_pages_that_scroll_from_the_newest() -> None:
    watched = whole()
    for number in range(40):
        watched.take("press-07", "event/motion", said.event(f"event{number:02}"), 100.0)
        watched.take("press-07", "log", said.log_line(f"line{number:02}", level="ERROR"), 100.0)
    watched.take("press-07", "log", said.log_line("\x1b[31mlast", left_out=7, process="supervisor"), 100.0)
    view = View()
    view.press("e", watched)
    newest = "\n".join(drawn(watched, 80, 12, view))
    assert "event39" in newest
    assert "event20" not in newest
    for _ in range(3):
        view.press("page up", watched)
    older = "\n".join(drawn(watched, 80, 12, view))
    assert "event39" not in older
    assert "event05" in older
    view.press("home", watched)
    assert "waiting: no port" in "\n".join(drawn(watched, 80, 12, view))
    view.press("l", watched)
    lines = "\n".join(drawn(watched, 80, 12, view))
    assert "worker imu: line39" in lines
    assert "(7 lines left out) supervisor: " in lines
    assert "\x1b" not in lines


def test_pages_without_anything_to_show_say_so() -> None:
    watched = Watched()
    watched.take("press-07", "status", said.status(), 100.0)
    for key, part in (("p", "no pipeline"), ("d", "not reported"), ("e", "no event"), ("l", "no line")):
        view = View()
        view.press(key, watched)
        assert part in "\n".join(drawn(watched, 80, 20, view))


def test_two_lines_have_room_for_no_more_than_the_first_pipeline() -> None:
    watched = after(
        ("health/motion", said.pipeline_health()), ("health/other", said.pipeline_health(pipeline="other"))
    )
    assert len(drawn(watched, 80, 2)) == 2


@settings(max_examples=30)
@given(st.lists(damaged(), max_size=8), st.integers(1, 120), st.integers(1, 40), st.sampled_from([*PAGES, "a"]))
def test_no_message_breaks_a_page_of_any_size(
    received: list[tuple[str, bytes]], width: int, height: int, key: str
) -> None:
    watched, view = after(*received), View()
    view.press(key, watched)
    lines = drawn(watched, width, height, view)
    assert len(lines) <= height
    for line in lines:
        assert line.isprintable()
        assert cells(line) <= width


@pytest.mark.parametrize("text", ["[bold red]", "[/]", "\x1b[31mred\x1b[0m", "\x9b2J", "a\nb", "\u202eevil"])
def test_texts_from_outside_are_shown_and_not_obeyed(text: str) -> None:
    fields: dict[str, Any] = {"reason": text, "model": text, "delegate": text, "dropped": {text: 3}}
    watched = after(
        ("health/motion", said.pipeline_health(**fields)),
        ("event/motion", said.event(text, reason=text)),
        ("input/board", said.inputs([1.0], channels=[text])),
        ("result/motion", said.result(1, {**WALK, "label": text, "top": [{"label": text, "score": 0.5}]})),
        ("log", said.log_line(text, process=text)),
        ("health", said.device_health(pipelines={text: "running"}, reporters={text: {text: 3}})),
    )
    for key in PAGES:
        view = View()
        view.press(key, watched)
        lines = drawn(watched, 100, 30, view)
        assert all(line.isprintable() for line in lines)
        assert any("[bold red]" in line for line in lines) == (text == "[bold red]")


def test_a_picture_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    path = tmp_path / "none" / "watch.svg"
    with pytest.raises(LimpetError, match=f"^{path}: No such file or directory$"):
        save_svg(path, 40, "limpet watch", "text")
