"""Stages behind the decoder: which are refused, when they are reset, and what becomes of their events."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import limpet
from limpet.config import PipelineConfig
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.outputs import Classification, Detections
from limpet.errors import ConfigError, ModelError
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from support import models
from support.assigned import single
from support.bundles import bundle
from support.outside import install

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from limpet.inference.plan import PipelinePlan

MS = 1_000_000
ONE = SampleSpec((1,), np.dtype(np.float32), ("x",), 100.0)
BOX = SampleSpec((5,), np.dtype(np.float32), ("x", "y", "w", "h", "cat"), 10.0)
DETECT = {"kind": "detect", "labels": ["cat"], "pixels": [100, 100], "layout": "yolov8"}
TRACK = {"kind": "track", "confirm": 2}
ZONES = {"kind": "zones", "zones": {"all": [[0, 0], [1, 0], [1, 1], [0, 1]]}, "settle": 0}

PROBE = '''
import msgspec
from limpet.contracts.postprocess import Abilities

ABILITIES = Abilities({abilities})
opened = []


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing."""


class Probe:
    def __init__(self, spec):
        self.spec = spec
        self.seen = []
        opened.append(self)

    def __call__(self, window):
        self.seen.append((window.ordinal, dict(window.result.values)))
        {work}
        return window

    def reset(self):
        self.seen.append("reset")


def open(config, spec):
    return Probe(spec)
'''
REFUSE_TWO = (
    "from limpet.errors import ModelError\n        if window.values.item() == 2: raise ModelError('no two')"
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder where plugins can be installed for this process."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield tmp_path / "site"
    sys.modules.pop("probe", None)


def probe(site: Path, abilities: str = "", work: str = "") -> None:
    install(site, "postprocess", "probe", PROBE.format(abilities=abilities, work=work))


def seen() -> list[Any]:
    """Return what the last probe saw: the ordinal of each window and the value of its result."""
    found: list[Any] = sys.modules["probe"].opened[-1].seen
    return [one if one == "reset" else (one[0], next(iter(one[1].values()))) for one in found]


def planned(folder: Path, model: Path, spec: SampleSpec = ONE, **wanted: Any) -> PipelinePlan:
    pipeline = PipelineConfig(source="s", model=str(model), **{"decoder": {"kind": "regress"}, **wanted})
    return plan_pipeline(single(folder, pipeline, "p"), "p", spec)


def block(rows: Sequence[Any], index: int = 0) -> Samples:
    values = np.array(rows, np.float32).reshape(len(rows), -1)
    stamps = np.arange(index, index + len(rows), dtype=np.int64) * 100 * MS
    return Samples(values, stamps, stamps + 7, index)


def walk(frames: int) -> list[list[float]]:
    return [[10 + step, 50, 20, 20, 0.9] for step in range(frames)]


@pytest.fixture
def copying(tmp_path: Path) -> Path:
    return models.dense(tmp_path / "copy.tflite", 1, 1, int8=False)


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    return models.dense(tmp_path / "detector.tflite", 5, 5, int8=False)


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        (
            [TRACK],
            r"postprocess\[0\]: 'track' takes Detections or Keypoints, and the decoder 'regress' gives Regression",
        ),
        (
            [{"kind": "trakc"}],
            r"pipelines\.p\.postprocess\[0\]\.kind: 'trakc' is not one of the postprocess.*track",
        ),
        ([{"kind": "track", "second": 1}], r"pipelines\.p\.postprocess\[0\]\.second"),
        ([{}], r"pipelines\.p\.postprocess\[0\]\.kind: missing"),
    ],
)
def test_a_stage_that_does_not_fit_is_refused_in_a_sentence(
    tmp_path: Path, copying: Path, stages: list[dict[str, Any]], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        planned(tmp_path, copying, postprocess=stages)


def test_zones_without_ids_are_refused_with_the_way_out(tmp_path: Path, detector: Path) -> None:
    why = r"postprocess\[0\]: 'zones' needs objects with ids; put \{ kind = \"track\" \} before it"
    with pytest.raises(ConfigError, match=why):
        planned(tmp_path, detector, BOX, decoder=DETECT, postprocess=[ZONES, TRACK])
    planned(tmp_path, detector, BOX, decoder=DETECT, postprocess=[TRACK, ZONES])


def test_a_bundle_may_have_stages_and_the_configuration_replaces_them(tmp_path: Path, copying: Path) -> None:
    members = {"model.tflite": copying.read_bytes()}
    model = bundle(tmp_path / "m-3.limpet", members, decoder={"kind": "regress"}, postprocess=[TRACK])
    with pytest.raises(ModelError, match=r"its manifest: postprocess\[0\]: 'track' takes Detections"):
        plan_pipeline(single(tmp_path, PipelineConfig(source="s", model=str(model)), "p"), "p", ONE)
    plan_pipeline(single(tmp_path, PipelineConfig(source="s", model=str(model), postprocess=[]), "p"), "p", ONE)


def test_a_stage_that_cannot_be_opened_says_why(tmp_path: Path, detector: Path) -> None:
    slow = SampleSpec((5,), np.dtype(np.float32), BOX.channels, 0.1)
    plan = planned(tmp_path, detector, slow, decoder=DETECT, postprocess=[TRACK])
    with pytest.raises(ModelError, match=r"postprocess\[0\]: seconds is 3, but a frame comes only each 10 s"):
        Pipeline(plan)


def test_a_stage_that_lacks_what_its_plugin_promises_is_refused(site: Path, tmp_path: Path, copying: Path) -> None:
    probe(site, "idles=True")
    with pytest.raises(
        ModelError, match=r"'probe' breaks its contract: .* is no .*postprocess\.Idling: .* no idle"
    ):
        Pipeline(planned(tmp_path, copying, postprocess=[{"kind": "probe"}]))


def test_the_result_is_that_of_the_last_stage(site: Path, tmp_path: Path, copying: Path) -> None:
    probe(site, work="window.result = {'doubled': 2 * window.values.item()}")
    with Pipeline(planned(tmp_path, copying, postprocess=[{"kind": "probe"}])) as pipeline:
        assert [result.output for result in pipeline.feed(block([1, 2]))] == [{"doubled": 2.0}, {"doubled": 4.0}]


def test_stages_are_reset_after_a_gap_unless_they_outlive_it(site: Path, tmp_path: Path, copying: Path) -> None:
    probe(site)
    with Pipeline(planned(tmp_path, copying, postprocess=[{"kind": "probe"}])) as pipeline:
        list(pipeline.feed(block([1, 2])))
        list(pipeline.feed(block([3], 5)))
    assert seen() == [(0, 1), (1, 2), "reset", (5, 3)]


def test_memory_that_outlives_gaps_is_left_alone(site: Path, tmp_path: Path, copying: Path) -> None:
    probe(site, "outlives_gaps=True")
    with Pipeline(planned(tmp_path, copying, postprocess=[{"kind": "probe"}])) as pipeline:
        list(pipeline.feed(block([1, 2])))
        list(pipeline.feed(block([3], 5)))
    assert seen() == [(0, 1), (1, 2), (5, 3)]


def test_a_window_that_a_stage_refuses_is_a_gap_for_the_stages(site: Path, tmp_path: Path, copying: Path) -> None:
    probe(site, work=REFUSE_TWO)
    errors: list[ModelError] = []
    with Pipeline(planned(tmp_path, copying, postprocess=[{"kind": "probe"}])) as pipeline:
        results = list(pipeline.feed(block([1, 2, 3]), errors.append))
    assert len(results) == 2
    assert [str(error) for error in errors] == ["no two"]
    assert seen() == [(0, 1), (1, 2), "reset", (2, 3)]


@pytest.mark.parametrize("abilities", ["", "outlives_gaps=True"])
def test_stages_in_a_batch_see_what_they_see_one_by_one(
    site: Path, tmp_path: Path, copying: Path, abilities: str
) -> None:
    probe(site, abilities, REFUSE_TWO)
    together = models.dense(tmp_path / "batch.tflite", 1, 1, int8=False, batch=-1)
    saw, failed = [], []
    for model in (copying, together):
        errors: list[ModelError] = []
        with Pipeline(planned(tmp_path, model, postprocess=[{"kind": "probe"}])) as pipeline:
            blocks = [block(range(20)), block([np.nan] * 2 + [1] * 20, 20), block([5] * 10, 60)]
            counts = [len(list(pipeline.feed(one, errors.append))) for one in blocks]
        saw.append((counts, seen()))
        failed.append([str(error) for error in errors])
    assert saw[0] == saw[1]
    assert failed[0] == failed[1] == ["no two"]


def test_events_come_with_the_time_of_their_picture(tmp_path: Path, detector: Path) -> None:
    plan = planned(tmp_path, detector, BOX, decoder=DETECT, postprocess=[TRACK, ZONES])
    with Pipeline(plan) as pipeline:
        pipeline.try_once(noise=True)
        assert pipeline.take_events() == []
        results = list(pipeline.feed(block(walk(3))))
        happened = pipeline.take_events()
        assert [(at, event.type) for at, event in happened] == [(100 * MS + 7, "new"), (100 * MS + 7, "entered")]
        assert pipeline.take_events() == []
    assert [len(result.output.detections) for result in results] == [0, 1, 1]


def test_the_threshold_still_reaches_the_decoder(tmp_path: Path, detector: Path) -> None:
    plan = planned(tmp_path, detector, BOX, decoder=DETECT, postprocess=[TRACK])
    with Pipeline(plan) as pipeline:
        pipeline.decoder.set_threshold(0.95)  # type: ignore[attr-defined]
        assert [result.output.detections for result in pipeline.feed(block(walk(4)))] == [[]] * 4


def test_a_recording_that_waits_for_the_model_is_followed_in_its_own_time(tmp_path: Path, detector: Path) -> None:
    """Flat out, ten seconds between two frames pass in no time; the object is gone all the same."""
    waits = SampleSpec((5,), np.dtype(np.float32), BOX.channels, 10.0, live=False)
    plan = planned(tmp_path, detector, waits, decoder=DETECT, postprocess=[TRACK])
    with Pipeline(plan) as pipeline:
        list(pipeline.feed(block(walk(3))))
        list(pipeline.feed(block(walk(1), 100)))
        assert [event.type for _, event in pipeline.take_events()] == ["new", "end"]
        pipeline.idle()
        assert pipeline.take_events() == []


def test_programs_that_embed_limpet_have_stages_too(detector: Path) -> None:
    with limpet.Pipeline(
        detector, output=Detections, channels=list(BOX.channels), rate=10.0, decoder=DETECT, postprocess=[TRACK]
    ) as pipeline:
        (_, second) = pipeline.feed(walk(2))
        assert second.output.detections[0].id is not None
    with pytest.raises(ModelError, match=r"postprocess 'track' gives Detections, not Classification"):
        limpet.Pipeline(detector, output=Classification, rate=10.0, decoder=DETECT, postprocess=[TRACK])
