"""``limpet explain`` over recordings and pictures."""

from __future__ import annotations

import json
from base64 import b64decode
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from limpet import cli
from support import models

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
DECODER = '{kind = "classify", labels = ["x", "y", "z"]}'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    models.same(tmp_path / "m.tflite", (1, 3), "float32")
    rows = ["ax,ay,az", "0,0,1", "0.2,0.7,0.1", "0.9,0,0.1"]
    (tmp_path / "r.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def explain(capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> str:
    assert cli.main(["explain", "m.tflite", "r.csv", "--decoder", DECODER, *options]) == code
    out, err = capsys.readouterr()
    return err if code else out


def as_json(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(explain(capsys, "--json", *options))
    return found


def test_the_window_that_ends_with_a_sample_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "--sample", "1")
    assert (found["sample"], found["model"]) == (1, "m")
    values = {part["name"]: part["value"] for part in found["explanation"]["parts"]}
    assert values == {"ax": 0, "ay": pytest.approx(0.7), "az": 0}
    assert as_json(capsys)["explanation"]["label"] == "z"
    assert as_json(capsys, "--sample", "1")["explanation"] == found["explanation"]


def test_the_text_has_a_bar_for_each_part_and_the_smallest_change(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explain(capsys, "--sample", "1").splitlines()
    assert lines[0] == "r.csv, sample 1: y 0.7; with all channels hidden 0"
    assert lines[1].split() == ["ay", "0.7", "█" * 24]
    assert "Shapley values, exact" in lines[4]
    assert lines[5].startswith("Smallest change: ")
    assert lines[5].endswith("gives x.")


def test_a_plot_is_written_and_the_same_question_gives_the_same_file(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    for name in ("one.svg", "two.svg"):
        explain(capsys, "--sample", "1", "--plot", name)
    assert (folder / "one.svg").read_bytes() == (folder / "two.svg").read_bytes()
    drawn = ET.parse(folder / "one.svg")  # noqa: S314 - a file of its own
    widths = [float(one.attrib["width"]) for one in drawn.iter(f"{SVG}rect")][1:]
    texts = [one.text for one in drawn.iter(f"{SVG}text")]
    assert texts[1::2] == ["ay", "ax", "az"]
    assert widths[0] > 100
    assert widths[1:] == [0, 0]


def test_a_picture_gets_a_heat_map(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    models.conv(folder / "image.tflite", 16, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "p.png")
    normalise = '[{kind = "normalise", mean = 127.0, std = 32.0}]'
    options = ["--decoder", "tensor", "--transforms", normalise, "--plot", "map.svg"]
    assert cli.main(["explain", "image.tflite", "p.png", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {len(line) for line in lines[1:9]} == {2 + 2 + 1 + 16 + 1}
    assert lines[9].startswith("  most: ")
    drawn = ET.parse(folder / "map.svg")  # noqa: S314 - a file of its own
    (image,) = drawn.iter(f"{SVG}image")
    picture = Image.open(BytesIO(b64decode(image.attrib["href"].partition(",")[2])))
    assert picture.size == (16, 16)
    _, tile = drawn.iter(f"{SVG}rect")  # the model's first number sees the first pixels alone
    assert (tile.attrib["x"], tile.attrib["y"]) == ("12.0", "40.0")


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--sample", "7"], 78, "--sample: 7 is after the last window, which ends with sample 2"),
        (["--by", "pixels"], 1, "the window cannot be explained: its samples are no pictures"),
        (["--label", "xx"], 1, "the model has no label 'xx'"),
        (["--baseline", "typical"], 1, 'use the baseline "mean"'),
        (["--plot", "no/why.svg"], 1, "--plot: no/why.svg: No such file"),
        (["--plot", "why.txt"], 78, "does not end with .svg"),
        (["--invokes", "20000"], 78, "invokes"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    capsys: pytest.CaptureFixture[str], options: list[str], code: int, reason: str
) -> None:
    assert reason in explain(capsys, *options, code=code)
