"""``limpet label`` as a process: by options, and on a terminal of 80 by 24."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from limpet.recordings import folder, layouts, writing
from limpet.recordings.folder import Span
from recordings.test_folder import STARTED, recording
from support.broker import wait_until
from support.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

LIMPET = (sys.executable, "-m", "limpet")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder with two recordings of 10 s."""
    for number in range(2):
        file = writing.RecordingFile(tmp_path, ["ax", "ay"], STARTED.timestamp() + number)
        values = [(f"{math.sin(n / 5):.4f}", str(n % 7)) for n in range(100)]
        file.write(layouts.lines([n / 10 for n in range(100)], values))
        file.finish(recording(file.name))
    return tmp_path


FIRST, SECOND = "2026-11-28T13-40-00.csv", "2026-11-28T13-40-01.csv"


def run(path: Path, *arguments: str, code: int = 0) -> str:
    command = [*LIMPET, "label", str(path), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=60
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def spans(path: Path, file: str = FIRST) -> list[Span]:
    found = folder.read(path).find(file)
    assert found is not None
    return found.spans


def test_options_set_and_clear_labels(recordings: Path) -> None:
    out = run(recordings, FIRST, "--span", "sit", "0", "4", "--span", "walk", "3", "end")
    assert "sit 3.0 s, walk 7.0 s" in out
    assert spans(recordings) == [Span("sit", 0, 3), Span("walk", 3, 10)]
    run(recordings, FIRST, "--clear-span", "2", "5")
    assert spans(recordings) == [Span("sit", 0, 2), Span("walk", 5, 10)]
    run(recordings, FIRST, "--clear", "--span", "run", "1", "2")
    assert spans(recordings) == [Span("run", 1, 2)]
    assert not spans(recordings, SECOND)
    listed = run(recordings, "--list")
    assert f"{FIRST}  10.0 s, 100 samples: run 1.0 s" in listed
    assert f"{SECOND}  10.0 s, 100 samples: no label" in listed


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--span", "walk", "0", "1"], "RECORDING: missing"),
        (["nothing.csv", "--clear"], "there is no recording 'nothing.csv'"),
        ([FIRST, "--span", "a/b", "0", "1"], "'a/b' is no label"),
        ([FIRST, "--span", "walk", "0", "11"], "expected 0 <= BEGIN < END <= 10"),
        ([FIRST, "--span", "walk", "nan", "1"], "expected 0 <= BEGIN < END <= 10"),
        ([FIRST, "--span", "sit", "0", "1", "--span", "walk", "x", "1"], "are no seconds"),
        ([], "Not a terminal"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    recordings: Path, arguments: list[str], problem: str
) -> None:
    before = (recordings / "recordings.json").read_bytes()
    assert problem in run(recordings, *arguments, code=78)
    assert (recordings / "recordings.json").read_bytes() == before


def test_a_damaged_description_is_an_error_that_names_it(recordings: Path) -> None:
    (recordings / "recordings.json").write_text('{"format":1,"recordings":[{}]}')
    assert "recordings.json could not be read" in run(recordings, "--list", code=1)


def test_a_folder_that_cannot_be_used_is_named_with_the_reason(recordings: Path) -> None:
    file = recordings / FIRST
    assert run(file, "--list", code=1) == f"limpet: {file}/recordings.json: Not a directory\n"
    lock = recordings / folder.LOCK
    lock.unlink()
    lock.symlink_to(file)
    assert run(recordings, FIRST, "--clear", code=1) == f"limpet: {lock}: Too many levels of symbolic links\n"


def test_keys_label_and_save_and_the_terminal_gets_its_mode_back(recordings: Path) -> None:
    with Terminal([*LIMPET, "label", recordings, "--labels", "sit,walk"], cwd=recordings) as terminal:
        terminal.wait_for("q leave")
        terminal.press("b\x1b[F2")
        terminal.wait_for("walk from 0.000 s to 10.000 s.")
        terminal.press("s")
        terminal.wait_for("Saved.")
        terminal.press("n")
        terminal.wait_for("2 of 2")
        terminal.press("b\x1b[Flrun\r")
        terminal.wait_for("run from 0.000 s to 10.000 s.")
        terminal.press("q")
        terminal.wait_for("q again leaves without saving")
        terminal.press("q")
        assert terminal.wait() == 0
        assert terminal.settings == terminal.before
        wait_until(lambda: terminal.raw.rstrip().endswith("\x1b[?1049l"))
    assert spans(recordings) == [Span("walk", 0, 10)]
    assert not spans(recordings, SECOND)


def test_labels_that_another_program_changes_meanwhile_are_not_lost(recordings: Path) -> None:
    with Terminal([*LIMPET, "label", recordings, FIRST, "--labels", "sit"], cwd=recordings) as terminal:
        terminal.wait_for("q leave")
        terminal.press("b\x1b[F1")
        terminal.wait_for("sit from 0.000 s")
        run(recordings, FIRST, "--span", "walk", "2", "3")
        run(recordings, SECOND, "--span", "walk", "4", "5")
        terminal.press("s")
        terminal.wait_for("s replaces them, r takes them")
        assert spans(recordings) == [Span("walk", 2, 3)]
        terminal.press("s")
        terminal.wait_for("Saved.")
        terminal.press("q")
        assert terminal.wait() == 0
    assert spans(recordings) == [Span("sit", 0, 10)]
    assert spans(recordings, SECOND) == [Span("walk", 4, 5)]


def test_a_terminal_gets_its_mode_back_when_the_editor_is_ended_by_a_signal_or_fails(recordings: Path) -> None:
    with Terminal([*LIMPET, "label", recordings], cwd=recordings) as terminal:
        terminal.wait_for("q leave")
        terminal.process.terminate()
        assert terminal.wait() == 143
        assert terminal.settings == terminal.before
    (recordings / SECOND).write_text("time,ax,ay\n0,x,y\n")
    with Terminal([*LIMPET, "label", recordings], cwd=recordings) as terminal:
        terminal.wait_for("q leave")
        terminal.press("n")
        assert terminal.wait() == 78
        assert terminal.settings == terminal.before
        terminal.wait_text(SECOND)
