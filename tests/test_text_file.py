"""Text as editors on every system save it, in each file that Limpet reads."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import config, text_file
from limpet.delivery.mqtt import broker_settings
from limpet.errors import ConfigError
from limpet.models import bundle
from limpet.reporters import mqtt
from limpet_convert import project
from support import bundles, models

CASES = Path(__file__).parent / "data" / "cases"
SAVED = {
    "unix": ("utf-8", "\n"),
    "windows": ("utf-8", "\r\n"),
    "old mac": ("utf-8", "\r"),
    "notepad": ("utf-8-sig", "\r\n"),
    "unicode": ("utf-16", "\r\n"),
    "unicode without a mark": ("utf-16-le", "\n"),
    "utf-32": ("utf-32", "\n"),
}
saved = pytest.mark.parametrize("manner", SAVED)


def save(path: Path, text: str, manner: str) -> Path:
    encoding, end = SAVED[manner]
    path.write_bytes(text.replace("\n", end).encode(encoding))
    return path


@saved
def test_text_is_the_same_however_it_was_saved(tmp_path: Path, manner: str) -> None:
    text = "first: °C\n\nthird\n"
    assert text_file.read(save(tmp_path / "t", text, manner)) == text


@given(data=st.binary(max_size=40))
def test_bytes_are_text_or_a_unicode_error(data: bytes) -> None:
    with contextlib.suppress(UnicodeDecodeError):
        assert "\r" not in text_file.decode(data)


@saved
def test_a_configuration(tmp_path: Path, manner: str) -> None:
    text = '[device]\nid = "d"\n[sources.s]\nkind = "replay"\n[pipelines.p]\nsource = "s"\nmodel = "m"\n'
    assert config.read(save(tmp_path / "limpet.toml", text, manner)).device.id == "d"


@saved
def test_a_password(tmp_path: Path, manner: str) -> None:
    settings = mqtt.Config(
        url="mqtt://b", username="u", password_file=save(tmp_path / "secret", "hush hush\n", manner)
    )
    assert broker_settings.password(settings) == "hush hush"


@saved
def test_labels_of_a_bundle(tmp_path: Path, manner: str) -> None:
    labels = save(tmp_path / "labels.txt", "cat\ndog \n\n\n", manner).read_bytes()
    path = bundles.bundle(
        tmp_path / "pets-1.limpet",
        {"model.tflite": models.dense(tmp_path / "m.tflite").read_bytes(), "labels.txt": labels},
        labels="labels.txt",
    )
    assert bundle.load(path, tmp_path / "cache").labels == ("cat", "dog")


def test_labels_in_the_metadata_of_a_model(tmp_path: Path) -> None:
    assert bundle.load(CASES / "crlf.tflite", tmp_path).labels == ("cat", "dog", "Größe")


def test_a_blank_label_between_two_keeps_its_place() -> None:
    assert text_file.lines(b"cat\r\n\r\ndog\r\n") == ["cat", "", "dog"]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("0  person\n1  bicycle\n3  car\n", ["person", "bicycle", "2", "car"]),
        ("0: cat\r\n1: dog\r\n\r\n", ["cat", "dog"]),
        ("0,cat\n\n2,dog\n", ["cat", "1", "dog"]),
        ("0\tstop sign\n1\t30 km/h\n", ["stop sign", "30 km/h"]),
    ],
)
def test_a_label_behind_its_number_gets_that_class(text: str, labels: list[str]) -> None:
    assert text_file.labels(text.encode()) == labels


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog",
        "1 finger\n2 fingers",
        "30 km/h\n50 km/h",
        "0 V\n5 V\n12 V\n24 V\n5 V",
        "0 fingers\n1 finger\n2 fingers",
        "0 a\nb",
        "0 a\n2 b\n1 c",
        "0 only",
        "0\n1\n2",
        "0 a\n999999 b",
    ],
)
def test_labels_that_are_not_all_numbered_from_0_stay_as_they_are(text: str) -> None:
    assert text_file.labels(text.encode()) == text.split("\n")


@saved
def test_a_project_of_the_converter(tmp_path: Path, manner: str) -> None:
    for name in ("m.tflite", "a.csv", "b.csv"):
        (tmp_path / name).touch()
    text = (
        '[model]\npath = "m.tflite"\n[data]\ncalibration = "a.csv"\ntest = "b.csv"\n'
        '[bundle]\nname = "n"\nversion = 1\ntask = "regress"\n'
    )
    assert project.read(save(tmp_path / "convert.toml", text, manner)).bundle.name == "n"


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "limpet.toml").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=r"limpet\.toml: File too large"):
        config.read(tmp_path / "limpet.toml")
