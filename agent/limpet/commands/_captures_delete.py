"""``limpet captures delete``: deletes captures by name, or all of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.captures import ring
from limpet.commands._captures_folder import FOLDER, add_config, each, inner, root_of
from limpet.errors import LimpetError

if TYPE_CHECKING:
    import argparse

TEXT = "Delete captures. The daemon may run meanwhile."
_MOST_NAMES = 100_000
_LONGEST = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="Captures, as PIPELINE/NUMBER. With `-`, their names come on standard input.",
    )
    parser.add_argument("--all", action="store_true", help="Delete all captures.")
    parser.add_argument("--folder", metavar="FOLDER", type=Path, help=f"{FOLDER} Default: that of the daemon.")
    add_config(parser)
    parser.set_defaults(act=_delete)


def _delete(arguments: argparse.Namespace) -> int:
    root = inner(arguments.folder) if arguments.folder else root_of(arguments)
    names = _names_on_input() if arguments.names == ["-"] else arguments.names
    if bool(names) == arguments.all and arguments.names != ["-"]:
        raise LimpetError("name captures, as `limpet captures list` shows them, or use --all")
    found = [ring.path_named(root, name) for name in names]
    if arguments.all:
        found = [one.path for one in each(root, None, [])]
    elif missing := [name for name, path in zip(names, found, strict=True) if not os.path.lexists(path)]:
        raise LimpetError(f"there is no capture {missing[0]} in {root}; nothing was deleted")
    for path in found:
        ring.delete(path)
    print(f"deleted {len(found)} captures")
    return 0


def _names_on_input() -> list[str]:
    """Return names of captures, one a line."""
    lines = sys.stdin.read(_MOST_NAMES * _LONGEST).split("\n")
    return [line.strip() for line in lines if line.strip()]
