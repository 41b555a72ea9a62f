"""Cameras on the network through the real daemon, in its sandbox: they fail, are named, and come back."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from support import models, videos
from support.broker import wait_until
from support.daemon import Consumer, daemon
from support.rtsp import RtspCamera

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.conftest import Configure

PASSWORD = "s3cret@door"  # noqa: S105 - a test's
PIPELINE = (
    '[pipelines.{name}]\nsource = "{source}"\nmodel = "small.tflite"\ndecoder = {{ kind = "regress" }}\n'
    'transforms = [{{ kind = "resize", width = 2, height = 2 }}]\n'
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    models.same(tmp_path / "small.tflite", (1, 2, 2, 3), "uint8")
    (tmp_path / "password").write_text(PASSWORD)
    return tmp_path


def source(port: int) -> str:
    return (
        f'[sources.yard]\nkind = "camera"\nurl = "rtsp://127.0.0.1:{port}/stream"\nuser = "eve"\n'
        'password_file = "password"\ntimeout = 2\n'
    )


def reasons(consumer: Consumer) -> str:
    return json.dumps([event["reason"] for event in consumer.events("yard", "waiting")])


def test_a_camera_that_fails_is_named_counted_and_comes_back(configure: Configure, consumer: Consumer) -> None:
    login: dict[str, Any] = {"user": "eve", "password": PASSWORD}
    with ExitStack() as there:
        port = there.enter_context(RtspCamera(**login)).port
        path = configure(source(port), PIPELINE.format(name="yard", source="yard"))
        with daemon(path) as running:
            consumer.wait_results("yard", 5)
            there.close()
            wait_until(lambda: "the connection is refused" in reasons(consumer))
            with RtspCamera(port=port, user="eve", password=PASSWORD[::-1]):
                wait_until(lambda: "the camera refuses the login" in reasons(consumer))
            with RtspCamera(port=port, **login):
                consumer.wait_results("yard", 5)
                wait_until(lambda: {"ended", "login"} <= set(dropped(consumer)))
            assert running.stop() == 0
    assert "s3cret" not in running.log
    assert not any(b"s3cret" in message.payload for message in consumer.messages)
    assert "seccomp" in json.dumps(consumer.last("health/yard"))


def dropped(consumer: Consumer) -> dict[str, int]:
    """Return what health counts by cause."""
    health = consumer.last("health/yard") or {}
    found: dict[str, int] = health.get("dropped", {})
    return found


def test_a_video_is_played_by_the_daemon(configure: Configure, consumer: Consumer, folder: Path) -> None:
    videos.write(folder / "yard.mp4", 40)
    path = configure(
        '[sources.tape]\nkind = "replay"\npath = "yard.mp4"\nspeed = "flat-out"\n',
        PIPELINE.format(name="tape", source="tape"),
    )
    with daemon(path) as running:
        wait_until(lambda: len(consumer.results("tape")) >= 40)
        assert running.stop() == 0
    assert len(consumer.results("tape")) == 40
