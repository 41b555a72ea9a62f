"""Sound inputs that the kernel knows, from ``/proc/asound``. Nothing is opened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.device.machine import Machine

_CARD = re.compile(r"^\s*(?P<number>\d+) \[(?P<id>[^\]]*?)\s*\]: (?P<driver>.*?) - (?P<name>.*)$", re.MULTILINE)
_INPUT = re.compile(r"^(?P<card>\d+)-(?P<device>\d+): .*\bcapture \d+", re.MULTILINE)
_RATES = re.compile(r"^\s*Rates: (?P<rates>.*)$", re.MULTILINE)


class Microphone(NamedTuple):
    """A sound input. ``device``: its name for the source `audio`, by the card's id. ``node``: its device node.

    ``rates``: what the driver says, empty if it does not. ``used_by``: the process id that has it open, or 0.
    """

    device: str
    name: str
    node: str
    rates: str = ""
    used_by: int = 0


def microphones(machine: Machine) -> list[Microphone]:
    """Return the sound inputs of a machine, in the order of their cards."""
    return list(_found(machine))


def _found(machine: Machine) -> Iterator[Microphone]:
    asound = machine.root / "proc/asound"
    cards = {int(card["number"]): card for card in _CARD.finditer(machine.text(asound / "cards"))}
    for found in _INPUT.finditer(machine.text(asound / "pcm")):
        number, device = int(found["card"]), int(found["device"])
        if (card := cards.get(number)) is None:
            continue
        folder = asound / f"card{number}"
        owner = re.search(r"owner_pid\s*:\s*(\d+)", machine.text(folder / f"pcm{device}c/sub0/status"))
        capture = machine.text(folder / f"stream{device}").partition("Capture:")[2]
        rates = sorted({rates["rates"].strip() for rates in _RATES.finditer(capture)})
        yield Microphone(
            device=f"hw:CARD={card['id']},DEV={device}",
            name=card["name"],
            node=f"/dev/snd/pcmC{number}D{device}c",
            rates=", ".join(rates),
            used_by=int(owner[1]) if owner else 0,
        )
