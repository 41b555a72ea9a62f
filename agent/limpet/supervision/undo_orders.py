"""Orders of a person on this device to undo adaptations: files in the state directory."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.commands import Undo
from limpet.device import state_files
from limpet.learning.state import LARGEST_ORDER, UNDO, UndoRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.contracts.messages import Reply
    from limpet.contracts.reporter import Command

log = logging.getLogger(__name__)

_ORDER = re.compile(r"(?P<pipeline>[A-Za-z0-9][A-Za-z0-9._-]{0,63})\.json")
MOST = 64
"""Orders that are taken at once."""


class _Ordered:
    """The command ``undo`` as a reporter would bring it. The log and the journal have its answer."""

    name, answers = "undo", ""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def reply(self, reply: Reply) -> None:
        """Do nothing: who gave the order reads what became of it."""


def take(state: Path, obey: Callable[[Command, str], None], damaged: Callable[[str], object]) -> None:
    """Take all orders, and delete them. ``obey`` gets each as a command, with the person who gave it."""
    folder = state / UNDO
    if state_files.is_irregular_folder(folder):
        damaged(f"{folder} is {state_files.kind(folder)}; a folder is expected. Delete it")
        return
    for path in sorted(folder.glob("*.json"))[:MOST]:
        found = _ORDER.fullmatch(path.name)
        if found is None:
            continue
        try:
            order = state_files.read(path, UndoRequest, LARGEST_ORDER, damaged, "nothing is undone")
        except OSError as error:
            log.warning("%s: %s; nothing is undone", path, error.strerror)
            continue
        with suppress(OSError):
            state_files.remove(path)
        if order is not None:
            undo = Undo(pipeline=found["pipeline"], number=order.number)
            obey(_Ordered(msgspec.json.encode(undo)), order.by or "a person on this device")
