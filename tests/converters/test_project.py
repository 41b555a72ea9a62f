"""The project file: every problem at once, each with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limpet.errors import ConfigError, ConfigFileError
from limpet_convert import project

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "converters" / "examples").glob("*/convert.toml"))


def tables(folder: Path, **changes: dict[str, Any]) -> dict[str, Any]:
    for name in ("model.keras", "seen.npy", "test.npy"):
        (folder / name).touch()
    found: dict[str, dict[str, Any]] = {
        "model": {"path": "model.keras"},
        "data": {"calibration": "seen.npy", "test": "test.npy"},
        "bundle": {"name": "motion", "version": 1, "task": "classify", "labels": ["still", "walking"]},
    }
    return {name: found.get(name, {}) | changes.get(name, {}) for name in found | changes}


def problems(folder: Path, **changes: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        project.build(tables(folder, **changes), folder / "convert.toml")
    return list(caught.value.problems)


def test_a_short_file_is_enough(tmp_path: Path) -> None:
    read = project.build(tables(tmp_path), tmp_path / "convert.toml")
    assert read.model.path == tmp_path / "model.keras"
    assert (read.quantize.variants, read.quantize.observer) == (["int8"], "minmax")
    assert (read.verify.max_metric_loss, read.verify.min_agreement) == (1.0, 0.98)
    assert read.sign is None


def test_what_comes_last_is_looked_at_first(tmp_path: Path) -> None:
    found = problems(tmp_path, coreml={"weights": "int5"})
    assert len(found) == 1
    assert found[0].startswith('coreml.weights is "int5"; use "float16", "float32", "int8", ')
    assert found[0].endswith(" (did you mean 'int8'?)")
    found = problems(tmp_path, data={"groups": "gone.npy"})
    assert found == [f"data.groups: {tmp_path / 'gone.npy'}: no such file or folder"]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    wrong = {"variants": ["int4"], "obsever": "mse"}
    found = problems(tmp_path, quantize=wrong, modell={}, data={"samples": 0})
    assert len(found) == 4
    assert any("quantize.obsever: unknown key (did you mean 'observer'?)" in p for p in found)
    assert any(p.startswith("modell: unknown table") for p in found)
    assert any(p.startswith("quantize.variants") for p in found)
    assert any(p.startswith("data.samples") for p in found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bundle": {"labels": []}}, "bundle.labels: missing"),
        ({"bundle": {"labels": ["a", "a"]}}, "bundle.labels: a label appears twice"),
        ({"bundle": {"task": "anomaly"}}, "bundle.decoder: an anomaly task needs"),
        ({"bundle": {"task": "detect"}}, 'bundle.decoder: a detection task needs kind = "detect"'),
        ({"bundle": {"task": "detect"}}, "data.targets: a detection task needs a .jsonl file"),
        ({"bundle": {"task": "detect", "labels": []}}, "bundle.labels: missing"),
        ({"model": {"path": "gone.keras"}}, "no such file or folder"),
        ({"data": {"targets": "gone.npy"}}, "data.targets: "),
        ({"bundle": {"window": {"hop": 3}}}, "a window needs a size"),
        (
            {"bundle": {"task": "classification"}},
            'bundle.task is "classification"; use "anomaly", "classify", "detect" or "regress" (did you mean',
        ),
        (
            {"bundle": {"decoder": {"kind": "clasify"}}},
            "decoder.kind: 'clasify' is not one of the decoders",
        ),
        ({"bundle": {"decoder": {"kind": "classify", "tob": 1}}}, "bundle.decoder.tob: unknown key"),
    ],
)
def test_what_no_single_key_shows_is_reported(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert any(said in problem for problem in problems(tmp_path, **changes))


def test_a_file_that_is_no_toml_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "convert.toml").write_text("[model\n")
    for path, said in (
        (tmp_path / "convert.toml", "not TOML"),
        (tmp_path / "gone.toml", "no such file. Run: limpet-convert init"),
    ):
        with pytest.raises(ConfigError, match=said):
            project.read(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_examples_lack_nothing_but_what_training_makes(path: Path) -> None:
    try:
        project.read(path)
    except ConfigError as error:
        assert all("no such file" in problem for problem in error.problems)  # noqa: PT017 - fine without error too


def test_problems_of_all_tables_have_their_place(tmp_path: Path) -> None:
    (tmp_path / "convert.toml").write_text(
        '[model]\npath = "gone.keras"\n[data]\ncalibration = "gone.npy"\ntest = "."\nsamples = 0\n'
        '[data.source]\nkind = "replay"\nrate = -1\n[bundle]\nname = "Motion"\nversion = 1\ntask = "classify"\n'
        '[quantise]\n'
    )  # fmt: skip
    with pytest.raises(ConfigFileError) as caught:
        project.read(tmp_path / "convert.toml")
    assert [(one.line, one.column, one.message.split(" ")[0].rstrip(":")) for one in caught.value.found] == [
        (2, 8, "model.path"),
        (6, 11, "data.samples"),
        (11, 8, "bundle.name"),
        (14, 2, "quantise"),
    ]


def test_files_and_options_are_checked_although_another_table_is_wrong(tmp_path: Path) -> None:
    source = {"kind": "replay", "rate": 0}
    wrong = {"verify": {"min_agreement": 2}, "model": {"path": "gone.keras"}, "data": {"source": source}}
    found = problems(tmp_path, **wrong)
    assert [problem.split(" ")[0].rstrip(":") for problem in found] == [
        "verify.min_agreement",
        "model.path",
        "data.source.rate",
    ]
