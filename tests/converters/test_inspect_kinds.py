"""`inspect` tells what a file or a folder is by its content, and says which command reads it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limpet import cli as agent
from limpet.models import model_kind
from limpet_convert import cli
from support import models
from support.protobuf import message, onnx, saved_model, tf_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as written:
        for name, data in members.items():
            written.writestr(name, data)
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def folder(path: Path, members: Mapping[str, bytes]) -> Path:
    for name, data in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def keras(path: Path) -> Path:
    layers = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 3], "dtype": "float32"}},
        {"class_name": "Dense", "config": {}},
    ]
    config = {"class_name": "Sequential", "config": {"layers": layers}}
    return archive(
        path, {"config.json": json.dumps(config).encode(), "model.weights.h5": b"x", "metadata.json": b""}
    )


READ: dict[str, tuple[Callable[[Path], Path], str]] = {
    "tflite": (models.dense, "FULLY_CONNECTED 1"),
    "onnx": (lambda path: written(path, onnx(op="Gelu")), "Gelu 1"),
    "saved_model": (
        lambda path: folder(path, {"saved_model.pb": saved_model(tf_node("m", "MatMul"))}),
        "MatMul 1",
    ),
    "keras": (keras, "x [None, 3] float32"),
    "bundle": (lambda path: Path(shutil.copy(ROOT / "bench/models/keyword-1.limpet", path)), "keyword 1"),
}


def test_without_the_package_that_reads_a_model_it_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    assert cli.main(["inspect", str(models.dense(tmp_path / "dense.tflite"))]) == 1
    said = capsys.readouterr().err
    assert "pip install 'limpet[convert]'" in said
    assert said.count("\n") == 1


SAID: dict[str, tuple[Callable[[Path], Path], str]] = {
    "mlpackage": (
        lambda path: folder(path, {"Manifest.json": b"{}", "Data/x": b""}),
        "a Core ML package",
    ),
    "mlmodel": (
        lambda path: written(path, message((1, 4), (2, message((1, b""))), (500, b""))),
        "a Core ML model",
    ),
    "exported": (lambda path: archive(path, {"m/archive_format": b"pt2"}), "an exported program of PyTorch"),
    "traced": (lambda path: archive(path, {"m/code/a.py": b"", "m/data.pkl": b""}), "a traced model of PyTorch"),
    "weights": (lambda path: archive(path, {"m/data.pkl": b""}), "weights of PyTorch without a program"),
    "keras_h5": (lambda path: written(path, b"\x89HDF\r\n\x1a\n..."), "a Keras model or weights in HDF5"),
    "pickle": (lambda path: written(path, pickle.dumps([1])), "a pickle, which can hold code"),
    "mlmodelc": (lambda path: folder(path, {"coremldata.bin": b""}), "a compiled Core ML model"),
    "archive": (lambda path: archive(path, {"a.txt": b""}), "a zip archive, but none of a model"),
    "folder": (lambda path: folder(path, {"a.txt": b""}), "a folder, but none of a model"),
    "empty": (lambda path: written(path, b""), "an empty file"),
    "unknown": (lambda path: written(path, b"GIF89a......"), "no model that Limpet knows"),
}


@pytest.mark.parametrize("suffix", ["", ".bin", ".onnx", ".tflite"])
@pytest.mark.parametrize("kind", READ)
def test_limpet_convert_gives_facts_whatever_the_file_is_called(
    kind: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, fact = READ[kind]
    path = make(tmp_path / f"model{suffix}")
    assert model_kind.of(path).name == kind
    assert cli.main(["inspect", str(path)]) == 0
    assert fact in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["", ".onnx"])
@pytest.mark.parametrize("kind", SAID)
def test_limpet_convert_says_what_a_file_is_that_it_cannot_read(
    kind: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = SAID[kind]
    path = make(tmp_path / f"model{suffix}")
    assert model_kind.of(path).name == kind
    assert cli.main(["inspect", str(path)]) == 1
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("kind", [*READ, *SAID])
def test_limpet_names_the_command_that_reads_what_it_does_not(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = (READ | SAID)[kind]
    path = make(tmp_path / "model.onnx")
    found = model_kind.of(path)
    status = agent.main(["inspect", str(path)])
    printed = capsys.readouterr()
    if kind in {"tflite", "bundle"}:
        assert (status, printed.err.count("Traceback")) == (0, 0)
    else:
        assert status == 1
        assert f"{path}: {found.words}" in printed.err
        assert (f"{found.reader} reads it" in printed.err) == bool(found.reader)
        assert words in printed.err or kind in READ


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.binary(max_size=200))
def test_any_bytes_have_a_kind(tmp_path: Path, data: bytes) -> None:
    assert model_kind.of(written(tmp_path / "m", data)).words


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.tflite")
    assert model_kind.of(tmp_path / "m.tflite").words == "neither a file nor a folder"
