"""``limpet captures``: the windows that the daemon kept, and what to do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.commands import (
    _captures_decrypt,
    _captures_delete,
    _captures_export,
    _captures_give,
    _captures_key,
    _captures_list,
    _captures_pull,
    _captures_push,
    _captures_receive,
)
from limpet.errors import LimpetError

if TYPE_CHECKING:
    import argparse

HELP = "List, fetch, export and delete the windows that the daemon kept"
GROUP = "look"
EXAMPLES = (
    ("sudo limpet captures list", "Show the captures of the daemon."),
    ("limpet captures pull ssh://pi@kitchen.local captures", "Copy the captures of a device that are new."),
    ("sudo limpet captures pull /var/lib/limpet /media/usb/captures", "Copy them to a USB stick."),
    ("sudo limpet captures push https://captures.example.com/in", "Send those that were not sent yet."),
    ("limpet captures receive mqtt://broker.local captures", "Keep what devices send over MQTT."),
    ("limpet captures export recordings captures", "Write labelled captures as recordings for limpet-convert."),
    ("limpet captures delete captures motion/42", "Delete a capture."),
    ("limpet captures key captures.key", "Make a key to encrypt captures for."),
)
_ACTIONS = {
    "list": _captures_list,
    "pull": _captures_pull,
    "push": _captures_push,
    "receive": _captures_receive,
    "export": _captures_export,
    "decrypt": _captures_decrypt,
    "delete": _captures_delete,
    "key": _captures_key,
    "give": _captures_give,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="Actions")
    for name, module in _ACTIONS.items():
        module.add_arguments(actions.add_parser(name, help=module.TEXT, description=module.TEXT))


def main(arguments: argparse.Namespace) -> int:
    """Do what was chosen. ``LimpetError`` if a file cannot be read or written."""
    try:
        status: int = arguments.act(arguments)
    except OSError as error:
        where = error.filename or "the disk"
        raise LimpetError(f"{where}: {error.strerror}. Run this as root or as the user of the service") from error
    return status
