"""Completion scripts for shells, made from the parsers of a program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limpet import command_parser

SHELLS = ("bash", "zsh", "fish")


def script(commands: Any, shell: str) -> str:
    """Return the script for a program. Files, folders and choices are completed where an argument is one."""
    import shtab

    parser = command_parser.whole(commands)
    for action in command_parser.actions(parser):
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        if "FOLDER" in metavar:
            vars(action)["complete"] = shtab.DIRECTORY
        elif action.type is Path or "FILE" in metavar:
            vars(action)["complete"] = shtab.FILE
    text: str = shtab.complete(parser, shell)
    return text
