"""Calibration sees what the device sees: the same windows and transforms, from files and folders."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from limpet import plugins
from limpet.config import PipelineConfig
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.fields import WindowSpec
from limpet.errors import ConfigError
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.inference.window import Windower
from limpet.recordings import folder as recordings_folder
from limpet.recordings.folder import Span
from limpet.transforms import normalise
from limpet_convert import data, project
from limpet_convert.errors import ConvertError
from recordings.test_folder import recording
from support import golden, models
from support.assigned import single
from support.stages import window_spec

if TYPE_CHECKING:
    from pathlib import Path

    from limpet_convert.project import Project

BUNDLE = {
    "name": "motion",
    "version": 1,
    "task": "classify",
    "labels": ["still", "walking"],
    "channels": ["ax", "ay"],
    "window": {"size": 8, "hop": 3},
    "transforms": [{"kind": "normalise", "mean": [1.0, 2.0], "std": [2.0, 4.0], "clip": 3.0}],
}


def make(folder: Path, bundle: dict[str, Any] | None = None, **files: Any) -> Project:
    (folder / "m.tflite").touch()
    tables = {
        "model": {"path": "m.tflite"},
        "data": {"calibration": "seen", "test": "seen"} | files,
        "bundle": BUNDLE | (bundle or {}),
    }
    return project.build(tables, folder / "convert.toml")


def csv(path: Path, values: Any, rate: float = 10.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.column_stack([np.arange(len(values)) / rate, values])
    np.savetxt(path, table, "%.9g", ",", header="time,ax,ay", comments="")


def test_windows_are_those_of_the_device(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    csv(tmp_path / "seen" / "one.csv", values)
    found = data.windows(make(tmp_path), tmp_path / "seen")
    spec = SampleSpec((2,), np.dtype(np.float32), ("ax", "ay"), 10.0)
    config = normalise.Config(mean=[1.0, 2.0], std=[2.0, 4.0], clip=3.0)
    transform = normalise.open(config, window_spec(spec, (8, 2)))
    stamps = np.arange(50) * 100_000_000
    pushed = Windower(WindowSpec(size=8, hop=3), spec).push(Samples(values, stamps, stamps, 0))
    expected = np.stack([transform(window).values.copy() for window in pushed])
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert len(found) == 15


def test_a_window_never_spans_two_recordings_or_a_gap(tmp_path: Path) -> None:
    values = np.ones((20, 2), np.float32) * np.arange(20)[:, None]
    for name in ("a", "b"):
        csv(tmp_path / "seen" / f"{name}.csv", values)
    whole = data.windows(make(tmp_path), tmp_path / "seen")
    assert len(whole) == 2 * 5
    values[10] = np.nan
    csv(tmp_path / "seen" / "b.csv", values)
    broken = data.windows(make(tmp_path), tmp_path / "seen")
    assert len(broken) == 5 + 2
    assert broken.dropped == {"not_finite": 1}


def test_windows_by_time_take_the_recorded_stamps(tmp_path: Path) -> None:
    csv(tmp_path / "seen" / "one.csv", np.random.default_rng(0).normal(size=(50, 2)))
    found = data.windows(make(tmp_path, {"window": {"seconds": 1.0, "size": 10}}), tmp_path / "seen")
    assert found.values.shape == (5, 10, 2)


def test_folders_are_labels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    csv(tmp_path / "seen" / "walking" / "one.csv", random.normal(size=(14, 2)))
    csv(tmp_path / "seen" / "still" / "two.csv", random.normal(size=(8, 2)))
    found = data.held_back(make(tmp_path))
    assert found.targets is not None
    assert found.targets.tolist() == [0, 1, 1, 1]
    (tmp_path / "seen" / "still").rename(tmp_path / "seen" / "stil")
    with pytest.raises(ConvertError, match=r"no label 'stil' \(did you mean 'still'\?\)"):
        data.held_back(make(tmp_path))


def test_calibration_is_spread_over_everything(tmp_path: Path) -> None:
    np.save(tmp_path / "seen.npy", np.arange(4000, dtype=np.float32).reshape(-1, 2))
    wanted = make(tmp_path, {"window": {"size": 1}, "transforms": []}, calibration="seen.npy", test="seen.npy")
    found = data.calibration(wanted).values[:, 0, 0]
    assert (len(found), found[0], found[-1]) == (200, 0, 3998)


@pytest.mark.parametrize(
    ("values", "bundle", "said"),
    [
        (np.ones((3, 2)), {}, "no window in it"),
        (np.ones((30, 2)), {}, "every value is"),
        (np.random.default_rng(0).normal(size=(30, 3)), {}, "channels"),
    ],
)
def test_data_that_spoil_everything_are_refused(
    tmp_path: Path, values: Any, bundle: dict[str, Any], said: str
) -> None:
    np.save(tmp_path / "seen.npy", values.astype(np.float32))
    transforms = {"transforms": []} if said == "every value is" else {}
    wanted = make(tmp_path, bundle | transforms, calibration="seen.npy", test="seen.npy")
    with pytest.raises((ConvertError, ConfigError), match=said):
        data.calibration(wanted)


def test_values_that_the_transforms_make_infinite_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "seen.npy", np.full((30, 2), 3e38, np.float32))
    table = [{"kind": "normalise", "mean": 0.0, "std": 1e-5}]
    wanted = make(tmp_path, {"transforms": table}, calibration="seen.npy", test="seen.npy")
    with np.errstate(over="ignore"), pytest.raises(ConvertError, match="infinite values after the transforms"):
        data.calibration(wanted)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((8, 1), (8, 1)),  # a row each
        ((8, 2), (8, 2)),  # an element each
        ((2,), (8, 1)),  # a channel, and a row
    ],
)
def test_normalise_takes_numbers_for_channels_rows_or_elements(
    tmp_path: Path, mean: tuple[int, ...], std: tuple[int, ...]
) -> None:
    """A project file writes them as flat lists, and calibration sees what NumPy's broadcasting gives."""
    random = np.random.default_rng(0)
    means, stds = random.normal(size=mean), random.uniform(1, 2, std)
    values = random.normal(size=(8, 2)).astype(np.float32)
    csv(tmp_path / "seen" / "one.csv", values)
    table = {"kind": "normalise", "mean": means.ravel().tolist(), "std": stds.ravel().tolist()}
    found = data.windows(make(tmp_path, {"transforms": [table]}), tmp_path / "seen")
    np.testing.assert_allclose(found.values[0], (values - means) / stds, atol=1e-5)


def test_normalise_takes_a_number_for_each_band_of_a_spectrum(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    csv(tmp_path / "seen" / "one.csv", random.normal(size=(64, 2)))
    spectrum = {"kind": "spectrum", "bands": 5}
    bundle: dict[str, Any] = {"window": {"size": 32}, "transforms": [spectrum]}
    before = data.windows(make(tmp_path, bundle), tmp_path / "seen").values
    bands = random.normal(size=5)
    bundle["transforms"] = [spectrum, {"kind": "normalise", "mean": bands.tolist(), "std": 2.0}]
    after = data.windows(make(tmp_path, bundle), tmp_path / "seen").values
    np.testing.assert_allclose(after, (before - bands[:, None]) / 2, atol=1e-5)


def test_calibration_takes_the_channels_of_the_bundle_from_a_source_that_has_more(tmp_path: Path) -> None:
    """The source keeps its own order, and the device picks the columns: so must calibration."""
    values = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    lines = [" ".join(f"{n:.6f}" for n in row) for row in values]
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "one.csv").write_text("a,ay,ax\n" + "\n".join(",".join(line.split()) for line in lines))
    bundle = {"window": {"size": 4}, "transforms": []}
    wanted = make(tmp_path, bundle, source={"kind": "replay", "channels": ["a", "ay", "ax"]})
    found = data.windows(wanted, tmp_path / "seen").values
    np.testing.assert_allclose(found.reshape(8, 2), values[:, [2, 1]], atol=1e-5)


def test_targets_are_one_a_window(tmp_path: Path) -> None:
    csv(tmp_path / "seen" / "one.csv", np.random.default_rng(0).normal(size=(50, 2)))
    np.save(tmp_path / "targets.npy", np.zeros(14, int))
    with pytest.raises(ConvertError, match="14 targets for 15 windows"):
        data.held_back(make(tmp_path, targets="targets.npy"))
    with pytest.raises(ConvertError, match=r"data\.targets: missing"):
        data.held_back(make(tmp_path))


def test_targets_may_stand_in_a_column(tmp_path: Path) -> None:
    csv(tmp_path / "seen" / "one.csv", np.random.default_rng(0).normal(size=(50, 2)))
    np.save(tmp_path / "targets.npy", np.arange(15).reshape(15, 1) % 2)
    found = data.held_back(make(tmp_path, targets="targets.npy")).targets
    assert found is not None
    assert found.tolist() == [n % 2 for n in range(15)]


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (np.eye(2)[np.zeros(15, int)], r"shape \[15, 2\], but a window has one class"),
        (np.full(15, np.nan), "not finite numbers"),
        (np.full(15, "still"), "not finite numbers"),
    ],
)
def test_targets_that_cannot_be_are_refused(tmp_path: Path, targets: Any, said: str) -> None:
    csv(tmp_path / "seen" / "one.csv", np.random.default_rng(0).normal(size=(50, 2)))
    np.save(tmp_path / "targets.npy", targets)
    with pytest.raises(ConvertError, match=said):
        data.held_back(make(tmp_path, targets="targets.npy"))


def test_groups_are_one_a_window(tmp_path: Path) -> None:
    csv(tmp_path / "seen" / "one.csv", np.random.default_rng(0).normal(size=(50, 2)))
    np.save(tmp_path / "groups.npy", np.full(14, "left"))
    wanted = make(tmp_path, groups="groups.npy")
    with pytest.raises(ConvertError, match="14 groups for 15 windows"):
        data.groups(wanted, 15)
    found = data.groups(wanted, 14)
    assert found is not None
    assert found.tolist() == ["left"] * 14
    assert data.groups(make(tmp_path), 15) is None


def test_a_key_that_the_source_does_not_have_is_refused(tmp_path: Path) -> None:
    csv(tmp_path / "seen" / "one.csv", np.random.default_rng(0).normal(size=(50, 2)))
    with pytest.raises(ConfigError, match=r"data\.source\.chanels: unknown key \(did you mean 'channels'"):
        data.calibration(make(tmp_path, source={"chanels": ["ax"]}))


def test_transforms_are_found_and_checked_like_the_device_does(tmp_path: Path) -> None:
    csv(tmp_path / "seen" / "one.csv", np.random.default_rng(0).normal(size=(50, 2)))
    for table, said in (
        ({"kind": "normalize"}, "did you mean 'normalise'"),
        ({"kind": "normalise", "mean": [1.0]}, "2 channels"),
        ({"kind": "normalise", "meen": 1.0}, r"bundle.transforms\[0\].meen: unknown key"),
    ):
        with pytest.raises(ConfigError, match=said):
            data.calibration(make(tmp_path, {"transforms": [table]}))


def recorded(path: Path, *spans: Span, count: int = 50, gaps: tuple[float, ...] = ()) -> Project:
    """A folder of one recording at 10 Hz, and a project whose windows have 8 samples, one every 3."""
    csv(path / "seen" / "one.csv", np.random.default_rng(0).normal(size=(count, 2)))
    with recordings_folder.changing(path / "seen") as found:
        entry = recording("one.csv", samples=count, seconds=count / 10, spans=list(spans), gaps=list(gaps))
        found.recordings.append(entry)
    return make(path)


def test_targets_come_from_spans_and_windows_across_a_border_are_left_out(tmp_path: Path) -> None:
    wanted = recorded(tmp_path, Span("walking", 0, 2), Span("still", 2, 4), Span("other", 4, 4.2))
    found = data.windows(wanted, tmp_path / "seen")
    # Windows begin at 0, 3, 6 ... 42; those up to 12 lie in the first span, those from 20 to 32 in the second.
    assert found.targets is not None
    assert found.targets.tolist() == [1] * 5 + [0] * 4
    assert found.left_out == {"border": 5, "no label": 1}
    assert data.windows(wanted, tmp_path / "seen" / "one.csv").targets is not None


def test_a_label_that_the_bundle_has_not_is_left_out_and_counted(tmp_path: Path) -> None:
    wanted = recorded(tmp_path, Span("running", 0, 2), Span("still", 2, 5))
    found = data.windows(wanted, tmp_path / "seen")
    assert found.left_out == {"other label": 5, "border": 2}
    (tmp_path / "b").mkdir()
    only = recorded(tmp_path / "b", Span("running", 0, 5))
    with pytest.raises(ConvertError, match=r"no window in it with a label of bundle.labels \(still, walking\)"):
        data.windows(only, tmp_path / "b" / "seen")


def test_without_labels_in_the_bundle_all_windows_stay(tmp_path: Path) -> None:
    recorded(tmp_path, Span("still", 0, 2))
    decoder = {"kind": "anomaly", "threshold": 1.0}
    found = data.windows(make(tmp_path, {"task": "anomaly", "labels": [], "decoder": decoder}), tmp_path / "seen")
    assert (len(found), found.targets, found.left_out) == (15, None, {})


def test_a_resampled_window_by_time_gets_the_label_of_its_span(tmp_path: Path) -> None:
    recorded(tmp_path, Span("walking", 0, 2.5), Span("still", 2.5, 5))
    window = {"window": {"seconds": 1.0, "size": 20}}
    found = data.windows(make(tmp_path, window), tmp_path / "seen")
    assert found.targets is not None
    assert set(found.targets.tolist()) == {0, 1}
    assert found.left_out == {"border": 1}


def test_the_gaps_of_a_folder_of_recordings_break_windows(tmp_path: Path) -> None:
    whole = data.windows(recorded(tmp_path, Span("still", 0, 5)), tmp_path / "seen")
    (tmp_path / "b").mkdir()
    broken = recorded(tmp_path / "b", Span("still", 0, 5), gaps=(2.5,))
    assert len(data.windows(broken, tmp_path / "b" / "seen")) == 2 * 6 < len(whole)


def test_a_damaged_folder_of_recordings_is_an_error(tmp_path: Path) -> None:
    wanted = recorded(tmp_path)
    (tmp_path / "seen" / "recordings.json").write_text("{")
    with pytest.raises(ConvertError, match=r"recordings.json could not be read"):
        data.windows(wanted, tmp_path / "seen")


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_sounds_go_through_transforms_that_remember_as_on_the_device(tmp_path: Path, suffix: str) -> None:
    sound = golden.arrays("sounds")["int16"]
    (tmp_path / "seen").mkdir()
    for name in ("one", "two"):
        soundfile.write(tmp_path / "seen" / f"{name}.{suffix}", sound, 16_000, subtype="PCM_16")
    wake = {
        "channels": [],
        "window": {"size": 800, "hop": 480},
        "transforms": [{"kind": "micro_frontend"}],
    }
    found = data.windows(make(tmp_path, wake), tmp_path / "seen")
    rows = golden.arrays("sounds")["micro-frontend"]
    windows = len(rows) // 3
    expected = rows[: 3 * windows].reshape(windows, 3, 40)
    np.testing.assert_array_equal(found.values, np.concatenate([expected, expected]))  # The second begins again.


PHOTOGRAPHS = {
    "channels": [],
    "window": {"size": 1},
    "transforms": [
        {"kind": "letterbox", "width": 16, "height": 12, "like": "opencv"},
        {"kind": "normalise", "mean": 127.5, "std": 127.5},
    ],
}


def test_a_folder_of_photographs_goes_through_the_frames_of_the_device(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for label, size in (("still", (30, 40)), ("walking", (50, 20))):
        (tmp_path / "seen" / label).mkdir(parents=True)
        for number in range(2):
            picture = Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8))
            sideways = Image.Exif()
            sideways[0x0112] = 6
            picture.save(tmp_path / "seen" / label / f"{number}.jpg", exif=sideways if number else Image.Exif())
    (tmp_path / "seen" / "still" / "damaged.jpg").write_bytes(b"no JPEG")
    found = data.windows(make(tmp_path, PHOTOGRAPHS), tmp_path / "seen")
    assert found.targets is not None
    assert found.targets.tolist() == [0, 0, 1, 1]
    assert found.dropped == {"damaged": 1}
    assert found.values.shape == (4, 1, 12, 16, 3)
    for number, values in enumerate(found.values):
        path = tmp_path / "seen" / ("still", "walking")[number // 2] / f"{number % 2}.jpg"
        np.testing.assert_allclose(values, run_on_device(path), atol=1e-6)
    # The border is 114: of the photographs that lie and stand, left or above.
    border = (114 - 127.5) / 127.5
    assert [np.allclose(one[0, :, 0], border) for one in found.values] == [False, True, True, False]


def run_on_device(path: Path) -> Any:
    """Return what a pipeline on the source `images` gives its model."""
    captured: list[Any] = []
    models.same(path.with_suffix(".tflite"), (1, 12, 16, 3), "float32")
    config = PipelineConfig(
        source="pictures",
        model=str(path.with_suffix(".tflite")),
        transforms=PHOTOGRAPHS["transforms"],
        decoder={"kind": "regress"},
    )
    source = plugins.load("sources", "images")
    wanted = source.Config(path=path)
    with Pipeline(plan_pipeline(single(path.parent, config), "p", source.describe(wanted))) as pipeline:
        pipeline.capture(lambda _, inputs: captured.append(inputs[0].copy()))
        with source.open(wanted, Counter()) as blocks:
            for block in blocks:
                if list(pipeline.feed(block)):
                    break
    return captured[0]


def test_a_photograph_that_the_transforms_cannot_take_is_named(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "seen" / "small.png")
    crop = {"channels": [], "window": {"size": 1}, "transforms": [{"kind": "crop", "width": 64, "height": 64}]}
    with pytest.raises((ConvertError, ConfigError), match="a crop of 64x64 is larger than its picture of 20x10"):
        data.windows(make(tmp_path, crop), tmp_path / "seen")
