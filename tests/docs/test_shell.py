"""The terminal windows in which the documentation is tested."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.shell import Shell, screen

if TYPE_CHECKING:
    from pathlib import Path


def test_commands_share_a_window_and_are_interrupted(tmp_path: Path) -> None:
    with Shell(tmp_path, {"PATH": os.environ["PATH"]}) as shell:
        assert shell.run("mkdir a; cd a; A=1").status == 0
        assert shell.run('echo "$A"; false') == ("1\n", 1)
        assert shell.folder == tmp_path / "a"
        shell.start("echo begun; sleep 100", "begun")
        assert shell.interrupt().status == 130
        answered = shell.run('read -p "name: " name; echo "$name"', answers={"name: $": "limpet"})
        assert answered.text.endswith("limpet\n")
        with pytest.raises(AssertionError, match="ended without 'never'"):
            shell.start("true", "never")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a\r\nb\r\n", "a\nb\n"),
        ("10 %\r20 %\r\n", "20 %\n"),
        ("\x1b[1mbold\x1b[0m", "bold"),
        ("a\r\nb\r\nc\r\n\x1b[2F\x1b[Jd\r\n", "a\nd\n"),
        ("a\r\nlong\r\x1b[2K\x1b[1A\x1b[2Kb\r\n", "b\n"),
    ],
)
def test_the_screen_shows_what_was_not_overwritten(written: str, shown: str) -> None:
    assert screen(written).rstrip("\n") == shown.rstrip("\n")
