"""The reference that ``limpet-convert`` puts into a bundle, from recordings to what a device opens."""

from __future__ import annotations

import zipfile
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet import plugins
from limpet.errors import ConfigError
from limpet.models import bundle as bundles
from limpet.models import reference as references
from limpet.recordings.folder import MANIFEST, Recording, Recordings, encode
from limpet_convert import project
from limpet_convert.compare import is_surely_behind
from limpet_convert.conversion import Conversion
from limpet_convert.errors import ConvertError
from limpet_convert.progress import Progress
from limpet_convert.uncertainty import HeldOut, Known
from support import models

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.reference import Reference

LABELS = ["still", "walking", "running"]


def converted(folder: Path, **tables: Any) -> Conversion:
    """Return the conversion of a model whose logits are its three channels."""
    models.dense(folder / "model.tflite", 3, 3, int8=False)
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (600, 3))
    targets = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    np.save(folder / "test.npy", logits.astype(np.float32))
    np.save(folder / "targets.npy", targets)
    # Windows of the south are those that are wrong, and some others.
    south = (logits.argmax(axis=1) != targets) | (np.arange(600) % 4 == 0)
    np.save(folder / "groups.npy", np.where(south, "south", "north"))
    data = {"calibration": "test.npy", "test": "test.npy", "targets": "targets.npy", "groups": "groups.npy"}
    bundle = {"name": "motion", "version": 1, "task": "classify", "labels": LABELS, "variant": "float"}
    bundle |= {"channels": ["x", "y", "z"], "unit": "g", "decoder": {"kind": "classify", "activation": "softmax"}}
    basis: dict[str, Any] = {"model": {"path": "model.tflite"}, "data": data, "bundle": bundle}
    basis |= {name: basis.get(name, {}) | table for name, table in tables.items()}
    made = Conversion(project.build(basis, folder / "convert.toml"), folder / "build", Progress())
    made.variant("float")
    return made


def reference_of(path: Path, folder: Path) -> Reference:
    found = bundles.load(path, folder / "cache").reference
    assert found is not None
    return references.read(found, path.name)


def card_of(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read("MODEL_CARD.md").decode()


def test_a_bundle_has_a_reference_and_thresholds_that_its_monitors_open(tmp_path: Path) -> None:
    conversion = converted(tmp_path)
    manifest = conversion.package(None)
    path = tmp_path / "build" / "motion-1.limpet"
    found = reference_of(path, tmp_path)
    assert found.windows == 600
    assert [one.name for one in found.features] == ["x.mean", "y.mean", "z.mean"]
    values, targets = np.load(tmp_path / "test.npy"), np.load(tmp_path / "targets.npy")
    assert [one.mean for one in found.features] == pytest.approx(values.mean(axis=0), abs=1e-5)
    assert found.features[0].quantiles[32] == pytest.approx(np.median(values[:, 0]), abs=1e-5)
    assert 300 < found.features[0].effective <= 600
    assert found.classes is not None
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (targets, values.argmax(axis=1)), 1)
    assert found.classes.confusion == counts.tolist()
    assert found.classes.priors == pytest.approx(np.bincount(targets) / 600, abs=1e-5)
    assert found.score is not None
    sure = np.exp(values / manifest.decoder["temperature"])
    assert found.score.mean == pytest.approx((sure.max(axis=1) / sure.sum(axis=1)).mean(), abs=1e-4)
    assert found.slices["south"].windows + found.slices["north"].windows == 600
    assert found.slices["north"].right == found.slices["north"].windows
    assert set(found.thresholds) == set(plugins.names("monitors"))
    for kind, thresholds in found.thresholds.items():
        module = plugins.load("monitors", kind)
        assert module.open(module.Config(), found, thresholds).level == 0
    card = card_of(path)
    assert "## By group" in card
    assert "The lowest accuracy is that of south" in card
    assert "more than chance explains" in card
    assert "* temperature: " in card
    assert "* monitors: " in card
    assert manifest.metrics["uncertainty"]["coverage"] == 0.9


def test_the_same_windows_give_the_same_bundle(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in (tmp_path / "a", tmp_path / "b"):
        converted(folder).package(None)
    one, other = ((tmp_path / name / "build" / "motion-1.limpet").read_bytes() for name in "ab")
    assert one == other


def test_the_reference_may_be_of_other_recordings_and_may_be_left_out(tmp_path: Path) -> None:
    field = np.random.default_rng(2).normal(5, 1, (80, 3)).astype(np.float32)
    np.save(tmp_path / "field.npy", field)
    converted(tmp_path, reference={"data": "field.npy", "false_alarms": 3.0}).package(None)
    found = reference_of(tmp_path / "build" / "motion-1.limpet", tmp_path)
    assert (found.windows, found.false_alarms) == (80, 3.0)
    assert found.features[0].mean == pytest.approx(field[:, 0].mean(), abs=1e-5)
    assert found.classes is not None
    assert np.sum(found.classes.confusion) == 600
    assert found.classes.priors == pytest.approx(np.bincount(field.argmax(axis=1), minlength=3) / 80, abs=1e-5)
    manifest = converted(tmp_path, reference={"enabled": False}).package(None)
    assert (manifest.reference, "reference.json" in manifest.members) == ("", False)


def test_windows_that_the_model_has_seen_say_nothing_of_how_sure_it_is(tmp_path: Path) -> None:
    manifest = converted(tmp_path, data={"seen": True}).package(None)
    path = tmp_path / "build" / "motion-1.limpet"
    found = reference_of(path, tmp_path)
    assert (found.score, found.classes, len(found.features)) == (None, None, 3)
    assert "temperature" not in manifest.decoder
    assert "Nothing was fitted, as the model has learned from the test windows." in card_of(path)


def test_a_model_that_has_seen_all_windows_is_calibrated_by_the_answers_of_its_folds(tmp_path: Path) -> None:
    made = converted(tmp_path, data={"seen": True})
    values, targets = np.load(tmp_path / "test.npy"), np.load(tmp_path / "targets.npy")
    made.held_out = HeldOut(2 * values, Known(targets, np.arange(600) // 20))
    manifest = made.package(None)
    path = tmp_path / "build" / "motion-1.limpet"
    found = reference_of(path, tmp_path)
    assert manifest.decoder["temperature"] == pytest.approx(2, rel=0.15)
    assert (found.score, found.slices) == (None, {})
    assert found.classes is not None
    assert np.sum(found.classes.confusion) == 600
    assert "float models that each left some recordings out" in card_of(path)
    assert manifest.metrics["uncertainty"]["temperature"] == manifest.decoder["temperature"]


def test_captures_that_follow_each_other_say_as_much_as_one_recording_of_them(tmp_path: Path) -> None:
    """Each counted as independent once, so that limits were four times too tight and alarms came without drift."""
    random, series = np.random.default_rng(3), np.zeros((600, 3), np.float32)
    for at in range(1, 600):
        series[at] = 0.95 * series[at - 1] + random.normal(0, 0.3, 3)
    np.save(tmp_path / "whole.npy", series)
    (tmp_path / "captures").mkdir()
    listed = []
    for at in range(60):
        np.save(tmp_path / "captures" / f"press-motion-{at:010d}.npy", series[10 * at :][:10])
        listed.append(
            Recording(
                file=f"press-motion-{at:010d}.npy",
                source="press/motion",
                kind="capture",
                channels=["x", "y", "z"],
                rate=10.0,
                samples=10,
                seconds=1.0,
                started=datetime.fromtimestamp(1e9 + at, timezone.utc),
            )
        )
    (tmp_path / "captures" / MANIFEST).write_bytes(encode(Recordings(recordings=listed)))
    converted(tmp_path, reference={"data": "whole.npy"}).package(None)
    whole = reference_of(tmp_path / "build" / "motion-1.limpet", tmp_path)
    converted(tmp_path, reference={"data": "captures"}).package(None)
    found = reference_of(tmp_path / "build" / "motion-1.limpet", tmp_path)
    assert [one.effective for one in found.features] == [one.effective for one in whole.features]
    assert all(one.effective < 60 for one in found.features)
    assert found.thresholds["multivariate"]["spans"] == whole.thresholds["multivariate"]["spans"]
    assert found.thresholds["multivariate"]["limits"] == whole.thresholds["multivariate"]["limits"]


def test_the_project_may_say_which_windows_are_of_one_occasion(tmp_path: Path) -> None:
    series = np.repeat(np.random.default_rng(4).normal(0, 1, (30, 3)), 20, axis=0).astype(np.float32)
    (tmp_path / "held").mkdir()
    for at in range(60):
        np.save(tmp_path / "held" / f"{at:05d}.npy", series[10 * at :][:10])
    made = {}
    for name, numbers in (("no", np.arange(600)), ("yes", np.arange(600) // 20)):
        np.save(tmp_path / "occasions.npy", numbers)
        converted(tmp_path, data={"test": "held", "occasions": "occasions.npy"}).package(None)
        made[name] = reference_of(tmp_path / "build" / "motion-1.limpet", tmp_path).features[0].effective
    assert made["no"] > 300
    assert made["yes"] < 60
    np.save(tmp_path / "occasions.npy", np.arange(600) / 2)
    with pytest.raises(ConvertError, match="not a whole number for each window"):
        converted(tmp_path, data={"test": "held", "occasions": "occasions.npy"}).package(None)


def test_too_few_windows_make_no_reference_and_the_card_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros((8, 3), np.float32) + np.arange(3))
    converted(tmp_path, reference={"data": "few.npy"}).package(None)
    path = tmp_path / "build" / "motion-1.limpet"
    assert bundles.load(path, tmp_path / "cache").reference is None
    assert "No reference: 8 windows are too few; it needs 30." in card_of(path)


def test_a_bundle_whose_windows_fail_on_a_device_is_not_written(tmp_path: Path) -> None:
    # Logits are no probabilities. With the temperature that is fitted, the decoder refuses those above 1.
    table = {"decoder": {"kind": "classify"}}
    reason = "402 of 600 windows have no result on a device: .*no probability; with a temperature set activation"
    with pytest.raises(ConvertError, match=reason):
        converted(tmp_path, bundle=table).package(None)
    assert not list((tmp_path / "build").glob("*.limpet"))


def test_recordings_with_gaps_and_labels_line_up_with_their_windows(tmp_path: Path) -> None:
    """Windows across a gap are not cut, and a NaN is a gap: what is true of a window must stay with it."""
    for label, place in (("still", 0), ("walking", 1), ("running", 2)):
        for number in range(4):
            rows = np.full((12, 3), -2.0)
            rows[:, place] = 2
            rows[number + 2, 1] = np.nan
            (tmp_path / "held" / label).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "held" / label / f"{number}.npy", rows.astype(np.float32))
    data = {"test": "held", "targets": None, "groups": None}
    made = converted(tmp_path, data={key: value for key, value in data.items() if value})
    wanted = made.project
    wanted.data.targets = wanted.data.groups = None
    made.package(None)
    found = reference_of(tmp_path / "build" / "motion-1.limpet", tmp_path)
    assert found.windows == 4 * 3 * 11
    assert found.classes is not None
    assert found.classes.confusion == [[44, 0, 0], [0, 44, 0], [0, 0, 44]]


def test_a_slice_that_falls_behind_fails_the_verification(tmp_path: Path) -> None:
    for limit, fails in ((5.0, True), (90.0, False)):
        found = converted(tmp_path, verify={"max_slice_gap": limit}).measure("float")
        assert is_surely_behind(found, "south", limit) is fails
        assert ["group south: accuracy" in one for one in found.failures] == [True] * fails


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"reference": {"monitors": {"nosuch": {}}}}, "reference.monitors.nosuch.kind"),
        ({"reference": {"monitors": {"univariate": {"leest": 1}}}}, "reference.monitors.univariate.leest"),
        ({"reference": {"data": "missing"}}, "reference.data: .*no such file"),
        ({"uncertainty": {"coverage": 1.5}}, "uncertainty.coverage"),
    ],
)
def test_what_is_wrong_with_the_tables_is_named(tmp_path: Path, table: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        converted(tmp_path, **table)
