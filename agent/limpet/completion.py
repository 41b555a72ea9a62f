"""Completion scripts for shells, made from the parsers of a program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limpet import command_parser

SHELLS = ("bash", "zsh", "fish")

_BASH = """
# $1: a word as it was typed, with quotes and backslashes
_limpet_files() { _limpet_names -f "$1"; }
_limpet_dirs() { _limpet_names -d "$1"; }
_limpet_names() {
  local word=$2
  case $word in
    \\'*) word=${word:1} ;;
    \\"*) word=${word:1}; word=${word//\\\\/} ;;
    *) word=${word//\\\\/} ;;
  esac
  compgen "$1" -- "$word"
}
"""
"""shtab's own functions split names at spaces. Its script looks for ``_file`` or ``_dir`` in names."""


def script(commands: Any, shell: str) -> str:
    """Return the script for a program. Files, folders and choices are completed where an argument is one."""
    import shtab

    parser = command_parser.whole(commands)
    for action in command_parser.actions(parser):
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        if "FOLDER" in metavar:
            vars(action)["complete"] = shtab.DIRECTORY | {"bash": "_limpet_dirs"}
        elif action.type is Path or "FILE" in metavar:
            vars(action)["complete"] = shtab.FILE | {"bash": "_limpet_files"}
    text: str = shtab.complete(parser, shell, preamble={"bash": _BASH})
    return text
