"""When a backup model takes over, and when the main one is tried again. No I/O and no clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limpet.config import Backup, PipelineConfig
from limpet.histogram import bucket_of
from limpet.supervision.backup import FORGIVEN, LONGEST_PAUSE, Backups


def pipelines(**options: float) -> dict[str, PipelineConfig]:
    backup = Backup(model="small", **options)  # type: ignore[arg-type]
    return {
        "p": PipelineConfig(source="s", model="main", backup=backup),
        "q": PipelineConfig(source="s", model="main"),
    }


def running(**options: float) -> Backups:
    backups = Backups(pipelines(**options))
    assert not backups.ran("p", 0.0)
    return backups


def test_a_main_model_that_fails_gives_way_and_is_tried_again_after_the_pause() -> None:
    backups = running(retry_after=60)
    assert backups.failed("p", "ten windows in a row", 100)
    assert not backups.failed("p", "the backup fails, too", 101)
    assert backups.active == {"p": "ten windows in a row"}
    backups.tend(159)
    assert backups.active
    backups.tend(160)
    assert (backups.active, backups.reason("p")) == ({}, "ten windows in a row")
    assert backups.ran("p", 161)
    assert backups.reason("p") == ""


def test_a_pipeline_without_a_backup_has_none() -> None:
    backups = running()
    assert not backups.failed("q", "it crashed", 1)
    assert backups.slow("q", {}) == backups.reason("q") == ""
    assert not Backups({"q": pipelines()["q"]}).watched


def test_a_main_model_that_does_not_come_back_waits_twice_as_long_each_time() -> None:
    backups, now, pauses = running(retry_after=60), 0.0, []
    backups.failed("p", "it fails", now)
    for _ in range(9):
        pause = 0
        while backups.active:
            pause += 1
            backups.tend(now + pause)
        pauses.append(pause)
        now += pause
        backups.not_back("p", "it fails again", now)
        assert backups.active == {"p": "it fails again"}
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_what_another_model_does_while_the_main_one_runs_is_no_matter() -> None:
    backups = running()
    backups.not_back("p", "a newer version did not take over", 1)
    assert backups.active == {}


def test_failures_are_forgotten_after_the_main_model_has_run_well() -> None:
    backups = running(retry_after=60)
    for now in (0.0, 1000.0):
        backups.failed("p", "it fails", now)
        backups.tend(now + 500)
        backups.ran("p", now + 500)
    backups.failed("p", "it fails", 1500 + FORGIVEN)
    backups.tend(1500 + FORGIVEN + 60)
    assert backups.active == {}


def latency(**counts: int) -> dict[int, int]:
    """Return a histogram of so many windows of so many ms: ``ms5=7`` is 7 of 5 ms."""
    return {bucket_of(int(name.removeprefix("ms")) * 1_000_000): count for name, count in counts.items()}


def test_the_main_model_is_too_slow_if_more_than_a_twentieth_of_the_windows_is() -> None:
    backups = running(slower_than_ms=50, windows=100)
    assert backups.slow("p", latency(ms200=500)) == ""  # what ran before
    assert backups.slow("p", latency(ms200=500, ms10=99)) == ""
    assert backups.slow("p", latency(ms200=504, ms10=96)) == ""
    assert backups.slow("p", latency(ms200=504, ms10=195)) == ""
    reason = backups.slow("p", latency(ms200=520, ms10=196))
    assert reason.startswith("it took ")
    assert reason.endswith(" ms in 95 % of 116 windows, and slower_than_ms is 50")


def test_the_backup_model_is_never_too_slow() -> None:
    backups = running(slower_than_ms=50, windows=10)
    backups.slow("p", {})
    backups.failed("p", "it crashed", 1)
    assert backups.slow("p", latency(ms200=500)) == ""
    backups.tend(1000)
    assert backups.slow("p", latency(ms200=900)) == ""  # the main one has not come back yet
    backups.ran("p", 1001)
    assert backups.slow("p", latency(ms200=950)) == ""
    assert backups.slow("p", latency(ms200=960)) != ""


def test_a_reload_or_a_command_has_the_main_model_tried_at_once() -> None:
    backups = running()
    backups.failed("p", "it crashed", 1)
    backups.use(pipelines())
    assert (backups.active, backups.reason("p")) == ({}, "it crashed")
    backups.not_back("p", "it crashed", 2)
    backups.retry(["p", "q", "gone"])
    assert backups.active == {}
    backups.use(pipelines(retry_after=5))
    assert backups.reason("p") == ""
    backups.use({})
    assert not backups.watched


STEPS = st.sampled_from(["fail", "run", "not back", "wait"])


@given(st.lists(st.tuples(STEPS, st.floats(0, 3 * LONGEST_PAUSE)), max_size=200))
def test_whatever_happens_the_models_change_places_ever_more_rarely(steps: list[tuple[str, float]]) -> None:
    backups, now, begun = running(retry_after=10), 1.0, list[float]()
    for step, seconds in steps:
        now += seconds
        before = backups.active
        if step == "fail":
            backups.failed("p", "it fails", now)
        elif step == "run":
            backups.ran("p", now)
        elif step == "not back":
            backups.not_back("p", "it fails", now)
        else:
            backups.tend(now)
        if backups.active and not before:
            begun.append(now)
    for first in range(len(begun)):
        hour = [at for at in begun[first:] if at < begun[first] + FORGIVEN]
        assert len(hour) <= 10  # pauses of 10, 20, ... 2560 s are longer than an hour in all
