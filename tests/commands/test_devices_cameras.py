"""Cameras in the output of ``limpet devices``. For accelerators see tests/accelerators."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from limpet import cli

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def lay(root: Path, name: str = "HD Webcam") -> None:
    """Make a machine with one camera, which has a second node for metadata."""
    for node, index in ("video0", "0"), ("video1", "1"):
        folder = root / "sys/class/video4linux" / node
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "index").write_text(f"{index}\n")
        (root / "dev").mkdir(exist_ok=True)
        (root / "dev" / node).write_bytes(b"")
    links = root / "dev/v4l/by-id"
    links.mkdir(parents=True)
    (links / "usb-HD_Webcam-video-index0").symlink_to("../../video0")


def test_a_camera_is_listed_by_the_name_that_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay(tmp_path)
    assert cli.main(["devices", "--root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "HD Webcam, /dev/video0" in text
    assert 'usable: kind = "camera", device = "/dev/v4l/by-id/usb-HD_Webcam-video-index0"' in text
    assert "video1" not in text
    assert cli.main(["devices", "--root", str(tmp_path), "--json"]) == 0
    (camera,) = json.loads(capsys.readouterr().out)["cameras"]
    assert camera["device"] == "/dev/v4l/by-id/usb-HD_Webcam-video-index0"
    assert not camera["why_not"]


def test_a_camera_that_chose_a_name_for_a_terminal_is_shown_and_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(tmp_path, "Cam\x1b[2J")
    assert cli.main(["devices", "--root", str(tmp_path)]) == 0
    assert "\x1b" not in capsys.readouterr().out
