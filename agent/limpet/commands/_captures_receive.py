"""``limpet captures receive``: keeps captures that devices send over MQTT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.commands import _broker_options
from limpet.distribution.capture_mqtt import receive
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse

TEXT = "Keep captures that devices send with `limpet captures push` over MQTT."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("url", metavar="URL", help="mqtt://HOST[:PORT], or mqtts:// with TLS.")
    parser.add_argument(
        "target", metavar="FOLDER", type=Path, help="Folder for the captures, by device and pipeline."
    )
    parser.add_argument(
        "--idle",
        metavar="SECONDS",
        type=float,
        default=float("inf"),
        help="Seconds without a part after which the command ends. Default: it ends with Ctrl-C.",
    )
    _broker_options.add_options(parser)
    parser.set_defaults(act=_receive)


def _receive(arguments: argparse.Namespace) -> int:
    broker = _broker_options.settings("limpet captures receive", arguments, arguments.url)
    new = receive(broker, arguments.target, arguments.idle, lambda text: print(printable(text), file=sys.stderr))
    print(f"{new} new captures in {arguments.target}")
    return 0
