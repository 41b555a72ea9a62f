"""``limpet init`` with cameras, microphones and ready-made models."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from limpet.commands import _live_sensors
from limpet.demo.daemon import data
from limpet.device.machine import Machine
from support.microphone import NAME, Microphone, ramp
from support.web_camera import WebCamera

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FLAGS = ("--state", "state", "--id", "d", "--url", "mqtt://localhost:1883")


@pytest.fixture
def starters(tmp_path: Path) -> Path:
    """A folder for ``PYTHONPATH`` with a package of ready-made models: of pictures and of sound."""
    site = tmp_path / "site"
    information = site / "starters-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: starters\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[limpet.bundles]\nstarters = starters\n")
    (site / "starters").mkdir()
    (site / "starters" / "__init__.py").touch()
    for name in ("face-detection-1.limpet", "okay-nabu-1.limpet"):
        shutil.copy(data(name), site / "starters" / name)
    return site


def init(
    folder: Path, *arguments: object, site: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    added = {**(environment or {}), **({"PYTHONPATH": str(site)} if site else {})}
    return subprocess.run(
        [sys.executable, "-m", "limpet", "init", *map(str, (*arguments, *FLAGS))],
        cwd=folder,
        env={**os.environ, **added},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )


def written(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "limpet.toml").read_text())


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "orange").save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_camera_that_sends_frames_gets_a_ready_made_model(tmp_path: Path, starters: Path) -> None:
    with WebCamera([jpeg()]) as camera:
        url = f"http://127.0.0.1:{camera.port}/stream"
        done = init(tmp_path, "--camera", url, site=starters)
    assert done.returncode == 0, done.stderr
    assert "camera: " in done.stdout
    assert " samples in " in done.stdout
    made = written(tmp_path)
    assert made["sources"] == {"camera": {"kind": "camera", "url": url}}
    assert made["pipelines"] == {"face-detection": {"source": "camera", "model": "face-detection"}}
    stored = tmp_path / "state" / "models" / "face-detection-1.limpet"
    assert stored.read_bytes() == data("face-detection-1.limpet").read_bytes()


def test_a_network_camera_with_a_login_is_tried_and_written_with_it(tmp_path: Path, starters: Path) -> None:
    login_text = "open: @/"
    (tmp_path / "password").write_text(f"{login_text}\n")
    login = ("--camera-user", "limpet", "--camera-password-file", "password")
    with WebCamera([jpeg()], user="limpet", password=login_text) as camera:
        wanted = ("--camera", f"http://127.0.0.1:{camera.port}/stream", "--model", "face-detection")
        refused = init(tmp_path, *wanted, site=starters)
        done = init(tmp_path, *wanted, *login, site=starters)
    assert refused.returncode == 78
    assert "refuses the login" in refused.stderr
    assert done.returncode == 0, done.stderr
    (source,) = written(tmp_path)["sources"].values()
    assert source["user"] == "limpet"
    assert source["password_file"] == str(tmp_path / "password")


def test_a_microphone_that_hears_gets_a_ready_made_model(tmp_path: Path, starters: Path) -> None:
    microphone = Microphone(tmp_path / "mic", ramp())
    done = init(tmp_path, "--microphone", NAME, site=starters, environment=microphone.environment)
    assert done.returncode == 0, done.stderr
    assert "dB of full scale" in done.stdout
    made = written(tmp_path)
    assert made["sources"] == {"microphone": {"kind": "audio", "device": NAME}}
    assert made["pipelines"] == {"okay-nabu": {"source": "microphone", "model": "okay-nabu"}}


@pytest.mark.parametrize(("fault", "reason"), [("muted", "it may be muted"), ("busy", "in use by another")])
def test_a_microphone_that_cannot_work_gets_no_file(
    tmp_path: Path, starters: Path, fault: str, reason: str
) -> None:
    microphone = Microphone(tmp_path / "mic", np.zeros((1600, 1), "<i2"))
    if fault == "busy":
        microphone.take()
    done = init(tmp_path, "--microphone", NAME, site=starters, environment=microphone.environment)
    assert done.returncode == 78
    assert reason in done.stderr
    assert "nothing was written" in done.stderr
    assert not (tmp_path / "limpet.toml").exists()
    assert not list((tmp_path / "state").rglob("*.limpet"))


def test_a_camera_that_is_not_there_gets_no_file_unless_it_is_not_tried(tmp_path: Path, starters: Path) -> None:
    options = ("--camera", "/dev/video-none", "--model", "face-detection")
    done = init(tmp_path, *options, site=starters)
    assert done.returncode == 78
    assert "/dev/video-none" in done.stderr
    assert not (tmp_path / "limpet.toml").exists()
    done = init(tmp_path, *options, "--listen", 0, site=starters)
    assert done.returncode == 0, done.stderr
    assert written(tmp_path)["sources"]["camera"]["device"] == "/dev/video-none"


def test_without_a_terminal_models_to_choose_from_are_named(tmp_path: Path, starters: Path) -> None:
    other = starters / "starters" / "other-1.limpet"
    with zipfile.ZipFile(data("face-detection-1.limpet")) as before, zipfile.ZipFile(other, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(
                name, content.replace(b'"face-detection"', b'"other"') if "manifest" in name else content
            )
    done = init(tmp_path, "--camera", "/dev/video-none", "--listen", 0, site=starters)
    assert done.returncode == 78
    assert "--model: choose one of face-detection: Where faces are" in done.stderr
    assert "other: Where faces are" in done.stderr
    assert not (tmp_path / "limpet.toml").exists()


def test_without_ready_made_models_the_extra_is_named(tmp_path: Path) -> None:
    done = init(tmp_path, "--camera", "/dev/video-none", "--listen", 0)
    assert done.returncode == 78
    assert "there is no model for pictures. Run: pip install 'limpet[starter]'" in done.stderr
    named = init(tmp_path, "--camera", "/dev/video-none", "--listen", 0, "--model", "face-detection")
    assert named.returncode == 78
    assert "no ready-made model of that name. Run: pip install 'limpet[starter]'" in named.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--camera", "/dev/video0", "--model", "okay-nabu"), "okay-nabu takes sound. Use --microphone"),
        (("--camera", "/dev/video0", "--microphone", "hw:0"), "--microphone: choose one sensor"),
        (
            ("--model", "face-dection"),
            "there is no file face-dection, and no ready-made model of that name (did",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, starters: Path, options: tuple[str, ...], says: str
) -> None:
    done = init(tmp_path, *options, "--listen", 0, site=starters)
    assert done.returncode == 78
    assert says in done.stderr
    assert not (tmp_path / "limpet.toml").exists()


def test_cameras_and_microphones_are_offered_by_names_that_stay(tmp_path: Path) -> None:
    node = tmp_path / "sys/class/video4linux/video0"
    node.mkdir(parents=True)
    (node / "name").write_text("HD Webcam\n")
    (node / "index").write_text("0\n")
    links = tmp_path / "dev/v4l/by-id"
    links.mkdir(parents=True)
    (links / "usb-HD_Webcam-video-index0").symlink_to("../../video0")
    sound = tmp_path / "proc/asound"
    sound.mkdir(parents=True)
    (sound / "cards").write_text(" 1 [Device         ]: USB-Audio - USB PnP Sound Device\n")
    (sound / "pcm").write_text("01-00: USB Audio : USB Audio : capture 1\n")
    camera, microphone = _live_sensors.found(Machine(tmp_path))
    name = "/dev/v4l/by-id/usb-HD_Webcam-video-index0"
    assert camera.table == {"kind": "camera", "device": name}
    assert camera.label == f"HD Webcam, {name}"
    assert camera.problem.startswith(f"{name}: /dev/video0 does not exist")
    assert microphone.table == {"kind": "audio", "device": "hw:CARD=Device,DEV=0"}
    assert microphone.label == "USB PnP Sound Device, hw:CARD=Device,DEV=0"
