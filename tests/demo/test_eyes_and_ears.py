"""``limpet demo camera`` and ``limpet demo audio`` from end to end, and the parts of them that keep the score."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import av
import msgspec
import numpy as np
import pytest
from PIL import Image

from limpet.contracts.messages import ResultMessage
from limpet.demo import camera, half_blocks
from limpet.demo.audio import measured
from limpet.demo.client import Received
from limpet.demo.daemon import data
from limpet.demo.faces import FaceWatch, overlap
from limpet.demo.truth import truth
from limpet.demo.words import WordWatch
from support.demo import run

if TYPE_CHECKING:
    from pathlib import Path

BOX = (0.25, 0.25, 0.75, 0.75)


def test_faces_of_a_video_are_found_by_the_daemon_and_drawn(tmp_path: Path) -> None:
    output = tmp_path / "faces.mp4"
    done = run("camera", "--seconds", "1", "--json", "--output", str(output), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    board = json.loads(done.stdout)
    assert board["frames"] == 10
    assert board["lost"] == board["duplicates"] == board["restarts"] == 0
    assert board["found"] == board["faces"] > 0
    assert board["false_alarms"] == 0
    assert "face 9" in done.stderr  # a score of 90 % or more
    assert "limpet.toml" in done.stderr
    (folder,) = tmp_path.glob("limpet-demo-*")
    assert 'kind = "replay"' in (folder / "limpet.toml").read_text()
    with av.open(str(output)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 10
    red = np.abs(frames[5].astype(int) - (255, 59, 48)).sum(axis=2) < 120
    assert red.sum() > 300  # the box


def test_a_wake_word_is_heard_by_the_daemon(tmp_path: Path) -> None:
    done = run("audio", "--seconds", "3.4", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "heard" in line and "score" in line]
    begin, end = truth().words[0]
    assert begin < float(line.split()[0]) < end + 1
    assert '"okay nabu"' in line
    assert "1 said, 1 heard, 0 missed. False alarms: 0." in done.stdout
    assert done.stdout.endswith("Passed.\n")


def test_the_truth_has_every_frame_and_words_within_the_clip() -> None:
    known = truth()
    pictures = camera.frames(data("faces.mp4"))
    assert {one.shape for one in pictures} == {(240, 320, 3)}
    assert len(known.faces) == len(pictures) == 80
    rate, seconds = measured(data("okay-nabu.wav"))
    assert rate == 16_000
    assert all(0 < begin < end < seconds for begin, end in known.words)


@pytest.mark.parametrize("name", ["face-detection-1.limpet", "okay-nabu-1.limpet"])
def test_bundles_of_the_demo_name_their_licence(name: str) -> None:
    with zipfile.ZipFile(data(name)) as bundle:
        assert json.loads(bundle.read("manifest.json"))["licence"] == "Apache-2.0"


@pytest.mark.parametrize(
    ("what", "module", "extras"), [("camera", "av", "demo,camera"), ("audio", "pymicro_features", "demo,audio")]
)
def test_a_missing_extra_is_named(what: str, module: str, extras: str) -> None:
    missing = f"import sys; sys.modules[{module!r}] = None; "
    code = f"{missing}from limpet.cli import main; sys.exit(main(['demo', {what!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    first, second = extras.split(",")
    expected = f"the extras '{first}' and '{second}': pip install 'limpet[{extras}]'"
    assert done.stderr == f"limpet: limpet demo {what} needs {expected}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["audio", "--output", "x.mp4"], 2, "--output is for limpet demo camera only"),
        (["camera", "--rate", "5"], 2, "--rate is for limpet demo telemetry only"),
        (["camera", "--output", "x.gif"], 1, "use a name that ends with .mp4"),
        (["camera", "--output", "nowhere/x.png"], 1, "there is no folder"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(
    tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    done = run(*arguments, folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1)
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


def result(sequence: int, sample: int, output: dict[str, Any], pipeline: str) -> Received:
    message = ResultMessage(
        id=f"d/{pipeline}/b/{sequence}",
        device="d",
        pipeline=pipeline,
        boot="b",
        sequence=sequence,
        time=datetime.now(timezone.utc),
        monotonic_ns=1,
        sample=sample,
        model="m",
        version=1,
        delegate="cpu",
        degraded=False,
        latency_us=1.0,
        output=output,
    )
    return Received(f"result/{pipeline}", msgspec.json.encode(message), time.time_ns())


def faces(*boxes: tuple[float, ...]) -> dict[str, Any]:
    found = [{"label": "face", "score": 0.9, "box": list(box)} for box in boxes]
    return {"detections": found, "counts": {"face": len(found)}}


@pytest.mark.parametrize(
    ("second", "found", "false_alarms"),
    [
        ([BOX], 2, 0),
        ([], 1, 0),
        ([(0.0, 0.0, 0.2, 0.2)], 1, 1),
        ([BOX, (0.0, 0.0, 0.2, 0.2)], 2, 1),
    ],
)
def test_faces_count_as_found_where_they_are(
    second: list[tuple[float, ...]], found: int, false_alarms: int
) -> None:
    watch = FaceWatch([BOX, None], "faces", 3)
    watch.take(result(1, 0, faces(BOX), "faces"))
    watch.take(result(2, 1, faces(), "faces"))
    watch.take(result(3, 2, faces(*second), "faces"))
    watch.take(result(4, 3, faces(BOX), "faces"))  # after the frames that count
    board = watch.scoreboard()
    assert (board.faces, board.found, board.missed) == (2, found, 2 - found)
    assert (board.false_alarms, board.lost) == (false_alarms, 0)
    assert board.passed == (found == 2 and false_alarms == 0)


def test_a_result_that_is_missing_is_lost() -> None:
    watch = FaceWatch([BOX], "faces", 3)
    watch.take(result(1, 0, faces(BOX), "faces"))
    watch.take(result(3, 2, faces(BOX), "faces"))
    assert (watch.scoreboard().lost, watch.scoreboard().passed) == (1, False)


def test_the_overlap_of_boxes_is_a_share_of_both() -> None:
    assert overlap(BOX, BOX) == 1.0
    assert overlap((0.0, 0.0, 0.5, 1.0), (0.25, 0.0, 0.75, 1.0)) == pytest.approx(1 / 3)
    assert overlap((0.0, 0.0, 0.1, 0.1), (0.5, 0.5, 1.0, 1.0)) == 0.0
    assert overlap((0.3, 0.3, 0.3, 0.3), (0.3, 0.3, 0.3, 0.3)) == 0.0


def heard(word: str | None, score: float | None = 0.9) -> dict[str, Any]:
    return {"keyword": word, "score": score, "scores": {"okay nabu": score}}


@pytest.mark.parametrize(
    ("at", "missed", "false_alarms"),
    [([2.0], 0, 0), ([3.2], 0, 0), ([0.5], 1, 1), ([], 1, 0), ([2.0, 2.4], 0, 1)],
)
def test_a_word_counts_as_heard_from_its_begin_to_shortly_after_its_end(
    at: list[float], missed: int, false_alarms: int
) -> None:
    watch = WordWatch([(1.0, 2.5)], "word", 10.0, 5.0, 100)
    watch.take(result(1, 10, heard(None, None), "word"))
    for number, second in enumerate(at, 2):
        watch.take(result(number, round(second * 100), heard("okay nabu"), "word"))
    board = watch.scoreboard()
    assert (board.said, board.missed, board.false_alarms) == (1, missed, false_alarms)
    assert board.passed == (missed == false_alarms == 0)


def test_words_of_each_lap_of_the_clip_are_said() -> None:
    assert WordWatch([(1.0, 2.0)], "word", 4.0, 3.0, 100).said == [(1.0, 2.0)]
    assert WordWatch([(1.0, 2.0)], "word", 4.0, 2.9, 100).said == []
    assert WordWatch([(1.0, 2.0)], "word", 4.0, 8.0, 100).said == [(1.0, 2.0), (5.0, 6.0)]


def test_a_character_is_two_pixels_in_their_colours() -> None:
    pixels = np.zeros((4, 2, 3), np.uint8)
    pixels[0] = (255, 0, 0)
    drawn = half_blocks.text(pixels, 2, 2)
    assert drawn.plain == "▀▀\n▀▀\n"
    style = drawn.spans[0].style
    assert str(style) == "rgb(255,0,0) on rgb(0,0,0)"


def test_a_picture_keeps_its_sides_in_a_terminal_that_is_small() -> None:
    lines = half_blocks.text(np.zeros((240, 320, 3), np.uint8), 40, 5).plain.splitlines()
    assert [len(line) for line in lines] == [13] * 5


def test_boxes_outside_of_the_picture_are_drawn_at_its_edge() -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    half_blocks.outline(pixels, (-1.0, 0.0, 2.0, 1.0))
    assert (pixels[0] == half_blocks.BOX).all()
    assert (pixels[:, 9] == half_blocks.BOX).all()
    assert not pixels[1:-1, 1:-1].any()


def test_the_best_frame_is_written_as_a_picture(tmp_path: Path) -> None:
    watch = FaceWatch([BOX, BOX], "faces", 2)
    watch.take(result(1, 1, faces(BOX), "faces"))
    pictures = [np.zeros((24, 32, 3), np.uint8), np.full((24, 32, 3), 200, np.uint8)]
    camera.write(tmp_path / "best.png", pictures, watch.seen)
    with Image.open(tmp_path / "best.png") as image:
        assert image.size == (64, 48)
        assert image.getpixel((60, 3)) == (200, 200, 200)
