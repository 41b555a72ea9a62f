"""Frames of a camera go through the real daemon: each pipeline has them developed as its model takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import models
from support.broker import wait_until
from support.daemon import Consumer, daemon
from support.outside import install

if TYPE_CHECKING:
    from daemon.conftest import Configure

PAINTED = Path(__file__).parent / "outside" / "painted.py"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path / "site", "sources", "painted", PAINTED.read_text())
    models.same(tmp_path / "small.tflite", (1, 2, 2, 3), "uint8")
    models.same(tmp_path / "grey.tflite", (1, 2, 3, 1), "float32")
    return tmp_path / "site"


def test_two_pipelines_develop_the_same_frames_and_a_new_size_is_a_gap_and_an_event(
    configure: Configure, consumer: Consumer, site: Path
) -> None:
    path = configure(
        '[sources.camera]\nkind = "painted"\nframes = 8\nlarger = 5\n',
        '[pipelines.small]\nsource = "camera"\nmodel = "small.tflite"\ndecoder = { kind = "regress" }\n'
        'transforms = [{ kind = "resize", width = 2, height = 2 }]\n',
        '[pipelines.grey]\nsource = "camera"\nmodel = "grey.tflite"\ndecoder = { kind = "regress" }\n'
        'transforms = [{ kind = "crop", square = true }, { kind = "resize", width = 3, height = 2 }, '
        '{ kind = "colour", to = "grey" }, { kind = "normalise", mean = 2, std = 0.5 }]\n',
    )
    with daemon(path, {"PYTHONPATH": str(site)}) as running:
        wait_until(lambda: all(len(consumer.results(name)) >= 8 for name in ("small", "grey")))
        wait_until(lambda: all(consumer.events(name, "frames") for name in ("small", "grey")))
        assert running.stop() == 0
    for n, result in enumerate(consumer.results("small")):
        assert list(result["output"]["values"].values()) == [n, 2 * n, 7] * 4
    for n, result in enumerate(consumer.results("grey")):
        grey = (n * 19595 + 2 * n * 38470 + 7 * 7471 + 0x8000) >> 16
        assert list(result["output"]["values"].values()) == [(grey - 2) / 0.5] * 6
    (event,) = consumer.events("small", "frames")
    assert event["reason"] == "the source's frames are 64x48 rgb24 now; they were 32x24 rgb24"
