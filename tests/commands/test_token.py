"""``limpet token`` prints a line for the file, and the token beside it."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from limpet import cli
from limpet.gateway.access import tokens

if TYPE_CHECKING:
    import pytest


def test_the_line_goes_to_the_file_and_the_token_to_the_person(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["token", "anna"]) == 0
    line, said = capsys.readouterr()
    secret = said.splitlines()[0].removeprefix("Token of anna: ")
    assert tokens.name_of(tokens.parse(line.encode(), "f"), secret) == "anna"
    assert secret not in line
    assert "FILE" not in said


def test_a_person_at_a_terminal_learns_where_the_line_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal, redirect_stdout(terminal):
        assert cli.main(["token", "anna"]) == 0
    os.close(master)
    said = capsys.readouterr().err
    assert "the file that `token_file` in [api] names" in said
    assert "Append the first line to that file, or run: limpet token anna >> FILE" in said


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["token", "../anna"]) == 2
    line, said = capsys.readouterr()
    assert line == ""
    assert '"../anna": use letters' in said
