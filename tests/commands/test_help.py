"""The texts of ``--help`` and the page of all commands are those in the repository."""

from __future__ import annotations

import help as made

AGAIN = "a command changed; run: python tools/help.py"


def test_every_help_text_is_as_it_was_read() -> None:
    stored = {path.name: path.read_text() for path in made.HELP.glob("*.txt")}
    assert made.texts() == stored, AGAIN


def test_the_page_of_all_commands_is_current() -> None:
    assert made.page() == made.PAGE.read_text(), AGAIN
