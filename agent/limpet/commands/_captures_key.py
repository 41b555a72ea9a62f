"""``limpet captures key``: makes the key that captures are encrypted for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.captures import sealing
from limpet.errors import LimpetError

if TYPE_CHECKING:
    import argparse

TEXT = "Make a key pair. The private key goes to a file, the public one is printed for `keep`."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("file", metavar="FILE", type=Path, help="File for the private key. It must not exist.")
    parser.set_defaults(act=_make)


def _make(arguments: argparse.Namespace) -> int:
    private, public = sealing.make_keys()
    try:
        with os.fdopen(os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private)
    except FileExistsError as error:
        raise LimpetError(f"{arguments.file} exists already; a key is never overwritten") from error
    print(f'encrypt_for = "{public}"')
    return 0
