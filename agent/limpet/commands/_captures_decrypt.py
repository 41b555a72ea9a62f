"""``limpet captures decrypt``: encrypted captures in clear, in another folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.captures import copying
from limpet.commands._captures_folder import add_pipeline, each, inner, key_of
from limpet.errors import UnreadableError
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse

TEXT = "Write encrypted captures in clear into another folder."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="Folder of captures that were fetched.")
    parser.add_argument("target", metavar="FOLDER", type=Path, help="Folder for the captures in clear.")
    parser.add_argument("--key", type=Path, metavar="FILE", required=True, help="Private key.")
    add_pipeline(parser)
    parser.set_defaults(act=_decrypt)


def _decrypt(arguments: argparse.Namespace) -> int:
    key = key_of(arguments.key)
    problems: list[str] = []
    done = 0
    for one in each(inner(arguments.folder), arguments.pipeline, problems):
        try:
            data = copying.decrypted(one.path, key)
            done += copying.take(arguments.target, data, one.truth, str(one.path)) is not None
        except UnreadableError as error:
            problems.append(str(error))
    print(f"wrote {done} captures to {arguments.target}")
    for problem in problems:
        print(printable(problem), file=sys.stderr)
    return 1 if problems else 0
