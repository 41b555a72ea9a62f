"""What a reload and a step of the governor change, and what is reported of it. No I/O."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from limpet.config import Backup, Config, Device, PipelineConfig, Rung
from limpet.contracts.assignment import FoundModel, SourceTable
from limpet.supervision.plan import News, Plan
from limpet.tables import ApiTable, OtlpTable
from limpet.wire.records import Incident, Transition

if TYPE_CHECKING:
    from limpet.contracts.assignment import PipelineAssignment


def config(*rungs: Rung, source: str = "line", model: str = "motion") -> Config:
    sources = {name: SourceTable("replay", {}) for name in ("line", "other")}
    pipelines = {"p": PipelineConfig(source=source, model=model, ladder=list(rungs))}
    return Config(Path("/base"), Device(id="d", state=Path("/state")), sources, pipelines, {})


def found(version: int, problem: str = "", name: str = "motion") -> FoundModel:
    return FoundModel(Path(f"/store/{name}-{version}.limpet"), name, version, f"sha-{version}", problem)


def in_use(plan: Plan) -> dict[str, PipelineAssignment]:
    """Return what pipelines run whose workers do as planned."""
    return {name: one for cell in plan.cells.values() for name, one in cell.pipelines.items()}


def runs(plan: Plan) -> str:
    return plan.cells["line"].pipelines["p"].model.path.name


def test_a_start_reports_the_newer_versions_that_are_skipped() -> None:
    plan = Plan(config(), {"motion": [found(3, "three is damaged"), found(2)]})
    assert runs(plan) == "motion-2.limpet"
    assert plan.news == [News("skipped", "p", "three is damaged; runs motion-2.limpet")]
    assert plan.failed == []


def test_a_start_without_a_model_is_a_failure() -> None:
    plan = Plan(config(), {"motion": [found(3, "three is damaged")]})
    assert [(move.pipeline, move.state, move.reason) for move in plan.failed] == [
        ("p", "failed", "three is damaged")
    ]
    assert plan.cells == {}
    assert plan.news == []
    assert not plan.runs("p")
    assert plan.runs("of an earlier configuration")


def test_many_damaged_versions_make_a_short_reason() -> None:
    damaged = [found(version, f"{version} is damaged") for version in range(31, 1, -1)]
    plan = Plan(config(), {"motion": [*damaged, found(1)]})
    (news,) = plan.news
    assert news.reason.startswith("31 is damaged; 30 is damaged; ")
    assert news.reason.endswith("; and 25 more; runs motion-1.limpet")
    (move,) = Plan(config(), {"motion": damaged}).failed
    assert move.reason.endswith("; and 25 more")


def test_what_is_skipped_is_reported_once() -> None:
    damaged = {"motion": [found(3, "three is damaged"), found(2)]}
    plan = Plan(config(), damaged)
    plan.reload(config(), damaged, in_use(plan))
    assert plan.news == []
    plan.reload(config(), {"motion": [found(4, "four, too"), *damaged["motion"]]}, in_use(plan))
    assert plan.news == [News("skipped", "p", "four, too; three is damaged; runs motion-2.limpet")]
    plan.reload(config(), {"motion": [found(5)]}, in_use(plan))
    assert (runs(plan), plan.news) == ("motion-5.limpet", [])


def test_what_runs_goes_on_if_a_reload_finds_nothing_sound() -> None:
    plan = Plan(config(), {"motion": [found(2)]})
    plan.reload(config(), {"motion": [found(2, "it is damaged now")]}, in_use(plan))
    assert runs(plan) == "motion-2.limpet"
    assert plan.news == [News("skipped", "p", "it is damaged now; runs motion-2.limpet")]


def test_what_goes_on_is_what_runs_and_not_what_was_given_up() -> None:
    plan = Plan(config(), {"motion": [found(2)]})
    second = in_use(plan)
    plan.reload(config(), {"motion": [found(3)]}, second)
    plan.reload(config(), {"motion": [found(3, "it is gone")]}, second)  # version 3 had failed
    assert runs(plan) == "motion-2.limpet"
    assert plan.news == [News("skipped", "p", "it is gone; runs motion-2.limpet")]


def test_what_has_failed_does_not_go_on() -> None:
    plan = Plan(config(), {"motion": [found(2)]})
    plan.reload(config(), {"motion": [found(2, "it is damaged now")]}, {})
    assert [move.reason for move in plan.failed] == ["it is damaged now"]


def test_a_pipeline_that_moves_to_another_source_takes_no_old_model_along() -> None:
    plan = Plan(config(), {"motion": [found(2)]})
    plan.reload(config(source="other"), {"motion": [found(2, "it is damaged now")]}, in_use(plan))
    assert plan.cells == {}
    assert [move.state for move in plan.failed] == ["failed"]


def test_a_step_of_the_governor_is_reported_with_what_runs_then() -> None:
    files = {"motion": [found(2)], "light": [found(1, name="light")]}
    plan = Plan(config(Rung(model="light"), Rung(every=4)), files)
    assert plan.deepest == 2
    plan.step(1, "81 °C", in_use(plan))
    assert plan.news == [News("stepped_down", "p", "81 °C; runs light-1.limpet on cpu")]
    plan.step(2, "82 °C", in_use(plan))
    assert plan.news == [News("stepped_down", "p", "82 °C; runs motion-2.limpet on cpu, one window in 4")]
    plan.step(1, "within all limits", in_use(plan))
    assert plan.news == [News("stepped_up", "p", "within all limits; runs light-1.limpet on cpu")]


def test_a_rung_whose_model_is_damaged_leaves_what_runs() -> None:
    files = {"motion": [found(2)], "light": [found(1, "light is damaged", name="light")]}
    plan = Plan(config(Rung(model="light")), files)
    plan.step(1, "81 °C", in_use(plan))
    assert runs(plan) == "motion-2.limpet"
    assert plan.news == [News("skipped", "p", "light is damaged; runs motion-2.limpet")]
    plan.step(0, "within all limits", in_use(plan))
    assert (runs(plan), plan.news) == ("motion-2.limpet", [])


def test_a_reload_keeps_the_level_of_the_governor() -> None:
    plan = Plan(config(Rung(every=4)), {"motion": [found(2)]})
    plan.step(1, "81 °C", in_use(plan))
    plan.reload(config(Rung(every=8)), {"motion": [found(2)]}, in_use(plan))
    assert plan.desired.pipelines["p"].options.every == 8


def failing(plan: Plan, reason: str = "wrong numbers") -> bool:
    """Have a worker report that it opens the model, and that this fails."""
    assert not plan.hear(Transition("p", "starting", revision=1))
    return plan.hear(Transition("p", "failed", reason, revision=1))


def test_a_model_that_fails_before_it_ever_ran_gives_way_to_a_lower_version() -> None:
    plan = Plan(config(), {"motion": [found(3)]})
    assert failing(plan)
    assert plan.failed_models == {"sha-3"}
    plan.look_again({"motion": [found(3), found(2)]}, {})
    assert runs(plan) == "motion-2.limpet"
    assert plan.news == [News("skipped", "p", "motion-3.limpet: wrong numbers; runs motion-2.limpet")]


def test_two_pipelines_whose_common_model_fails_both_give_way_to_a_lower_version() -> None:
    wanted = config()
    wanted.pipelines["q"] = PipelineConfig(source="other", model="motion")
    plan = Plan(wanted, {"motion": [found(3)]})
    for name in ("p", "q"):
        plan.hear(Transition(name, "starting", revision=1))
        assert plan.hear(Transition(name, "failed", "wrong numbers", revision=1))
        assert not plan.hear(Transition(name, "failed", "wrong numbers", revision=1))
    plan.look_again({"motion": [found(3), found(2)]}, {})
    assert {name: one.model.version for name, one in in_use(plan).items()} == {"p": 2, "q": 2}


def test_if_all_versions_fail_the_highest_is_the_last_to_be_tried() -> None:
    plan = Plan(config(), {"motion": [found(3)]})
    both = {"motion": [found(3), found(2)]}
    assert failing(plan)
    plan.look_again(both, {})
    assert failing(plan)
    plan.look_again(both, {})
    assert runs(plan) == "motion-3.limpet"
    assert not failing(plan)


def test_a_reload_tries_what_failed_again() -> None:
    plan = Plan(config(), {"motion": [found(3)]})
    assert failing(plan)
    plan.look_again({"motion": [found(3), found(2)]}, {})
    plan.reload(config(), {"motion": [found(3)]}, in_use(plan))
    assert runs(plan) == "motion-3.limpet"
    assert plan.failed_models == frozenset()


def test_what_ran_does_not_give_way_when_it_fails() -> None:
    plan = Plan(config(), {"motion": [found(3)]})
    plan.hear(Transition("p", "starting", revision=1))
    plan.hear(Transition("p", "running", model="motion", version=3, revision=1))
    assert not plan.hear(Transition("p", "failed", "ten windows in a row", revision=1))


def test_a_source_that_fails_is_no_matter_of_the_version() -> None:
    plan = Plan(config(), {"motion": [found(3)]})
    assert not plan.hear(Transition("p", "starting", "killed by SIGSEGV"))
    assert not plan.hear(Transition("p", "failed", "sources.line: no such file", revision=1))


@pytest.mark.parametrize("model", ["motion@3", "models/motion-3.limpet", "motion.tflite"])
def test_a_version_or_a_file_that_is_named_gives_way_to_no_other(model: str) -> None:
    plan = Plan(config(model=model), {model: [found(3)]})
    assert not failing(plan)


def test_a_new_file_under_the_same_name_is_another_assignment() -> None:
    plan = Plan(config(), {"motion": [found(2)]})
    before = plan.cells["line"].pipelines["p"]
    plan.reload(config(), {"motion": [msgspec.structs.replace(found(2), sha256="another")]}, in_use(plan))
    assert plan.cells["line"].pipelines["p"] != before


def refused(version: int) -> Incident:
    """Have a worker report that a model did not take over from another one."""
    return Incident("p", "swap_failed", f"{version} is not used", f"sha-{version}", "wrong numbers")


def test_a_model_that_does_not_take_over_gives_way_to_a_lower_version_with_the_new_options() -> None:
    plan = Plan(config(), {"motion": [found(2)]})
    before = in_use(plan)
    wanted = config()
    wanted.pipelines["p"].every = 4
    plan.reload(wanted, {"motion": [found(3)]}, before)
    assert plan.hear_incident(refused(3))
    assert plan.failed_models == {"sha-3"}
    plan.look_again({"motion": [found(3), found(2)]}, before)
    assert (runs(plan), plan.desired.pipelines["p"].options.every) == ("motion-2.limpet", 4)
    assert plan.news == [News("skipped", "p", "motion-3.limpet: wrong numbers; runs motion-2.limpet")]


def test_if_no_lower_version_works_either_the_old_model_goes_on() -> None:
    plan = Plan(config(), {"motion": [found(1)]})
    before = in_use(plan)
    plan.reload(config(), {"motion": [found(3)]}, before)
    assert plan.hear_incident(refused(3))
    plan.look_again({"motion": [found(3), found(2)]}, before)
    assert plan.hear_incident(refused(2))
    plan.look_again({"motion": [found(3), found(2)]}, before)
    assert runs(plan) == "motion-1.limpet"
    assert plan.news == [
        News(
            "skipped",
            "p",
            "motion-3.limpet: wrong numbers; motion-2.limpet: wrong numbers; runs motion-1.limpet",
        )
    ]


def test_a_model_that_did_not_take_over_is_tried_again_with_other_options_or_by_hand() -> None:
    plan = Plan(config(), {"motion": [found(2)]})
    before, files = in_use(plan), {"motion": [found(3), found(2)]}
    plan.reload(config(), files, before)
    assert plan.hear_incident(refused(3))
    assert plan.refused_models(config()) == {"sha-3"}
    plan.reload(config(), files, before)
    assert runs(plan) == "motion-2.limpet"
    assert plan.retry("p", before)
    assert runs(plan) == "motion-3.limpet"
    assert not plan.retry("p", before)
    assert plan.hear_incident(refused(3))
    assert plan.refused_models(config(Rung(every=2))) == frozenset()
    plan.reload(config(Rung(every=2)), files, before)
    assert runs(plan) == "motion-3.limpet"


def test_a_swap_that_failed_says_nothing_of_the_model_that_is_wanted_now_or_that_has_run() -> None:
    plan = Plan(config(), {"motion": [found(4)]})
    assert not plan.hear_incident(refused(3))
    assert not plan.hear_incident(Incident("p", "swap_failed", "its new options are not used"))
    plan.hear(Transition("p", "starting", revision=1))
    plan.hear(Transition("p", "running", model="motion", version=4, revision=1))
    assert not plan.hear_incident(refused(4))
    assert not Plan(config(model="motion@3"), {"motion@3": [found(3)]}).hear_incident(refused(3))


def backed_up(*rungs: Rung, model: str = "motion") -> Config:
    wanted = config(*rungs, model=model)
    wanted.pipelines["p"].backup = Backup(model="small")
    return wanted


BOTH = {"motion": [found(3), found(2)], "small": [found(1, name="small")]}


def test_a_backup_model_takes_the_place_of_the_main_one_and_gives_it_back() -> None:
    plan = Plan(backed_up(), BOTH)
    assert (plan.has_backup("p"), in_use(plan)["p"].backed_up) == (True, True)
    plan.back_up({"p": "ten windows in a row"}, in_use(plan))
    assert (runs(plan), in_use(plan)["p"].backed_up) == ("small-1.limpet", False)
    assert plan.news == [News("backup", "p", "ten windows in a row; runs small-1.limpet on cpu")]
    assert not plan.runs_main(Transition("p", "running", model="small", version=1))
    plan.back_up({}, in_use(plan))
    assert runs(plan) == "motion-3.limpet"
    assert plan.news == [News("main_retried", "p", "tries motion-3.limpet on cpu")]
    assert plan.runs_main(Transition("p", "running", model="motion", version=3))
    assert not plan.runs_main(Transition("p", "running", model="small", version=1))


def test_a_worker_may_read_the_backup_model_from_the_start() -> None:
    files = Plan(backed_up(), BOTH).cells["line"].models["p"]
    assert [file.name for file in files] == ["motion-3.limpet", "small-1.limpet"]


def test_lower_versions_are_tried_before_the_backup_model() -> None:
    plan = Plan(backed_up(), {**BOTH, "motion": [found(3)]})
    assert failing(plan)  # lower versions are looked for
    plan.look_again(BOTH, {})
    assert runs(plan) == "motion-2.limpet"
    assert failing(plan)
    plan.look_again(BOTH, {})
    assert not failing(plan)  # there is none any more
    assert plan.is_about_model(Transition("p", "failed", "wrong numbers", revision=1))


def test_a_source_that_fails_is_no_matter_of_the_main_model() -> None:
    plan = Plan(backed_up(), BOTH)
    assert not plan.is_about_model(Transition("p", "failed", "sources.line: no such file", revision=1))
    assert plan.is_about_model(Transition("p", "failed", "crashed too often (killed by SIGSEGV)"))


def test_a_main_model_that_failed_is_tried_again_with_its_highest_version() -> None:
    plan = Plan(backed_up(), BOTH)
    assert failing(plan)
    plan.back_up({"p": "wrong numbers"}, {})
    plan.back_up({}, in_use(plan))
    assert runs(plan) == "motion-3.limpet"


def test_a_backup_model_that_is_damaged_is_none() -> None:
    damaged = {**BOTH, "small": [found(1, "it is damaged", name="small")]}
    plan = Plan(backed_up(), damaged)
    assert (plan.has_backup("p"), in_use(plan)["p"].backed_up) == (False, False)
    assert not Plan(config(), BOTH).has_backup("p")
    assert not Plan(config(), BOTH).has_backup("of an earlier configuration")


def test_the_backup_model_takes_the_place_of_a_rungs_and_runs_as_often_as_the_rung_says() -> None:
    files = {**BOTH, "light": [found(1, name="light")]}
    plan = Plan(backed_up(Rung(model="light", every=4)), files)
    plan.step(1, "81 °C", in_use(plan))
    assert (runs(plan), plan.desired.pipelines["p"].options.every) == ("light-1.limpet", 4)
    assert plan.runs_main(Transition("p", "running", model="light", version=1))
    plan.back_up({"p": "it crashed"}, in_use(plan))
    assert (runs(plan), plan.desired.pipelines["p"].options.every) == ("small-1.limpet", 4)
    plan.step(0, "within all limits", in_use(plan))
    assert (runs(plan), plan.desired.pipelines["p"].options.every) == ("small-1.limpet", 1)


def test_an_update_changes_the_main_model_and_leaves_the_backup_model_alone() -> None:
    deployed = found(8, name="motion")
    wanted = backed_up()
    wanted.selected = {"p": (deployed, None)}
    files = {**BOTH, "@p@": [deployed, *BOTH["motion"]]}
    plan = Plan(wanted, files)
    assert runs(plan) == "motion-8.limpet"
    assert plan.runs_main(Transition("p", "running", model="motion", version=8))
    plan.back_up({"p": "it crashed"}, in_use(plan))
    assert runs(plan) == "small-1.limpet"
    plan.back_up({}, in_use(plan))
    assert runs(plan) == "motion-8.limpet"


def test_without_a_main_model_the_backup_runs_and_is_not_taken_for_it() -> None:
    plan = Plan(backed_up(), {**BOTH, "motion": []})
    assert [move.state for move in plan.failed] == ["failed"]
    plan.back_up({"p": "there is no model 'motion'"}, {})
    assert (runs(plan), plan.failed) == ("small-1.limpet", [])
    plan.back_up({}, in_use(plan))
    assert runs(plan) == "small-1.limpet"
    assert not plan.runs_main(Transition("p", "running", model="small", version=1))


def test_a_reload_begins_and_ends_traces() -> None:
    models, traced = {"motion": [found(2)]}, ApiTable(otlp=OtlpTable(url="http://127.0.0.1:4318", traces=0.25))
    plan = Plan(config(), models)
    assert plan.cells["line"].traces == 0
    plan.reload(msgspec.structs.replace(config(), api=traced), models, {})
    assert plan.cells["line"].traces == 0.25
    plan.reload(msgspec.structs.replace(config(), api=ApiTable()), models, {})
    assert plan.cells["line"].traces == 0
