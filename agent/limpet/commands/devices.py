"""``limpet devices``: accelerators, cameras and microphones of this machine, and how to use each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet.accelerators.inventory import Accelerator, discover
from limpet.commands import _cameras
from limpet.device.machine import Machine
from limpet.device.microphones import microphones
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse

    from limpet.device.microphones import Microphone

HELP = "List accelerators, cameras and microphones, and how to use each"
GROUP = "look"
EXAMPLES = (
    ("limpet devices", "List accelerators, cameras and microphones."),
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
    """Print what there is. If there is nothing, that is no error."""
    machine = Machine(arguments.root)
    found, seen, inputs = discover(machine), _cameras.seen(machine), microphones(machine)
    if arguments.json:
        report = {
            "machine": machine.model(),
            "user": machine.user.name,
            "accelerators": found,
            "cameras": seen,
            "microphones": [{**one._asdict(), "why_not": _why_not(machine, one)} for one in inputs],
        }
        print(msgspec.json.encode(report).decode())
        return 0
    print(printable(machine.model() or "unknown machine"))
    lines = [line for device in found for line in _describe(device)] or ["no accelerator was found"]
    lines += [line for camera in seen for line in _cameras.describe(camera)]
    lines += [line for one in inputs for line in _describe_input(machine, one)]
    missing = [what for what, there in (("camera", seen), ("microphone", inputs)) if not there]
    lines += ["", *(f"no {what} was found" for what in missing)] if missing else []
    print(printable("\n".join(lines)))
    return 0


def _describe_input(machine: Machine, one: Microphone) -> list[str]:
    use = f'kind = "audio", device = "{one.device}"'
    lines = ["", f"{one.name}, microphone", f"  {use}", *([f"  rates: {one.rates} Hz"] if one.rates else [])]
    if one.used_by:
        lines.append(f"  in use by process {one.used_by}; one program at a time can read it")
    return [*lines, *(f"  - {reason}" for reason in _why_not(machine, one))]


def _why_not(machine: Machine, one: Microphone) -> list[str]:
    """Return why the user cannot open a microphone, and what to do."""
    problem = machine.refusal(one.node)
    return [] if problem is None else [problem.reason, problem.todo]


def _describe(device: Accelerator) -> list[str]:
    use = f'usable: delegates = ["{device.delegate}", "cpu"]' if device.delegate else "usable"
    lines = ["", f"{device.name}, {device.where}" if device.where else device.name]
    lines += [f"  {use if device.usable else 'not usable'}"]
    for reason, todo in zip(device.why_not, device.todo, strict=True):
        lines += [f"  - {reason}", f"    {todo}"]
    return [*lines, *(f"  note: {note}" for note in device.notes)]
