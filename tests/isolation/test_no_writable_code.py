"""Sound and pictures where memory may not be written and executed, as under ``MemoryDenyWriteExecute=``."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import soundfile

from support import pictures, videos

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import ctypes, sys
from collections import Counter
import cffi
from limpet.sources import audio, images, replay
PR_SET_MDWE, REFUSE = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE, 0, 0, 0):
    sys.exit(77)  # before Linux 6.3
try:
    cffi.FFI().callback("int(int)", lambda n: n)
except MemoryError:
    print("refused")

def first(module, **options):
    config = module.Config(**options)
    module.describe(config)
    with module.open(config, Counter()) as samples:
        return next(block for block in samples if len(block.values))
"""


def run(code: str, folder: Path) -> list[str]:
    """Run code in a process that can make no memory executable; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, folder], capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("needs Linux 6.3")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["tone.wav", "tone.flac", "tone.ogg"])
def test_sound_is_read_and_resampled(name: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / name, [[0.0], [0.5]] * 24_000, 48_000)
    code = """
from pathlib import Path
block = first(replay, path=Path(sys.argv[1]) / "NAME", resample=16_000)
print(block.values.shape[1:], block.values.dtype)
"""
    assert run(code.replace("NAME", name), tmp_path) == ["refused", "(1,) float32"]


def test_videos_and_pictures_are_read(tmp_path: Path) -> None:
    videos.write(tmp_path / "walk.mp4", 5)
    pictures.fill(tmp_path, 1)
    code = """
from pathlib import Path
for module, name in ((replay, "walk.mp4"), (images, "0000.png")):
    frame = first(module, path=Path(sys.argv[1]) / name).values.item()
    print(frame.form.height, frame.form.width)
"""
    assert run(code, tmp_path) == ["refused", "96 128", "8 12"]


def test_a_microphone_is_looked_for(tmp_path: Path) -> None:
    code = """
from limpet.errors import SourceError
try:
    first(audio, device="hw:CARD=Nowhere,DEV=0")
except SourceError as error:
    print(error)
"""
    (refused, reason) = run(code, tmp_path)
    assert refused == "refused"
    assert "hw:CARD=Nowhere,DEV=0: is not there" in reason
