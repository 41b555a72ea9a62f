"""``limpet model``: which models there are, which one runs and which one should; installs, goes back, sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.commands import _model_history, _model_install, _model_list, _model_rollback, _model_use, _send

if TYPE_CHECKING:
    import argparse

HELP = "List, install, choose and send models"
GROUP = "models"
EXAMPLES = (
    ("limpet model list", "Show every bundle in the store and of updates, and what runs."),
    ("limpet model list --starter", "Show the ready-made bundles that are installed."),
    (
        "sudo limpet model install /media/usb/motion-8.limpet",
        "Install a bundle, and show its stages until it is good.",
    ),
    ("sudo limpet model rollback", "Go back to the model that was good before."),
    ("sudo limpet model history", "Show what ran, was installed, failed and was rolled back."),
    ("limpet model use motion-2", "Run version 2 of motion, also after a restart and when version 3 arrives."),
    (
        "limpet model use motion-2 --pipeline press",
        "Run version 2 in that pipeline, also where an update brought another.",
    ),
    ("limpet model use motion@newest", "Run the highest version again."),
    ("limpet model use motion@previous", "Go back to the version that ran before."),
    ("limpet model send motion-8.limpet mqtt://broker.local", "Send a bundle to the devices that request it."),
)
_ACTIONS = {
    "list": _model_list,
    "install": _model_install,
    "use": _model_use,
    "rollback": _model_rollback,
    "history": _model_history,
    "send": _send,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="Actions")
    for name, module in _ACTIONS.items():
        module.add_arguments(actions.add_parser(name, help=module.TEXT, description=module.TEXT))


def main(arguments: argparse.Namespace) -> int:
    """Do what was chosen."""
    status: int = arguments.act(arguments)
    return status
