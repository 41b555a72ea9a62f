"""``limpet-convert keygen``: a key to sign bundles with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet_convert import sign
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

HELP = "Make an Ed25519 key to sign bundles with"
GROUP = "sign"
EXAMPLES = (("limpet-convert keygen release.key", "Write release.key (secret) and release.key.pub."),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "key",
        type=Path,
        metavar="KEY",
        help="File for the private key. The public key is written beside it, as KEY.pub.",
    )
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the key's id, as roots of trust have it."""
    key, private, public = sign.keygen(arguments.key), arguments.key, sign.public_path(arguments.key)
    line = f"{key}: {private} is secret, {public} is not"
    _shared.emit(arguments, {"key": key, "private": private, "public": public}, [line])
    return 0
