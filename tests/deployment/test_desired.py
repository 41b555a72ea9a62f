"""What should run, made of what is known: no file, no process and no clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from limpet.config import Backup, Config, Device, PipelineConfig, Rung
from limpet.contracts.assignment import FoundModel, ModelFile, PipelineAssignment, SourceTable
from limpet.contracts.savings import CascadeOptions
from limpet.deployment.desired import DesiredPipeline, Rollout, choose, deepest, desired, on_rung

STORE = Path("/store")


def found(version: int, problem: str = "", name: str = "motion") -> FoundModel:
    path = STORE / f"{name}-{version}.limpet"
    return FoundModel(path, name, version, "" if problem else f"sha-{name}-{version}", problem)


def config(*rungs: Rung, model: str = "motion", **options: Any) -> Config:
    pipeline = PipelineConfig(source="line", model=model, ladder=list(rungs), **options)
    device = Device(id="d", state=Path("/state"), models=STORE)
    return Config(Path("/base"), device, {"line": SourceTable("replay", {})}, {"p": pipeline}, {})


def one(*versions: FoundModel, wanted: Config | None = None, **more: Any) -> DesiredPipeline:
    return desired(wanted or config(), {"motion": versions}, **more).pipelines["p"]


def version(pipeline: DesiredPipeline) -> int | None:
    return pipeline.model.version if pipeline.model else None


def running(version: int, **options: Any) -> PipelineAssignment:
    return PipelineAssignment("p", ("line",), found(version).file, config(**options).pipelines["p"].options)


def test_the_highest_version_runs() -> None:
    chosen = one(found(10), found(9), found(2))
    assert chosen.model == ModelFile(STORE / "motion-10.limpet", "motion", 10, "sha-motion-10")
    assert (chosen.problem, chosen.skipped) == ("", ())


def test_a_damaged_newer_one_is_skipped_and_its_reason_is_kept() -> None:
    chosen = one(found(4, "motion-4.limpet: not a bundle"), found(3), found(2))
    assert version(chosen) == 3
    assert chosen.skipped == ("motion-4.limpet: not a bundle",)


def test_a_damaged_older_one_is_no_news() -> None:
    assert one(found(3), found(2, "damaged")).skipped == ()


def test_a_pipeline_without_a_sound_model_says_what_is_wrong_with_each() -> None:
    chosen = one(found(4, "four is damaged"), found(3, "three is damaged"))
    assert chosen.model is None
    assert chosen.problem == "four is damaged; three is damaged"
    assert one().problem == "there is no model 'motion'"


def test_a_model_with_lower_versions_is_to_prove_itself() -> None:
    above = msgspec.structs.replace(found(3), lower=True)
    assert one(above).prove
    assert not one(found(2)).prove


def test_a_model_that_failed_here_is_skipped_while_there_is_another() -> None:
    failed = Rollout(failed={"p": {"sha-motion-4": "it failed its golden vectors"}})
    chosen = one(found(4), found(3), rollout=failed)
    assert version(chosen) == 3
    assert chosen.skipped == ("motion-4.limpet: it failed its golden vectors",)
    assert version(one(found(4), rollout=failed)) == 4
    assert version(one(found(4), found(3, "damaged"), rollout=failed)) == 4


def test_a_pipeline_goes_on_with_what_it_runs_if_nothing_sound_is_there() -> None:
    before = Rollout(running={"p": running(3, every=2)})
    chosen = one(found(4, "damaged"), wanted=config(every=5), rollout=before)
    assert (version(chosen), chosen.options.every, chosen.problem) == (3, 2, "damaged")
    other_source = msgspec.structs.replace(running(3), sources=("other",))
    assert one(found(4, "damaged"), rollout=Rollout(running={"p": other_source})).model is None


def test_a_sound_model_runs_whatever_ran_before() -> None:
    assert version(one(found(4), rollout=Rollout(running={"p": running(5)}))) == 4


def test_the_governor_chooses_the_rung() -> None:
    ladder = config(Rung(model="light", delegates=["npu"]), Rung(every=4))
    files = {"motion": [found(3)], "light": [found(5, name="light")]}
    made = [desired(ladder, files, level=level).pipelines["p"] for level in range(4)]
    assert [one.model.name for one in made if one.model] == ["motion", "light", "motion", "motion"]
    assert [one.options.every for one in made] == [1, 1, 4, 4]
    assert [one.options.delegates for one in made] == [["cpu"], ["npu"], ["cpu"], ["cpu"]]
    assert deepest(ladder) == 2


def test_a_worker_may_read_the_models_of_all_rungs() -> None:
    files = {"motion": [found(4, "damaged"), found(3)], "light": [found(5, name="light")]}
    for level in range(2):
        models = desired(config(Rung(model="light")), files, level=level).pipelines["p"].models
        assert set(models) == {STORE / "motion-3.limpet", STORE / "light-5.limpet"}


def test_a_worker_may_read_what_it_runs() -> None:
    assert one(found(10), found(2)).models == (STORE / "motion-10.limpet",)
    before = Rollout(running={"p": running(3)})
    assert one(found(4, "damaged"), rollout=before).models == (STORE / "motion-3.limpet",)


CASCADE = CascadeOptions(model="light", margin=0.5)


def test_a_cascade_has_its_light_model_and_its_worker_may_read_it() -> None:
    files = {"motion": [found(3)], "light": [found(5, "damaged", name="light"), found(4, name="light")]}
    chosen = desired(config(cascade=CASCADE), files).pipelines["p"]
    assert (version(chosen), chosen.light) == (3, found(4, name="light").file)
    assert set(chosen.models) == {STORE / "motion-3.limpet", STORE / "light-4.limpet"}


def test_without_its_light_model_a_pipeline_runs_alone_and_says_why() -> None:
    for problem, why in (("not a bundle", "not a bundle"), (None, "there is no model 'light'")):
        light = [found(5, problem, name="light")] if problem else []
        chosen = desired(config(cascade=CASCADE), {"motion": [found(3)], "light": light}).pipelines["p"]
        assert (version(chosen), chosen.light) == (3, None)
        assert chosen.skipped == (f"the light model of the cascade: {why}",)


def test_a_model_that_takes_the_place_of_the_main_one_runs_without_its_cascade() -> None:
    wanted = config(Rung(every=4), Rung(model="small"), cascade=CASCADE, backup=Backup(model="spare"))
    files = {name: [found(1, name=name)] for name in ("motion", "light", "small", "spare")}
    lights = [desired(wanted, files, level=level).pipelines["p"].light for level in range(3)]
    assert [light is not None for light in lights] == [True, True, False]
    assert desired(wanted, files, Rollout(backups=frozenset({"p"}))).pipelines["p"].light is None


def test_a_rung_without_a_sound_model_leaves_what_runs() -> None:
    files = {"motion": [found(3)], "light": [found(5, "damaged", name="light")]}
    made = desired(config(Rung(model="light")), files, rollout=Rollout(running={"p": running(3)}), level=1)
    assert version(made.pipelines["p"]) == 3
    assert made.pipelines["p"].problem == "damaged"


def test_what_a_rung_does_not_name_is_as_in_the_pipeline() -> None:
    plain = PipelineConfig(source="line", model="m")
    assert on_rung(plain, 3) is plain


FOUND = st.lists(st.builds(found, st.integers(0, 9), st.sampled_from(["", "damaged"])), max_size=6)


@given(FOUND, st.sets(st.integers(0, 9)))
def test_whatever_is_found_the_choice_is_sound_and_every_higher_one_has_a_reason(
    versions: list[FoundModel], bad: set[int]
) -> None:
    versions.sort(key=lambda each: -each.version)
    failed = {f"sha-motion-{number}": "failed" for number in bad}
    chosen = choose(versions, failed)
    sound = [each for each in versions if not each.problem]
    assert (chosen is None) == (not sound)
    made = one(*versions, rollout=Rollout(failed={"p": failed}))
    if chosen is None:
        assert made.model is None
        assert made.problem
        return
    assert not chosen.problem
    assert made.model == chosen.file
    higher = versions[: versions.index(chosen)]
    assert len(made.skipped) == len(higher)
    assert all(each.problem or each.sha256 in failed for each in higher)
