"""Who runs what: sources and pipelines to cells. No file, no process and no clock."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.assignment import Folders, ModelFile, PipelineOptions, SourceTable
from limpet.deployment.assignments import assignments, connected, fed_by, runnable
from limpet.deployment.desired import Desired, DesiredPipeline

MODEL = ModelFile(Path("/m.tflite"), "m", 0, "sha")
FOLDERS = Folders(Path("/base"), Path("/state"), Path("/store"))
SOURCES = {name: SourceTable("replay", {}) for name in "abcdef"}


def wanted(**pipelines: DesiredPipeline) -> Desired:
    return Desired(FOLDERS, SOURCES, pipelines, {})


def on(*sources: str, after: str = "", model: ModelFile | None = MODEL) -> DesiredPipeline:
    return DesiredPipeline(sources=sources, options=PipelineOptions(), model=model, after=after)


def shape(made: Desired) -> dict[str, tuple[list[str], list[str]]]:
    return {name: (list(cell.sources), list(cell.pipelines)) for name, cell in assignments(made).items()}


def test_one_source_is_one_cell_with_all_its_pipelines() -> None:
    made = wanted(one=on("a"), two=on("b"), three=on("a"))
    assert shape(made) == {"a": (["a"], ["one", "three"]), "b": (["b"], ["two"])}


def test_a_source_that_no_pipeline_uses_has_no_cell() -> None:
    assert shape(wanted()) == {}


def test_a_pipeline_on_two_sources_merges_their_cells() -> None:
    made = wanted(one=on("a"), two=on("c"), joined=on("c", "b", "a"), apart=on("d"))
    assert shape(made) == {"a": (["a", "b", "c"], ["one", "two", "joined"]), "d": (["d"], ["apart"])}
    assert assignments(made)["a"].pipelines["joined"].sources == ("c", "b", "a")


def test_cells_merge_over_several_joins() -> None:
    made = wanted(one=on("a", "b"), two=on("d", "e"), bridge=on("b", "d"))
    assert list(shape(made)) == ["a"]
    assert shape(made)["a"][0] == ["a", "b", "d", "e"]


def test_a_chained_pipeline_is_in_the_cell_of_the_one_that_feeds_it() -> None:
    made = wanted(last=on(after="middle"), middle=on(after="first"), first=on("b"), other=on("a"))
    assert shape(made) == {"a": (["a"], ["other"]), "b": (["b"], ["last", "middle", "first"])}
    assert assignments(made)["b"].pipelines["last"].after == "middle"


def test_a_chained_pipeline_that_also_reads_a_source_merges_two_cells() -> None:
    made = wanted(first=on("a"), last=on("b", after="first"))
    assert shape(made) == {"a": (["a", "b"], ["first", "last"])}


def test_a_pipeline_without_a_model_has_no_place_nor_has_one_that_it_feeds() -> None:
    made = wanted(first=on("a", model=None), last=on(after="first"), other=on("b"))
    assert runnable(made) == ["other"]
    assert shape(made) == {"b": (["b"], ["other"])}


def test_pipelines_in_a_circle_have_no_source_and_no_cell() -> None:
    assert shape(wanted(one=on(after="two"), two=on(after="one"))) == {}


def test_the_name_of_a_cell_does_not_depend_on_the_order() -> None:
    forward = wanted(one=on("b", "a"), two=on("c"))
    backward = wanted(two=on("c"), one=on("a", "b"))
    assert sorted(assignments(forward)) == sorted(assignments(backward)) == ["a", "c"]


def test_an_assignment_has_what_its_cell_needs_and_nothing_of_others() -> None:
    secret = SourceTable("serial", {"port": "tcp://user:password@host"})
    made = Desired(FOLDERS, {**SOURCES, "b": secret}, {"one": on("a"), "two": on("b")}, {})
    assert "b" not in assignments(made)["a"].sources
    assert "password" not in repr(assignments(made)["a"])
    assert assignments(made)["a"].folders == FOLDERS


def test_an_assignment_names_the_pipelines_that_are_to_prove_themselves() -> None:
    made = wanted(one=on("a"), two=msgspec.structs.replace(on("a"), prove=True), three=on("b"))
    assert {name: cell.prove for name, cell in assignments(made).items()} == {"a": ("two",), "b": ()}


def test_only_some_pipelines_of_an_assignment() -> None:
    cell = assignments(wanted(one=on("a"), two=on("a")))["a"]
    assert list(cell.only(["two"]).pipelines) == list(cell.only(["two"]).models) == ["two"]
    assert cell.only(["two"]).sources == cell.sources


@st.composite
def anything(draw: st.DrawFn) -> Desired:
    """Draw pipelines that join any sources, and may follow any pipeline before them."""
    pipelines: dict[str, DesiredPipeline] = {}
    for number in range(draw(st.integers(0, 8))):
        after = draw(st.sampled_from(["", *pipelines])) if pipelines else ""
        sources = draw(
            st.lists(st.sampled_from(sorted(SOURCES)), unique=True, min_size=0 if after else 1, max_size=3)
        )
        pipelines[f"p{number}"] = on(*sources, after=after, model=draw(st.sampled_from([MODEL, MODEL, None])))
    return wanted(**pipelines)


@given(anything())
def test_every_pipeline_that_can_run_is_in_one_cell_with_all_that_feeds_it(made: Desired) -> None:
    cells = assignments(made)
    placed = [name for cell in cells.values() for name in cell.pipelines]
    assert sorted(placed) == sorted(runnable(made))
    sources = [name for cell in cells.values() for name in cell.sources]
    assert len(sources) == len(set(sources))
    for cell in cells.values():
        assert cell.cell == min(cell.sources)
        for name, pipeline in cell.pipelines.items():
            assert fed_by(made, name) <= cell.sources.keys()
            assert pipeline.after in {"", *cell.pipelines}


@given(st.lists(st.frozensets(st.sampled_from("abcdefgh"), min_size=1), max_size=8))
def test_connected_groups_are_apart_and_lose_no_member(groups: list[frozenset[str]]) -> None:
    merged = connected(groups)
    members = [member for group in merged for member in group]
    assert len(members) == len(set(members))
    assert set(members) == {member for group in groups for member in group}
    assert all(any(group <= whole for whole in merged) for group in groups)
