"""``limpet devices``: the accelerators of this machine, and what it takes to use each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet.accelerators.inventory import Accelerator, discover
from limpet.device.machine import Machine
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse

HELP = "List the accelerators of this machine and how to use each"
GROUP = "look"
EXAMPLES = (
    ("limpet devices", "List the accelerators."),
    ("limpet devices --json", "Print them for a program."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        default=Path("/"),
        help="Read sys, proc, dev, etc and usr below this folder. Python's packages are still this machine's.",
    )


def main(arguments: argparse.Namespace) -> int:
    """Print the accelerators. If there are none, that is no error."""
    machine = Machine(arguments.root)
    found = discover(machine)
    if arguments.json:
        report = {"machine": machine.model(), "user": machine.user.name, "accelerators": found}
        print(msgspec.json.encode(report).decode())
        return 0
    print(printable(machine.model() or "unknown machine"))
    lines = [line for device in found for line in _describe(device)]
    print(printable("\n".join(lines)) or "no accelerator was found")
    return 0


def _describe(device: Accelerator) -> list[str]:
    use = f'usable: delegates = ["{device.delegate}", "cpu"]' if device.delegate else "usable"
    lines = ["", f"{device.name}, {device.where}" if device.where else device.name]
    lines += [f"  {use if device.usable else 'not usable'}"]
    for reason, todo in zip(device.why_not, device.todo, strict=True):
        lines += [f"  - {reason}", f"    {todo}"]
    return [*lines, *(f"  note: {note}" for note in device.notes)]
