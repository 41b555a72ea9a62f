"""A client sees the last result of a camera's pipeline on its picture, and no reporter does."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from support.api_daemon import api_daemon
from support.broker import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_PIPELINE = """
[pipelines.{name}]
source = "folder"
model = "dense.tflite"
transforms = [{{ kind = "resize", width = 1, height = 1 }}, {{ kind = "normalise", std = 255 }}]
decoder = {{ kind = "classify", labels = ["red", "green", "blue"] }}
{snapshots}
"""
MORE = (
    """
[sources.folder]
kind = "images"
path = "photos"
"""
    + _PIPELINE.format(name="door", snapshots="snapshots = {}")
    + _PIPELINE.format(name="other", snapshots="")
)


def test_a_client_sees_a_picture_that_goes_to_no_reporter(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(np.full((48, 64, 3), 200, np.uint8)).save(photos / "1.png")
    with api_daemon(tmp_path, more=MORE) as started:
        wait_until(lambda: started.request("/api/pipelines/door").json["health"]["results"] > 0)
        answer = started.request("/api/pipelines/door/picture.jpg")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
        assert Image.open(io.BytesIO(answer.body)).size == (64, 48)
        assert started.request("/api/pipelines/door").json["health"]["snapshots"] is None
        without = started.request("/api/pipelines/other/picture.jpg")
        assert without.status == 404
        assert "snapshots" in without.json["error"]
