"""What the supervisor learns: feedback of any recent or captured result, advice, and adaptations that last."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet.audit import file as journal_file
from limpet.audit.entry import Who, decode
from limpet.audit.journal import Journal
from limpet.captures.ring import Ring, folder
from limpet.captures.writer import Writer
from limpet.config import build
from limpet.contracts.commands import Feedback
from limpet.contracts.drift import DriftEvent
from limpet.contracts.messages import Origin
from limpet.learning.changes import Levels
from limpet.learning.expected import Expected
from limpet.learning.remembered import Known
from limpet.learning.state import NAME
from limpet.supervision.captured_results import CapturedResults
from limpet.supervision.events import Events
from limpet.supervision.learning import Learning, Surroundings, read
from limpet.supervision.ledger import Ledger
from limpet.wire.records import RawResult, Transition
from support.broker import wait_until
from support.captured import capture, packed

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.messages import EventMessage, FeedbackTaken

ORIGIN = Origin("press", "b1", "1.0")
NOON = 1_770_000_000_000_000_000
EXPECTED = Expected(
    "motion", "shake", 3, accuracy=0.95, slices={"site=north": 0.95}, priors={"idle": 0.5, "walk": 0.5}
)
ALWAYS = {"hours": 1e-9}


class Desk:
    """The learning of a supervisor without its loop: one pipeline, which runs version 3 of the model ``shake``."""

    def __init__(self, state: Path, boot: str = "b1", **options: Any) -> None:
        self.state, self.origin = state, Origin("press", boot, "1.0")
        self.events: list[EventMessage] = []
        self.damaged: list[str] = []
        self.changes = 0
        self.compared = False
        self.ledger = Ledger(self.origin, lambda _: None)
        self.ledger.assign({"motion": "s"}, 0.0)
        self.runs(3)
        around = Surroundings(
            Journal(state, boot),
            self.ledger,
            Events(self.origin, self.events.append),
            lambda _: self.compared,
            self._changed,
            CapturedResults(state, self._number_of).find,
        )
        self.learning = Learning(self.config(**options), self.origin, read(state, self.damaged.append), around)
        self.learning.show("motion")

    def config(self, **options: Any) -> Any:
        tables = {
            "device": {"id": "press", "state": str(self.state), "commands": ["feedback", "undo"]},
            "jsonl": {},
            "sources": {"s": {"kind": "replay"}},
            "pipelines": {"motion": {"source": "s", "model": "shake", "groups": {"site": "north"}, **options}},
        }
        return build(tables, self.state)

    def _number_of(self, pipeline: str, result: str) -> int | None:
        return Ring(folder(self.state), pipeline, 1 << 20).number_of(result)

    def _changed(self) -> None:
        self.changes += 1

    def runs(self, version: int) -> None:
        self.ledger.account("motion").move(Transition("motion", "running", "", "shake", version, "cpu"))

    def result(self, label: str | None = "walk", score: float = 0.9) -> str:
        best = label or "walk"
        output = {"label": label, "score": score, "top": [{"label": best, "score": score}], "abstained": not label}
        raw = msgspec.Raw(msgspec.json.encode(output))
        made = RawResult("motion", "shake", 3, "cpu", False, 5, NOON, 1, 2500, raw)
        accepted = self.ledger.accept("s", [made], 0.0)
        self.learning.take_results(accepted)
        return accepted[0].id

    def say(self, truth: Any, result: str | None = None, **more: Any) -> FeedbackTaken:
        return self.learning.feedback(Feedback(result or self.result(), truth, **more))

    def named(self, event: str) -> list[str]:
        return [one.reason for one in self.events if one.event == event]

    def journal(self) -> list[tuple[str, str]]:
        lines = [decode(line[:-1]) for line in journal_file.lines(self.state / journal_file.NAME)]
        return [(one.event, one.what.reason) for one in lines if "adapt" in one.event]

    @property
    def health(self) -> Any:
        return self.ledger.account("motion").accuracy


def test_feedback_counts_for_a_result_and_the_last_word_holds(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    result = desk.result()
    assert desk.say("walk", result).was_right is True
    assert desk.say("idle", result).was_right is False
    assert desk.say("idle", desk.result(None)).was_right is None
    assert (desk.health.all.answers, desk.health.all.right, desk.health.abstained) == (1, 0, 1)
    assert desk.health.slices.keys() == {"site=north"}
    desk.say("walk", groups={"site": "south", "machine": "m7"})
    assert desk.health.slices.keys() == {"site=north", "site=south", "machine=m7"}


def test_a_label_that_the_model_cannot_give_counts_and_is_named(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.say("wlak").reason == ""  # nothing is known of the labels yet
    desk.learning.expect("s", EXPECTED)
    taken = desk.say("wlak")
    assert (taken.known, taken.was_right) == (True, False)
    assert taken.reason == "shake 3 has no label 'wlak'; it has idle, walk"
    assert desk.say("walk").reason == ""
    assert desk.say(None).reason == ""


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ("other/motion/b1/1", "no result of this device, 'press', has such an id"),
        ("press/motion/b1/x", "no result of this device, 'press', has such an id"),
        ("press/motion/b1/" + "9" * 200, "the result is not among the last 4096 of 'motion', nor captured"),
        ("press/pump/b1/1", "there is no pipeline 'pump'"),
        ("press/motion/b0/1", "the result is from before the daemon's last start, and was not captured"),
    ],
)
def test_feedback_for_what_is_not_known_is_answered_with_the_reason(
    tmp_path: Path, result: str, reason: str
) -> None:
    taken = Desk(tmp_path).say("walk", result)
    assert (taken.known, taken.reason) == (False, reason)


def test_a_truth_of_another_kind_than_the_result_is_an_error(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with pytest.raises(ValueError, match="a number and a label cannot be compared"):
        desk.say(1.0, tolerance=0.5)
    with pytest.raises(ValueError, match="tolerance: missing"):
        desk.say(1.0)
    assert desk.health is None


def test_a_captured_result_of_an_earlier_boot_counts_as_chosen_unless_it_was_drawn_at_random(
    tmp_path: Path,
) -> None:
    there = tmp_path / "captures" / "motion"
    there.mkdir(parents=True)
    desk = Desk(tmp_path, "b2")
    (there / "0000000007.capture").write_bytes(packed(capture()))
    assert desk.say("idle", "press/motion/b1/12").was_right is True
    assert (desk.health.all.answers, desk.health.chosen.answers) == (0, 1)
    (there / "0000000008.capture").write_bytes(
        packed(capture(number=8, id="press/motion/b1/13", reasons=["audit"], answer=None))
    )
    (there / "0000000009.capture").write_bytes(b"damaged")
    assert desk.say("idle", "press/motion/b1/13").was_right is None
    assert desk.health.abstained == 1
    assert not desk.say("idle", "press/motion/b1/14").known


def test_feedback_while_captures_are_not_read_says_so(tmp_path: Path) -> None:
    writer = Writer(folder(tmp_path), lambda: None)
    results = CapturedResults(tmp_path, writer.number_of)
    assert results.find("press/motion/b1/12") is None
    (tmp_path / "captures").write_text("no folder")
    writer.use({"motion": 1 << 20})
    assert "are not read yet" in str(results.find("press/motion/b1/12"))
    wait_until(writer.take)
    (tmp_path / "captures").unlink()
    (tmp_path / "captures" / "motion").mkdir(parents=True)
    (tmp_path / "captures" / "motion" / "0000000007.capture").write_bytes(packed(capture()))
    writer.use({"motion": 1 << 20})
    writer.close()
    assert isinstance(results.find("press/motion/b1/12"), Known)
    assert results.find("press/motion/b1/13") is None


def test_what_was_counted_survives_a_restart_and_damage_is_reported(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.say("walk")
    desk.learning.close()
    again = Desk(tmp_path, "b2")
    assert (again.health.all.right, again.damaged) == (1, [])
    again.runs(4)
    again.learning.show("motion")
    assert again.health is None
    (tmp_path / "learning.json").write_bytes(b'{"pipelines":{"a/b":{}}}')
    damaged = Desk(tmp_path, "b3")
    assert damaged.health is None
    assert "accuracy is counted from here" in damaged.damaged[0]
    assert (tmp_path / "learning.json.damaged").exists()


def test_a_slice_that_falls_behind_and_a_model_that_decays_are_reported_once(tmp_path: Path) -> None:
    desk, rare = Desk(tmp_path), random.Random(3)
    desk.learning.expect("s", EXPECTED)
    for _ in range(40):
        desk.say("walk" if rare.random() < 0.5 else "idle")
    (slice_,), (advice,) = desk.named("slice_behind"), desk.named("retraining_advised")
    assert slice_.startswith("site=north: ")
    assert "In the bundle's reference, 95.0% were." in advice
    assert desk.health.expected == 0.95


def test_drift_for_long_advises_a_training_and_a_fault_of_a_sensor_does_not(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.learning.drifted("motion", DriftEvent(type="new", monitor="sensor", fault="stuck", since_s=1e6))
    desk.say("walk")
    assert desk.named("retraining_advised") == []
    desk.learning.drifted("motion", DriftEvent(type="new", monitor="multivariate", since_s=1e6))
    desk.say("walk")
    assert desk.named("retraining_advised") == []  # the stuck sensor explains that, too
    desk.learning.drifted("motion", DriftEvent(type="end", monitor="sensor"))
    desk.say("walk")
    assert desk.named("retraining_advised") == []
    desk.learning.drifted("motion", DriftEvent(type="new", monitor="univariate", since_s=1e6))
    desk.say("walk")
    (reason,) = desk.named("retraining_advised")
    assert reason == "The monitor univariate has reported drift for 277.8 h."
    desk.say("walk")
    assert len(desk.named("retraining_advised")) == 1


def test_drift_that_a_swap_of_the_pipeline_interrupts_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path, retraining={"drift_hours": 20})
    desk.learning.drifted("motion", DriftEvent(type="new", monitor="adwin", since_s=19 * 3600))
    desk.learning.drifted("motion", DriftEvent(type="end", monitor="adwin"))
    desk.say("walk")
    desk.learning.drifted("motion", DriftEvent(type="new", monitor="adwin", since_s=0))
    desk.say("walk")
    assert desk.named("retraining_advised") == []
    desk.learning.drifted("motion", DriftEvent(type="end", monitor="adwin"))
    desk.learning.drifted("motion", DriftEvent(type="new", monitor="adwin", since_s=20 * 3600))
    desk.say("walk")
    assert desk.named("retraining_advised") == ["The monitor adwin has reported drift for 20.0 h."]


def adapting(state: Path, boot: str = "b1") -> Desk:
    return Desk(state, boot, adapt={"priors": {"answers": 20, **ALWAYS}})


def test_priors_are_adapted_explained_kept_and_undone(tmp_path: Path) -> None:
    desk = adapting(tmp_path)
    desk.learning.expect("s", EXPECTED)
    for _ in range(20):
        desk.say("walk")
    found = desk.learning.correction("motion", "shake", 3)
    assert found is not None
    assert found.weights == {"idle": 0.5, "walk": 1.5}
    assert desk.learning.correction("motion", "shake", 4) is None
    (text,) = desk.named("adapted")
    assert text.startswith(
        "adaptation 1 (priors): 0.0% of 20 windows with feedback are 'idle'. In the reference it is 50.0%."
    )
    assert (desk.journal(), desk.changes) == ([("adapted", text)], 1)
    again = adapting(tmp_path, "b2")
    assert again.learning.correction("motion", "shake", 3) == found
    undone = again.learning.undo("motion", None, Who(user="anna"), "by anna")
    assert (undone.numbers, undone.labels) == ([1], 0)
    assert again.learning.correction("motion", "shake", 3) is None
    assert again.journal()[-1] == ("adaptation_undone", "adaptation 1 (priors) is undone: by anna")
    third = adapting(tmp_path, "b3")
    third.learning.expect("s", EXPECTED)
    third.say("walk")
    assert third.named("adapted") == []
    report = third.ledger.account("motion").adaptations
    assert report is not None
    assert (report.in_force, report.last, report.held) == ({}, 1, ["priors"])


def test_adaptations_go_on_after_the_clock_was_set_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path, adapt={"priors": {"answers": 20, "hours": 24}})
    desk.learning.expect("s", EXPECTED)
    for _ in range(20):
        desk.say("walk")
    assert len(desk.named("adapted")) == 1
    desk.learning.close()
    path = tmp_path / NAME
    state = json.loads(path.read_bytes())
    for later, adapted in ((-3600, 0), (3600, 0), (10 * 365 * 86400, 1)):
        moved = {"priors": state["pipelines"]["motion"]["changed"]["priors"] + later}
        changed = state["pipelines"]["motion"] | {"changed": moved}
        path.write_text(json.dumps(state | {"pipelines": {"motion": changed}}))
        again = Desk(tmp_path, f"b{later}", adapt={"priors": {"answers": 20, "hours": 24}})
        again.learning.expect("s", EXPECTED)
        for _ in range(40):
            again.say("idle")
        assert len(again.named("adapted")) == adapted


def test_nothing_is_adapted_while_models_are_compared_or_without_the_key(tmp_path: Path) -> None:
    desk = adapting(tmp_path)
    desk.compared = True
    desk.learning.expect("s", EXPECTED)
    for _ in range(25):
        desk.say("walk")
    assert desk.named("adapted") == []
    desk.learning.use(desk.config())
    desk.compared = False
    desk.say("walk")
    assert desk.named("adapted") == []
    desk.learning.use(desk.config(adapt={"priors": {"answers": 20, **ALWAYS}}))
    desk.say("walk")
    assert len(desk.named("adapted")) == 1
    desk.learning.use(desk.config())
    assert desk.learning.correction("motion", "shake", 3) is None


def test_a_pipeline_that_cannot_run_with_an_adaptation_goes_on_without_it(tmp_path: Path) -> None:
    desk = adapting(tmp_path)
    desk.learning.expect("s", EXPECTED)
    for _ in range(20):
        desk.say("walk")
    desk.learning.swap_failed("motion", "its postprocess has no scores")
    assert desk.learning.correction("motion", "shake", 3) is None
    (reason,) = desk.named("adaptation_undone")
    assert reason == (
        "adaptation 1 (priors) is undone: the pipeline could not run with it: its postprocess has no scores"
    )
    desk.learning.swap_failed("motion", "another reason")
    assert len(desk.named("adaptation_undone")) == 1


def test_attack_a_worker_that_lost_its_pipeline_teaches_it_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, adapt={"offsets": {"windows": 100, **ALWAYS}})
    desk.learning.expect("s", EXPECTED)
    desk.learning.take_levels("s", "motion", Levels(200, (1.0,), (0.0,)))
    desk.learning.close()
    kept = read(tmp_path, desk.damaged.append)
    desk.ledger.assign({"motion": "other"}, 0.0)
    desk.learning.expect("s", msgspec.structs.replace(EXPECTED, accuracy=0.01))
    desk.learning.take_levels("s", "motion", Levels(1 << 40, (9e9,), (0.0,)))
    desk.learning.expect("s", msgspec.structs.replace(EXPECTED, pipeline="unknown"))
    desk.say("walk")
    assert desk.health.expected == 0.95
    desk.learning.close()
    after = read(tmp_path, desk.damaged.append).pipelines
    assert after.keys() == {"motion"}
    assert after["motion"].followed == kept.pipelines["motion"].followed


def test_slow_drift_of_a_sensor_is_followed_but_not_while_a_monitor_reports_a_fault(tmp_path: Path) -> None:
    desk = Desk(tmp_path, adapt={"offsets": {"windows": 100, **ALWAYS}})

    def period(mean: float) -> None:
        for _ in range(4):
            desk.learning.take_levels("s", "motion", Levels(5000, (mean, 5.0), (4.0, 1.0)))
        desk.say("walk")

    period(10.0)
    desk.learning.drifted("motion", DriftEvent(type="new", monitor="sensor", fault="unit"))
    period(10.15)
    period(10.3)
    assert desk.named("adapted") == []
    desk.learning.drifted("motion", DriftEvent(type="end", monitor="sensor"))
    for step in range(12):
        period(10.3 + 0.15 * step)
    found = desk.learning.correction("motion", "shake", 3)
    assert found is not None
    assert 0.6 <= found.offsets[0] <= 1.0
    assert found.offsets[1] == 0.0
    assert "moved slowly" in desk.named("adapted")[0]


def test_labels_that_were_enrolled_are_adaptations_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.learning.taught("motion", "Anna", forgotten=False, who=Who(reporter="mqtt"))
    desk.learning.taught("motion", "Bert", forgotten=False, who=Who(reporter="mqtt"))
    desk.learning.taught("motion", "Anna", forgotten=True, who=Who(reporter="mqtt"))
    assert desk.named("adapted")[-1] == "adaptation 3 (prototype): The label 'Anna' was forgotten by command"
    undone = desk.learning.undo("motion", 2, Who(), "by a test")
    assert (undone.numbers, undone.labels) == ([2, 3], 2)
    with pytest.raises(ValueError, match="adaptation 3 is not in force; there are 1"):
        desk.learning.undo("motion", 3, Who(), "by a test")
    with pytest.raises(KeyError):
        desk.learning.undo("pump", None, Who(), "by a test")
