"""A check of a configuration by real processes: what is wrong with its options, and which models there are."""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING, Any

import pytest

from limpet.config import build
from limpet.fork.launch import ForkServerProcess
from limpet.models.bundle import examine
from limpet.supervision.checking import Known
from limpet.supervision.fleet import Fleet
from support import bundles, models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.config import Config
    from limpet.supervision.checking import Checking


@pytest.fixture(scope="module")
def fleet() -> Iterator[Checker]:
    with selectors.DefaultSelector() as selector:
        made = Fleet(selector, ForkServerProcess(), lambda *_: None)
        yield Checker(made, selector)
        made.close()


class Checker:
    def __init__(self, fleet: Fleet, selector: selectors.BaseSelector) -> None:
        self._fleet = fleet
        self._selector = selector

    def check(self, config: Config, failed: frozenset[str] = frozenset()) -> Checking:
        checking = self._fleet.check(config, Known(failed))
        until = time.monotonic() + 60
        while not checking.done:
            assert time.monotonic() < until
            for key, _ in self._selector.select(0.1):
                key.data()
            self._fleet.tend()
        return checking


def config(folder: Path, *wanted: str, **options: Any) -> Config:
    (folder / "recording.csv").write_text("a,b,c\n" + "1,2,3\n" * 8)
    source = {"kind": "replay", "path": "recording.csv", "rate": 10, **options}
    pipelines = {f"p{number}": {"source": "s", "model": model} for number, model in enumerate(wanted)}
    return build(
        {"device": {"id": "d", "state": "state"}, "sources": {"s": source}, "pipelines": pipelines}, folder
    )


def put(folder: Path, version: int, name: str = "motion") -> Path:
    store = folder / "state" / "models"
    store.mkdir(parents=True, exist_ok=True)
    model = models.dense(folder / "dense.tflite", 3, 3).read_bytes()
    return bundles.bundle(store / f"motion-{version}.limpet", {"model.tflite": model}, name=name, version=version)


def test_models_are_found_down_to_the_first_sound_version(fleet: Checker, tmp_path: Path) -> None:
    sound = put(tmp_path, 2)
    put(tmp_path, 1).write_bytes(b"nobody reads this one")
    put(tmp_path, 3).write_bytes(b"no bundle")
    put(tmp_path, 4, name="door")
    checked = fleet.check(config(tmp_path, "motion", "dense.tflite", "absent"))
    assert checked.problems == []
    four, three, two = checked.found["motion"]
    assert "it holds door version 4" in four.problem
    assert "not a bundle" in three.problem
    assert (two.path, two.version, two.sha256, two.problem) == (sound, 2, examine(sound).sha256, "")
    (bare,) = checked.found["dense.tflite"]
    assert (bare.name, bare.problem) == ("dense", "")
    assert "no model 'absent'" in checked.found["absent"][0].problem


def test_below_what_failed_lower_versions_are_found(fleet: Checker, tmp_path: Path) -> None:
    first, second = put(tmp_path, 1), put(tmp_path, 2)
    checked = fleet.check(config(tmp_path, "motion"), frozenset({examine(second).sha256}))
    assert [one.path for one in checked.found["motion"]] == [second, first]


def test_what_is_wrong_with_options_is_found_beside_the_models(fleet: Checker, tmp_path: Path) -> None:
    put(tmp_path, 1)
    checked = fleet.check(config(tmp_path, "motion", spede=3))
    assert len(checked.problems) == 1
    assert "spede" in checked.problems[0]
    assert checked.found["motion"][0].problem == ""


def test_many_models_are_all_found(fleet: Checker, tmp_path: Path) -> None:
    names = [f"dense{number}.tflite" for number in range(10)]
    for name in names:
        models.dense(tmp_path / name, 3, 3)
    found = fleet.check(config(tmp_path, *names)).found
    assert all(found[name][0].problem == "" and found[name][0].sha256 for name in names)
