"""The effect of a new model: a fair draw gives the true effect, and an unfair one is found."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.worker.shadow_turns import in_share
from limpet_convert import cli
from limpet_convert.effect import arms, posterior, results
from limpet_convert.effect.arms import Arms
from limpet_convert.effect.results import Measured
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Callable

OLD, NEW = "motion@7", "motion@8"
BEGIN = 1_790_000_000.0


def device(
    name: str, count: int, value: Callable[[int, bool], float | None], share: float = 0.5, seconds: float = 60.0
) -> list[Measured]:
    """Windows of a device on which a share is drawn for the new model."""
    made = []
    for sample in range(count):
        of_new = in_share(sample, share)
        model, time = NEW if of_new else OLD, BEGIN + sample * seconds
        made.append(Measured(name, sample, time, model, value(sample, of_new)))
    return made


def drifting(seed: int, effect: float) -> Callable[[int, bool], float]:
    """A measure that wanders slowly, with noise, and an effect of the new model."""
    random = np.random.default_rng(seed)
    slow = np.cumsum(random.normal(scale=0.05, size=4000))
    noise = random.normal(size=4000)
    return lambda sample, of_new: float(slow[sample] + noise[sample] + effect * of_new)


def test_windows_drawn_by_share_give_the_effect_although_the_measure_drifts() -> None:
    windows = device("a", 4000, drifting(1, 0.3)) + device("b", 4000, drifting(2, 0.3))
    found = posterior.effect(arms.draw(windows, OLD, NEW, 0.5, ""))
    assert found.verdict == "higher"
    assert found.low < 0.3 < found.high
    assert found.high - found.low < 0.15
    assert found.higher > 0.999
    assert found.clusters == 40


def test_without_an_effect_it_is_undecided_or_no_difference_that_matters() -> None:
    drawn = arms.draw(device("a", 4000, drifting(3, 0.0)), OLD, NEW, 0.5, "")
    assert posterior.effect(drawn).verdict == "undecided"
    assert posterior.effect(drawn, least=0.5).verdict == "no_difference"
    small = posterior.effect(drawn, least=0.01)
    assert small.verdict == "undecided"
    assert small.needed is not None
    assert small.needed > 10


def test_rare_outcomes_have_jeffreys_posterior() -> None:
    """None of 2000 in both arms: the interval is that of two Beta(0.5, 2000.5)."""
    found = posterior.effect(arms.draw(device("a", 4000, lambda *_: 0.0), OLD, NEW, 0.5, ""))
    assert found.verdict == "undecided"
    assert found.low == pytest.approx(-found.high, rel=0.1)
    assert 0.5e-3 < found.high < 2e-3


def test_the_variance_is_that_of_the_t_test_where_each_window_is_a_cluster() -> None:
    values = np.array([1.0, 2.0, 4.0, 3.0, 5.0, 9.0, 7.0])
    new = np.array([False, False, False, True, True, True, True])
    difference, variance, freedom = posterior.linearised(values, new, np.arange(7))
    assert difference == pytest.approx(6 - 7 / 3)
    assert variance == pytest.approx(values[~new].var(ddof=1) / 3 + values[new].var(ddof=1) / 4)
    assert freedom == 2


def test_windows_are_compared_as_drawn_if_the_new_model_was_late() -> None:
    """The new model is late for hard windows, which then have the old model's result."""
    windows = []
    for one in device("a", 4000, lambda sample, _: float(sample % 10 == 0)):
        late = one.sample % 10 == 0
        windows.append(Measured("a", one.sample, one.time, OLD if late else one.model, one.value))
    drawn = arms.draw(windows, OLD, NEW, 0.5, "")
    found = posterior.effect(drawn)
    assert abs(found.effect) < 0.01
    assert drawn.other_model[1] == pytest.approx(0.1, abs=0.01)
    assert "as the new one was late or failed" in drawn.notes[0]


def without(windows: list[Measured], lost: Callable[[Measured], bool]) -> list[Measured]:
    return [one for one in windows if not lost(one)]


def test_arms_that_are_not_as_drawn_are_not_comparable() -> None:
    windows = device("a", 4000, drifting(4, 0.5))
    lost = without(windows, lambda one: one.model == NEW and one.sample % 5 == 0)
    found = posterior.effect(arms.draw(lost, OLD, NEW, 0.5, ""))
    assert found.verdict == "not_comparable"
    assert "Results of one arm are missing more often" in found.reason
    by_night = without(windows, lambda one: (one.model == NEW) != (one.time % 86_400 < 43_200))
    found = posterior.effect(arms.draw(by_night, OLD, NEW, 0.5, ""))
    assert "different hours of the day" in found.reason
    unmeasured = [replace(one, value=None) if one.model == NEW and one.sample % 3 == 0 else one for one in windows]
    found = posterior.effect(arms.draw(unmeasured, OLD, NEW, 0.5, ""))
    assert "What was measured depends on the model" in found.reason
    assert "share" in posterior.effect(arms.draw(windows, OLD, NEW, None, "")).reason


def fleet(count: int, effect: float, rollout: str = "spring") -> list[Measured]:
    """Devices that differ much from each other, and of which a rollout draws half."""
    random, windows = np.random.default_rng(11), []
    for number in range(count):
        name, level = f"press-{number}", random.normal(scale=2)
        of_new = arms.drawn(name, rollout, 0.5)
        for sample in range(40):
            model = NEW if of_new and sample >= 20 else OLD
            value = level + random.normal(scale=0.5) + effect * (model == NEW)
            windows.append(Measured(name, sample, BEGIN + sample * 60, model, value))
    return windows


def test_devices_drawn_for_a_rollout_are_adjusted_for_what_they_measured_before() -> None:
    drawn = arms.draw(fleet(40, 0.5), OLD, NEW, 0.5, "spring")
    assert drawn.unit == "devices"
    found = posterior.effect(drawn)
    assert found.adjusted
    assert (found.verdict, found.clusters) == ("higher", 40)
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.4  # without the adjustment, about 2.5


def test_devices_that_nothing_shows_to_be_drawn_are_not_comparable() -> None:
    found = posterior.effect(arms.draw(fleet(40, 0.5), OLD, NEW, None, ""))
    assert found.verdict == "not_comparable"
    other = arms.draw(fleet(40, 0.5), OLD, NEW, 0.5, "autumn")
    assert "ran the other arm's model" in " ".join(other.notes)


def test_a_rollout_draws_its_share_of_the_devices_and_always_the_same() -> None:
    names = [f"press-{number}" for number in range(4000)]
    chosen = [name for name in names if arms.drawn(name, "spring", 0.2)]
    assert 0.17 < len(chosen) / len(names) < 0.23
    assert all(arms.drawn(name, "spring", 0.4) for name in chosen)  # a larger share keeps them
    assert chosen != [name for name in names if arms.drawn(name, "autumn", 0.2)]


def test_too_few_data_say_how_many_are_needed() -> None:
    few = posterior.effect(arms.draw(device("a", 40, drifting(6, 1.0)), OLD, NEW, 0.5, ""))
    assert few.verdict == "too_few"
    assert "at least 30 each are needed" in few.reason
    three = posterior.effect(arms.draw(fleet(6, 3.0), OLD, NEW, 0.5, "spring"))
    assert three.verdict == "too_few"
    assert "There are 6 devices" in three.reason


def test_an_arm_without_results_is_refused() -> None:
    with pytest.raises(ConvertError, match=r"no result is of motion@9; there are results of motion@7, motion@8"):
        arms.draw(device("a", 100, drifting(7, 0.0)), OLD, "motion@9", 0.5, "")
    values = Arms("windows", np.zeros(4), np.zeros(4, bool), np.arange(4), np.full(4, np.nan), 1)
    assert posterior.effect(values).verdict == "too_few"


# --- the files, and the command


def message(sample: int, label: str, **changes: Any) -> dict[str, Any]:
    of_new = in_share(sample, 0.5)
    found = {
        "type": "result",
        "id": f"a/press/b/{sample}",
        "device": "a",
        "pipeline": "press",
        "boot": "b",
        "sequence": sample,
        "time": f"2026-10-{1 + sample // 1440:02d}T{sample // 60 % 24:02d}:{sample % 60:02d}:00Z",
        "monotonic_ns": sample,
        "sample": sample,
        "model": "motion",
        "version": 8 if of_new else 7,
        "delegate": "cpu",
        "degraded": False,
        "latency_us": 100.0 + 50 * of_new + sample % 7,
        "output": {"label": label, "score": 0.5, "top": [{"label": label, "score": 0.5}], "abstained": False},
    }
    return found | changes


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Results of a device, of which the new model has 9 in 10 right and the old one 7 in 10; and the truth."""
    random = np.random.default_rng(8)
    lines, said = [], []
    for sample in range(2000):
        right = random.random() < (0.9 if in_share(sample, 0.5) else 0.7)
        lines.append(json.dumps(message(sample, "walk" if right else "rest")))
        said.append(json.dumps({"id": f"a/press/b/{sample}", "truth": "walk"}))
    lines += [lines[0], '{"type": "health"}', "{", json.dumps([message(5000, "rest", pipeline="pump")])]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    (tmp_path / "said.jsonl").write_text("\n".join(said))
    return tmp_path / "r.jsonl", tmp_path / "said.jsonl"


def test_the_command_tells_the_effect_on_how_often_models_are_right(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    results_file, truth = map(str, files)
    options = ["--old", OLD, "--new", NEW, "--share", "0.5", "--pipeline", "press"]
    options += ["--measure", "right", "--truth", truth]
    assert cli.main(["effect", results_file, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("right: motion@7 0.")
    assert lines[3] == "motion@8 is higher."
    assert "1 lines that are no JSON" in lines[4]
    assert "1 messages that are no results" in lines[4]
    assert "1 results of other pipelines" in lines[4]
    assert "1 results that came twice" in lines[4]
    assert cli.main(["effect", results_file, *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["unit"], found["devices"]) == ("higher", "windows", 1)
    assert found["low"] < 0.2 < found["high"]


@pytest.mark.parametrize(
    ("measure", "old", "new"),
    [("latency", 103, 153), ("label:walk", 0.7, 0.9), ("score", 0.5, 0.5), ("abstained", 0, 0)],
)
def test_results_are_measured(files: tuple[Path, Path], measure: str, old: float, new: float) -> None:
    read = results.read([files[0]], "press", measure)
    found = posterior.effect(arms.draw(read.windows, OLD, NEW, 0.5, ""))
    assert found.old == pytest.approx(old, abs=0.04 * max(old, 1))
    assert found.new == pytest.approx(new, abs=0.04 * max(new, 1))


def test_values_and_labels_of_other_outputs_are_measured(tmp_path: Path) -> None:
    outputs: list[dict[str, Any]] = [
        {"values": {"level": 2.5}, "units": {}, "in_range": True, "out_of_range": []},
        {"detections": [{"label": "cup", "score": 0.9, "box": [0, 0, 1, 1]}], "counts": {"cup": 1}},
        {"keyword": "yes", "score": 0.9, "scores": {"yes": 0.9}},
        {"state": 3},
    ]
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(json.dumps(message(n, "x", output=output)) for n, output in enumerate(outputs)))
    measured = {
        measure: [one.value for one in results.read([path], "", measure).windows]
        for measure in ("value:level", "label:cup", "label:yes", "value:state")
    }
    assert measured["value:level"] == [2.5, None, None, None]
    assert measured["label:cup"] == [0, 1, 0, None]
    assert measured["label:yes"] == [0, 0, 1, None]
    assert measured["value:state"] == [None, None, None, 3]


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["id", "device", "sample", "time", "output", "version", "type", "latency_us"]
FIELDS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3)
OUTPUTS = st.dictionaries(
    st.sampled_from(["top", "label", "score", "values", "in_range", "detections", "labels", "abstained"]), VALUES
)


@given(st.lists(st.binary(max_size=40) | FIELDS | OUTPUTS, max_size=4), st.sampled_from(["right", "label:x"]))
@settings(max_examples=40)
def test_whatever_is_in_a_file_is_read_or_counted(content: list[Any], measure: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder) / "r.jsonl", Path(folder) / "said.jsonl"
        said.write_text('{"id": "a/press/b/0", "truth": "x"}')
        lines = [one if isinstance(one, bytes) else _line(one) for one in content]
        path.write_bytes(b"\n".join(lines))
        read = results.read([path], "", measure, [said])
        assert all(one.value is None or isinstance(one.value, float) for one in read.windows)
        assert read.windows or read.left_out or not b"".join(lines).strip(b" \n[]")


def _line(changes: dict[str, Any]) -> bytes:
    known = changes.keys() & set(NAMES)
    made = message(0, "x") | (changes if known else {"output": changes})
    return json.dumps(made).encode()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--measure", "beauty"], 'there is no "beauty"; use right, latency'),
        (["--measure", "right"], "needs the truth"),
        (["--measure", "latency", "--share", "2"], "not between 0 and 1"),
        (["--measure", "latency", "--rollout", "x"], "needs --share"),
        (["--measure", "right", "--truth", "r.jsonl"], "line 1: it could not be read"),
        (["--measure", "latency", "--least", "0"], "not above 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    files: tuple[Path, Path],
    options: list[str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files[0].parent)
    assert cli.main(["effect", "r.jsonl", "--old", OLD, "--new", NEW, *options]) == 1
    assert reason in capsys.readouterr().err
