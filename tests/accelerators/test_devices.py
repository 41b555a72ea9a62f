"""``limpet devices`` as a person and as a program sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from support.boards import Board

if TYPE_CHECKING:
    from pathlib import Path


def limpet(*arguments: object) -> str:
    command = [sys.executable, "-m", "limpet", "devices", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_for_people(tmp_path: Path) -> None:
    Board("raspberry-pi-5-ai-hat", tmp_path)
    lines = limpet("--root", tmp_path).splitlines()
    assert lines[0] == "Raspberry Pi 5 Model B Rev 1.0"
    at = lines.index("Hailo-8, pci 0000:01:00.0")
    assert lines[at + 1] == "  not usable"
    assert lines[at + 2].startswith("  - it runs HEF files")
    assert lines[at + 3].startswith("    use the CPU")


def test_for_programs(tmp_path: Path) -> None:
    Board("imx8mp-evk", tmp_path)
    report = json.loads(limpet("--json", "--root", tmp_path))
    assert report["machine"] == "NXP i.MX8MPlus EVK board"
    (npu,) = report["accelerators"]
    assert (npu["delegate"], npu["node"], npu["usable"]) == ("vx", "/dev/galcore", not npu["why_not"])


def test_having_none_is_no_error(tmp_path: Path) -> None:
    assert limpet("--root", tmp_path).splitlines() == [
        "unknown machine",
        "no accelerator was found",
        "",
        "no camera was found",
        "no microphone was found",
    ]
    assert json.loads(limpet("--json", "--root", tmp_path))["accelerators"] == []


def test_this_machine() -> None:
    assert "accelerators" in json.loads(limpet("--json"))
