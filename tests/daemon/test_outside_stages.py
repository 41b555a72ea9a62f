"""A transform with a memory and a decoder that follows objects, both from outside the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet import plugins
from limpet.contracts.data import SampleSpec, TensorSpec, Window
from support import models
from support.broker import wait_until
from support.daemon import Consumer, daemon
from support.memory import keeps_no_memory_of_others
from support.outside import install
from support.stages import output_spec, transformed, window, window_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.conftest import Configure
    from limpet.contracts.stage import Stage

OUTSIDE = Path(__file__).parent / "outside"
FLOAT = np.dtype(np.float32)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for group, kind in (("transforms", "smoothed"), ("decoders", "tracked")):
        install(tmp_path / "site", group, kind, (OUTSIDE / f"{kind}.py").read_text())
    return tmp_path / "site"


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install both for this process."""
    monkeypatch.syspath_prepend(str(site))


RECORDINGS = {
    # Twice the same level, a step, a reading that is missing, and the new level.
    "level": ("x", [0, 0, 8, "nan", 8, 8]),
    # Centre, width and height of a box, and scores of two labels: a cat that moves, and a dog beside it.
    "boxes": (
        "x,y,w,h,cat,dog",
        ["1,1,2,2,0.75,0.25", "3,3,1,1,0.25,0.75", "1.25,1,2,2,0.75,0.25", "3,3,1,1,0.25,0.75", "1,3,1,1,0.75,0"],
    ),
}


def test_both_run_in_the_daemon(configure: Configure, consumer: Consumer, site: Path, tmp_path: Path) -> None:
    models.dense(tmp_path / "one.tflite", 1, 1, int8=False)
    models.dense(tmp_path / "six.tflite", 6, 6, int8=False)
    for name, (header, rows) in RECORDINGS.items():
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *map(str, rows)]) + "\n")
    find = 'labels = ["cat", "dog"], pixels = [4, 4], threshold = 0.5'
    path = configure(
        '[sources.level]\nkind = "replay"\npath = "level.csv"\nrate = 50\n',
        '[pipelines.smooth]\nsource = "level"\nmodel = "one.tflite"\n'
        'decoder = { kind = "regress", names = ["x"] }\n'
        'transforms = [{ kind = "smoothed", weight = 0.5 }]\n',
        '[sources.boxes]\nkind = "replay"\npath = "boxes.csv"\nrate = 50\n',
        '[pipelines.seen]\nsource = "boxes"\nmodel = "six.tflite"\n'
        f'decoder = {{ kind = "tracked", detect = {{ {find} }} }}\n',
    )
    with daemon(path, {"PYTHONPATH": str(site)}) as running:
        wait_until(lambda: all(len(consumer.results(name)) >= 5 for name in ("smooth", "seen")))
        assert running.stop() == 0
    assert [result["output"]["values"]["x"] for result in consumer.results("smooth")] == [0, 0, 4, 8, 8]
    seen = [[(one["id"], one["label"]) for one in r["output"]["objects"]] for r in consumer.results("seen")]
    assert seen == [[(1, "cat")], [(2, "dog")], [(1, "cat")], [(2, "dog")], [(3, "cat")]]


def smoothed() -> Stage:
    module = plugins.load("transforms", "smoothed")
    stage: Stage = module.open(module.Config(), window_spec(SampleSpec((2,), FLOAT), (4, 2)))
    return stage


@pytest.mark.usefixtures("installed")
def test_the_transform_keeps_the_contract() -> None:
    windows = [window(np.full((4, 2), level, np.float32)) for level in (0, 8, 4)]
    keeps_no_memory_of_others(smoothed, windows, lambda found: found.values)
    used = smoothed()
    for one in windows:
        used(one)
    used.reset()
    level = np.full((4, 2), 3, np.float32)
    np.testing.assert_array_equal(transformed(used, level), level)


def tracked(boxes: int = 2, **options: Any) -> Stage:
    module = plugins.load("decoders", "tracked")
    config = module.Config(detect=module.detect.Config(labels=["cat", "dog"]), **options)
    stage: Stage = module.open(config, output_spec([TensorSpec("boxes", (1, boxes, 6), FLOAT)]))
    return stage


def row(left: float, top: float, *, label: int = 0) -> list[float]:
    return [left + 0.1, top + 0.1, 0.2, 0.2, *(0.75 if label == n else 0.0 for n in range(2))]


def picture(*rows: Sequence[float], ms: int = 0) -> Window:
    output = np.zeros((1, 2, 6), np.float32)
    output[0, : len(rows)] = rows
    return Window(output, ms * 1_000_000, 0, 0, outputs=[output])


def ids(window: Window) -> list[int]:
    return sorted(one.id for one in window.result.objects)


@pytest.mark.usefixtures("installed")
def test_the_decoder_follows_objects_and_forgets_those_that_are_gone() -> None:
    follow = tracked(forget=0.5)
    assert ids(follow(picture(row(0, 0), row(0.5, 0.5)))) == [1, 2]
    assert ids(follow(picture(row(0.52, 0.5), row(0.02, 0), ms=100))) == [1, 2]
    assert ids(follow(picture(row(0.02, 0, label=1), ms=200))) == [3]  # a dog is no cat
    late = follow(picture(row(0.5, 0.5), ms=650))
    assert ids(late) == [4]
    assert late.result.lost == [1, 2]
    follow.reset()
    assert ids(follow(picture(row(0, 0), ms=700))) == [1]


@pytest.mark.usefixtures("installed")
def test_the_decoder_keeps_the_contract() -> None:
    windows = [picture(row(0.1 * n, 0), row(0.5, 0.5), ms=n) for n in range(4)]
    keeps_no_memory_of_others(tracked, windows, lambda found: found.result)


@pytest.mark.usefixtures("installed")
def test_nothing_is_put_into_a_module_from_outside() -> None:
    module = plugins.load("transforms", "smoothed")
    before = set(vars(module))
    assert plugins.load("transforms", "smoothed") is module
    assert set(vars(module)) == before
    assert "ABILITIES" not in before
