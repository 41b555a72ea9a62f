"""What a plugin declares becomes what its worker may open."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet.contracts.assignment import (
    Assignment,
    Folders,
    ModelFile,
    PipelineAssignment,
    PipelineOptions,
    SourceTable,
)
from limpet.contracts.needs import Endpoint, Needs
from limpet.device import directories
from limpet.errors import ConfigError
from limpet.inference import needs
from limpet.inference.plan import Configured
from limpet.plugins import needs_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Config(msgspec.Struct):
    table: Path
    more: list[Path] = []


def plugin(declare: Callable[[Any], object] | None = None) -> ModuleType:
    module = ModuleType("outside")
    if declare is not None:
        vars(module)["needs"] = declare
    return module


def readable(tmp_path: Path, declared: Needs) -> frozenset[Path]:
    for name in ("config", "state", "store", "data", "more", "lib"):
        (tmp_path / name).mkdir(exist_ok=True)
    config = Config(tmp_path / "data" / "table.csv", [tmp_path / "more"])
    source = Configured("outside", plugin(lambda _: declared), config)
    folders = Folders(tmp_path / "config", tmp_path / "state", tmp_path / "store")
    return needs.of_description(folders, "s", source)


def test_a_plugin_that_declares_nothing_needs_nothing() -> None:
    assert needs_of(plugin(), Config(Path("/x"))) == Needs()


def test_needs_of_another_type_are_refused_with_what_to_return() -> None:
    with pytest.raises(ConfigError, match=r"outside.needs\(\) returned bool; it must return limpet"):
        needs_of(plugin(lambda _: True), Config(Path("/x")))


def test_an_error_in_needs_names_the_function_and_the_line() -> None:
    with pytest.raises(
        ConfigError, match=r"outside.needs\(\) failed: AttributeError: .*'devic' \(.*test_needs\.py, "
    ):
        needs_of(plugin(lambda config: Needs(devices=(config.devic,))), Config(Path("/x")))


def test_paths_of_the_options_and_declared_paths_can_be_read(tmp_path: Path) -> None:
    declared = Needs(read=(tmp_path / "lib",), endpoints=(Endpoint("h", 1),))
    assert readable(tmp_path, declared) == {
        tmp_path / "data" / "table.csv",
        tmp_path / "data",
        tmp_path / "more",
        tmp_path / "lib",
    }


@pytest.mark.parametrize("folder", ["state", "state/cache/models", "config", "store", "."])
def test_no_plugin_writes_where_limpets_own_files_lie(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ConfigError, match=r"sources.s: it writes in .*, which holds Limpet's own files"):
        readable(tmp_path, Needs(write=(tmp_path / folder,)))


def test_a_plugin_may_have_a_folder_of_its_own(tmp_path: Path) -> None:
    assert readable(tmp_path, Needs(write=(tmp_path / "own",)))


def test_a_worker_may_open_what_its_source_declares_its_files_and_its_cache(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "config", tmp_path / "state", tmp_path / "store")
    declared = Needs(
        devices=("/dev/video*",), endpoints=(Endpoint("h", 1),), read=(tmp_path / "r",), write=(tmp_path / "w",)
    )
    source = Configured("outside", plugin(lambda _: declared), Config(tmp_path / "table.csv"))
    assignment = Assignment("s", folders, {"s": SourceTable("outside", {})}, {}, {})
    allowed = needs.of_worker(assignment, source)
    assert (allowed.devices, allowed.endpoints) == ({"/dev/video*"}, {Endpoint("h", 1)})
    assert not allowed.network
    assert {tmp_path / "table.csv", tmp_path / "r", tmp_path / "store"} <= allowed.read
    assert allowed.change == {tmp_path / "w", directories.models_cache(tmp_path / "state", "s")}


def test_a_candidate_check_reads_its_model_alone_and_opens_no_device(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "config", tmp_path / "state" / "trial", tmp_path / "store")
    (tmp_path / "store").mkdir()
    for name in ("m-1.limpet", "m-2.limpet"):
        (tmp_path / "store" / name).touch()
    declared = Needs(devices=("/dev/ttyUSB0",), endpoints=(Endpoint("h", 1),), write=(tmp_path / "w",))
    source = Configured("outside", plugin(lambda _: declared), Config(tmp_path / "table.csv"))
    model = ModelFile(tmp_path / "store" / "m-2.limpet", "m", 2, "sha")
    pipelines = {"p": PipelineAssignment("p", ("s",), model, PipelineOptions())}
    allowed = needs.of_candidate(
        Assignment("s", folders, {"s": SourceTable("outside", {})}, pipelines, {}), source
    )
    assert allowed.reads(model.path)
    assert not allowed.reads(tmp_path / "store" / "m-1.limpet")
    assert allowed.change == {directories.models_cache(folders.state, "s")}
    assert (allowed.devices, allowed.scratch, allowed.connects) == (frozenset(), frozenset(), False)


def test_a_worker_may_write_what_a_model_learns_in_the_folder_of_its_pipeline_alone(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "config", tmp_path / "state", tmp_path / "store")
    source = Configured("outside", plugin(), Config(tmp_path / "table.csv"))
    pipelines = {
        name: PipelineAssignment(
            name, ("s",), ModelFile(tmp_path / "m", "m", 0, "sha", runtime), PipelineOptions()
        )
        for name, runtime in [("one", "mahalanobis"), ("two", "tflite"), ("three", "gone"), ("four", "")]
    }
    allowed = needs.of_worker(Assignment("s", folders, {"s": SourceTable("outside", {})}, pipelines, {}), source)
    own = {directories.learned(tmp_path / "state", "one"), directories.models_cache(tmp_path / "state", "s")}
    assert allowed.change == own


def test_a_link_in_place_of_a_model_opens_nothing_but_another_model(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "config", tmp_path / "state", tmp_path / "store")
    (tmp_path / "store").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name, target in (("a", "mqtt-password"), ("b", "elsewhere"), ("c", "elsewhere/door-1.limpet")):
        (tmp_path / target).touch()
        (tmp_path / "store" / f"{name}-1.limpet").symlink_to(tmp_path / target)
    source = Configured("outside", plugin(), Config(tmp_path / "table.csv"))
    models = {"p": tuple((tmp_path / "store").glob("*.limpet"))}
    allowed = needs.of_worker(Assignment("s", folders, {"s": SourceTable("outside", {})}, {}, {}, models), source)
    assert not allowed.reads(tmp_path / "mqtt-password")
    assert not allowed.reads(tmp_path / "elsewhere" / "secret")
    assert allowed.reads(tmp_path / "elsewhere" / "door-1.limpet")
