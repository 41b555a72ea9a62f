"""``limpet infer`` over recordings, and what it says where there is nothing to tell."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from support import models, pictures, videos

DATA = Path(__file__).parents[1] / "data" / "models"


def infer(folder: Path, *arguments: object, code: int = 0) -> tuple[list[dict[str, Any]], str]:
    """Return the results and what was said beside them."""
    command = [sys.executable, "-m", "limpet", "infer", "--json", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def samples(results: list[dict[str, Any]]) -> list[int]:
    return [result["sample"] for result in results]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.dense(tmp_path / "m.tflite", 3, 3)


def wav(path: Path, count: int, rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((3, 2, rate, 0, "NONE", ""))
        file.writeframes(np.zeros((count, 3), np.int16).tobytes())
    return path


def test_a_wav_has_its_own_rate(tmp_path: Path, model: Path) -> None:
    sound = wav(tmp_path / "r.wav", 4000, 1000)
    transforms = """[{ kind = "statistics", features = ["mean"] }]"""
    options = ("--window", "1s", "--transforms", transforms)
    results, _ = infer(tmp_path, model, sound, *options)
    assert samples(results) == [999, 1999, 2999]
    results, _ = infer(tmp_path, model, sound, *options, "--hop", "500ms", "--rate", 2000)
    assert samples(results) == [1999, 2999]


def test_times_of_a_table_are_its_own(tmp_path: Path, model: Path) -> None:
    rows = "".join(f"{n / 10},1,2,3\n" for n in range(30))
    (tmp_path / "r.csv").write_text("Time (s),a,b,c\n" + rows)
    transforms = """[{ kind = "statistics", features = ["mean"] }]"""
    results, _ = infer(tmp_path, model, "r.csv", "--window", "1s", "--transforms", transforms)
    assert samples(results) == [9, 19]


def test_samples_without_a_time_need_a_rate_for_a_window_by_time(tmp_path: Path, model: Path) -> None:
    np.save(tmp_path / "r.npy", np.zeros((30, 3), np.float32))
    options = ("--window", "1s", "--transforms", """[{ kind = "statistics", features = ["mean"] }]""")
    _, said = infer(tmp_path, model, "r.npy", *options, code=78)
    assert "rate: missing; the window of pipelines.m is 1 s, but these samples carry no time" in said
    results, _ = infer(tmp_path, model, "r.npy", *options, "--rate", "10")
    assert samples(results) == [9, 19]


def test_window_hop_channels_and_decoder_stand_in_for_the_models(tmp_path: Path, model: Path) -> None:
    (tmp_path / "r.csv").write_text("a,b,label,c\n" + "1,2,x,3\n" * 10)
    results, _ = infer(tmp_path, model, "r.csv", "--channels", "a, b,c")
    assert samples(results) == list(range(10))
    mean = """[{ kind = "statistics", features = ["mean"] }]"""
    options = ("--channels", "c,b,a", "--window", "4", "--hop", "2", "--transforms", mean)
    results, _ = infer(tmp_path, model, "r.csv", *options)
    assert samples(results) == [3, 5, 7, 9]
    (first, *_), _ = infer(
        tmp_path, model, "r.csv", "--channels", "a,b,c", "--decoder", '{ kind = "anomaly", threshold = 1 }'
    )
    assert "score" in first["output"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--window", "soon"], "--window: 'soon': give samples, as 128, or time, as 2s or 500ms"),
        (["--hop", "2"], "--hop: goes with --window"),
        (["--transforms", "{"], "--transforms: '{' is not TOML"),
        (["--decoder", "clasify"], "did you mean 'classify'?"),
        (["--rate", "-1"], "--rate is -1.0; use a number above 0"),
        (["--channels", "a,d"], "no column 'd'"),
        (["--window", "2s", "--hop", "3"], "hop goes with a window by count"),
    ],
)
def test_options_that_cannot_be_right(tmp_path: Path, model: Path, options: list[str], problem: str) -> None:
    (tmp_path / "r.csv").write_text("a,b,c\n1,2,3\n")
    _, said = infer(tmp_path, model, "r.csv", *options, code=78)
    assert problem in said


def test_no_result_is_explained(tmp_path: Path, model: Path) -> None:
    (tmp_path / "r.csv").write_text("a,b,c\n" + "1,2,3\n" * 5)
    mean = """[{ kind = "statistics", features = ["mean"] }]"""
    _, said = infer(tmp_path, model, "r.csv", "--window", "12", "--transforms", mean, code=1)
    assert "5 samples, 0 results: a window takes 12 samples" in said
    (tmp_path / "r.csv").write_text("a,b,c\n" + "1,2,3\n1,2,3\n1,NA,3\n" * 5)
    _, said = infer(tmp_path, model, "r.csv", "--window", "3", "--transforms", mean, code=1)
    assert "10 samples, 0 results: a window takes 3 samples; 8 samples are between gaps" in said
    assert "dropped samples: not_finite: 5" in said


def last_values(results: list[dict[str, Any]]) -> list[float]:
    return [list(result["output"]["values"].values())[-1] for result in results]


def test_windows_of_a_recurrent_model_stand_alone_unless_said_otherwise(tmp_path: Path) -> None:
    rows = "".join(f"{value}\n" * 4 for value in (1, -0.5, 1, -0.5))
    (tmp_path / "r.csv").write_text("x\n" + rows)
    results, _ = infer(tmp_path, DATA / "lstm_cell.tflite", "r.csv", "--window", 4)
    np.testing.assert_allclose(last_values(results), [0.995, -0.952, 0.995, -0.952], atol=1e-3)
    results, _ = infer(tmp_path, DATA / "lstm_cell.tflite", "r.csv", "--window", 4, "--stateful")
    np.testing.assert_allclose(last_values(results), [0.995, 0.833, 1.0, 0.983], atol=1e-3)


def test_each_of_several_inputs_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("a,b,c,d,e,f\n1,2,3,10,20,30\n")
    _, said = infer(tmp_path, DATA / "two.tflite", "r.csv", code=1)
    example = said.partition("for example: inputs = ")[2].strip()
    results, _ = infer(tmp_path, DATA / "two.tflite", "r.csv", "--inputs", example)
    assert list(results[0]["output"]["values"].values()) == [11, 22, 33, 10, 40, 90]


def test_a_window_that_fails_costs_no_other_and_is_said(tmp_path: Path) -> None:
    model = models.integers(tmp_path / "m.tflite", "int32", 1)
    (tmp_path / "r.csv").write_text("x\n1\n1e10\n3\n")
    results, said = infer(tmp_path, model, "r.csv")
    assert samples(results) == [0, 2]
    assert "r.csv: 1 windows failed: m.tflite: input" in said
    (tmp_path / "r.csv").write_text("x\n1e10\n2e10\n")
    results, said = infer(tmp_path, model, "r.csv", code=1)
    assert results == []
    assert "the model failed on each of 2 windows" in said


def test_samples_too_large_to_compute_with_give_no_result(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 8, 8)
    np.save(tmp_path / "r.npy", np.float32([3e38, -3e38] * 8 + [1.0] * 8)[:, None])
    spectrum = '[{kind = "spectrum", bands = 8}]'
    results, said = infer(
        tmp_path, model, "r.npy", "--rate", 100, "--window", 16, "--hop", 8, "--transforms", spectrum, code=1
    )
    assert results == []
    assert "2 windows failed: samples so large that window and transforms make NaN or infinity of them" in said
    assert "RuntimeWarning" not in said


def test_a_signature_can_be_chosen(tmp_path: Path) -> None:
    model = models.started(tmp_path / "m.tflite", 1)
    np.save(tmp_path / "r.npy", np.ones((2, 1), np.float32))
    _, said = infer(tmp_path, model, "r.npy", code=1)
    assert 'takes no input; set runtime = { signature = "twice" }' in said
    results, _ = infer(tmp_path, model, "r.npy", "--signature", "twice")
    assert last_values(results) == [2.0, 2.0]


def test_a_reader_that_closes_the_pipe_is_no_crash(tmp_path: Path, model: Path) -> None:
    np.save(tmp_path / "r.npy", np.ones((3000, 3), np.float32))
    command = [sys.executable, "-m", "limpet", "infer", str(model), "r.npy"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stderr
        assert running.stdout.readline()
        running.stdout.close()
        said = running.stderr.read()
    assert b"Traceback" not in said
    assert b"BrokenPipe" not in said
    assert running.returncode == 141


@pytest.mark.parametrize("command", ["infer", "bench"])
def test_a_model_that_the_runtime_does_not_survive_is_named(tmp_path: Path, command: str) -> None:
    model = models.crashing(tmp_path / "m.tflite")
    np.save(tmp_path / "r.npy", np.ones((2, 4), np.float32))
    arguments = [command, model, *(["r.npy"] if command == "infer" else [])]
    done = subprocess.run(
        [sys.executable, "-m", "limpet", *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "the runtime did not survive the model m: " in done.stderr


def test_transforms_that_leave_out_the_models_own_are_warned_of_and_so_is_clipping(tmp_path: Path) -> None:
    metadata = {"TFLITE_METADATA": models.tflite_metadata(100.0, 50.0, labels=False)}
    model = models.dense(tmp_path / "m.tflite", 3, 3, metadata=metadata)
    np.save(tmp_path / "r.npy", np.full((3, 3), 1e6, np.float32))
    _, said = infer(tmp_path, model, "r.npy", "--transforms", "[]")
    assert "limpet: warning: transforms replaces the model's own" in said
    assert "1 of 1 windows have values that the model's quantized input cannot hold" in said
    np.save(tmp_path / "r.npy", np.full((3, 3), 100.0, np.float32))
    _, said = infer(tmp_path, model, "r.npy")
    assert "warning" not in said


PIXEL = ("--transforms", "[{kind='resize', width=1, height=1}, {kind='normalise', std=255}]")
COLOUR = ("--decoder", "{kind='classify', labels=['red', 'green', 'blue']}")


def plain(folder: Path, *arguments: object, code: int = 0) -> tuple[list[str], str]:
    """Return the lines of the table, and what was said beside them."""
    command = [sys.executable, "-m", "limpet", "infer", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines(), done.stderr


def test_pictures_and_folders_of_them_give_a_line_each(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3, int8=False)
    folder = tmp_path / "photos"
    folder.mkdir()
    for channel, (name, kind) in enumerate((("a.jpg", "JPEG"), ("b.png", "PNG"), ("c.bmp", "BMP"))):
        pixels = np.zeros((9 + channel % 2, 12, 3), np.uint8)
        pixels[:, :, channel] = 255
        (folder / name).write_bytes(pictures.encoded(pixels, kind))
    (folder / "notes.txt").write_text("no picture")
    results, said = infer(tmp_path, model, "photos", "photos/a.jpg", *PIXEL, *COLOUR)
    found = [(result["file"], result["output"]["label"]) for result in results]
    names = [f"photos/{name}" for name in ("a.jpg", "b.png", "c.bmp", "a.jpg")]
    assert found == list(zip(names, ["red", "green", "blue", "red"], strict=True))
    assert said == ""
    lines, _ = plain(tmp_path, model, "photos", *PIXEL, *COLOUR)
    assert [line.split() for line in lines] == [
        ["photos/a.jpg", "0", "red", "100%"],
        ["photos/b.png", "0", "green", "100%"],
        ["photos/c.bmp", "0", "blue", "100%"],
    ]


def test_a_damaged_picture_costs_no_other_and_is_named(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3, int8=False)
    pictures.fill(tmp_path, 3, damaged={1})
    results, said = infer(tmp_path, model, *(f"000{n}.png" for n in range(3)), *PIXEL, code=1)
    assert [result["file"] for result in results] == ["0000.png", "0002.png"]
    assert "0001.png: dropped samples: damaged: 1" in said
    (tmp_path / "empty").mkdir()
    _, said = infer(tmp_path, model, "empty", code=78)
    assert "empty: is a folder without pictures; name files" in said


def test_several_recordings_run_one_after_another_and_no_window_spans_two(tmp_path: Path, model: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("x,y,z\n" + "1,2,3\n" * 5)
    mean = """[{ kind = "statistics", features = ["mean"] }]"""
    options = ("--window", 3, "--transforms", mean)
    results, _ = infer(tmp_path, model, "a.csv", "b.csv", *options)
    assert [(result["file"], result["sample"]) for result in results] == [("a.csv", 2), ("b.csv", 2)]
    lines, _ = plain(tmp_path, model, "a.csv", *options)
    assert len(lines) == 1
    assert lines[0].split()[0] == "2"


def test_each_frame_of_a_video_is_a_picture(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3, int8=False)
    videos.write(tmp_path / "clip.mp4", 8)
    results, said = infer(tmp_path, model, "clip.mp4", *PIXEL, *COLOUR)
    assert [result["sample"] for result in results] == list(range(8))
    assert {result["output"]["label"] for result in results} == {"blue"}
    assert said == ""


@pytest.mark.parametrize("ending", ["flac", "ogg"])
def test_sounds_are_taken_in_other_formats_than_wav(tmp_path: Path, ending: str) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3, int8=False)
    soundfile.write(tmp_path / f"s.{ending}", np.full((16_000, 3), 0.5), 16_000)
    options = ("--window", 8000, "--transforms", """[{ kind = "statistics", features = ["mean"] }]""")
    results, _ = infer(tmp_path, model, f"s.{ending}", *options)
    assert samples(results) == [7999, 15_999]
    np.testing.assert_allclose(last_values(results), 0.5, atol=0.05)
