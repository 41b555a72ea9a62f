"""Which model each pipeline ran last, and which one before it. Kept in the state directory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.config import Identifier
from limpet.device import state_files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

log = logging.getLogger(__name__)

NAME = "models.json"
_LARGEST = 4 << 20
MOST = 10_000
"""Pipelines that are remembered."""


class Ran(msgspec.Struct, frozen=True):
    """A model that ran."""

    model: Annotated[str, Meta(max_length=64)]
    version: Annotated[int, Meta(ge=0, le=1 << 53)]


class Runs(msgspec.Struct, frozen=True):
    """What a pipeline runs, or ran last, and what ran before that."""

    running: Ran
    previous: Ran | None = None


class _History(msgspec.Struct):
    pipelines: Annotated[dict[Identifier, Runs], Meta(max_length=MOST)]
    format: Annotated[int, Meta(ge=1, le=1)] = 1


def read(state: Path, damaged: Callable[[str], object] | None = None) -> dict[str, Runs]:
    """Return what pipelines ran. An unreadable file counts as none; with ``damaged``, it is set aside."""
    then = "it is not known which models ran before"
    try:
        found = state_files.read(state / NAME, _History, _LARGEST, damaged, then)
    except OSError:
        return {}
    return found.pipelines if found else {}


class History:
    """What pipelines run, written when that changes. Where it cannot be written, it is kept in memory."""

    def __init__(self, state: Path, damaged: Callable[[str], object]) -> None:
        self._path = state / NAME
        self._runs = read(state, damaged)

    def ran(self, pipeline: str, model: str, version: int) -> None:
        """Take note that a pipeline runs a model."""
        now, before = Ran(model, version), self._runs.get(pipeline)
        if before is not None and before.running == now:
            return
        self._runs[pipeline] = Runs(now, before.running if before else None)
        self._write()

    def forget_all_but(self, pipelines: Collection[str]) -> None:
        """Forget pipelines that are not configured any more."""
        kept = {name: runs for name, runs in self._runs.items() if name in pipelines}
        if len(kept) != len(self._runs):
            self._runs = kept
            self._write()

    def _write(self) -> None:
        try:
            state_files.replace(self._path, msgspec.json.encode(_History(self._runs)))
        except OSError as error:
            log.warning("%s: %s; the models of this run are not remembered", self._path, error.strerror)
