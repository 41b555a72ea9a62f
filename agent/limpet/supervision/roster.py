"""The pipelines whose state a broker may retain, also after they are gone from the configuration.

A broker keeps the last state of a pipeline without end. If the pipeline is removed while the daemon does not run,
the next run knows only from this record. It then sets that state to ``stopped``.
"""

from __future__ import annotations

import logging
import zlib
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.config import Identifier
from limpet.device import state_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

NAME = "pipelines.json"
_LARGEST = 1 << 20
_REPORTS = 3
"""Health reports in a row over all connections, after which brokers have the state of a pipeline that is gone."""
_MOST_GONE = 100
"""Pipelines that are gone and are still remembered, if the broker is never there."""


class _Roster(msgspec.Struct):
    """``names`` become topics, so they are checked like those of a configuration. ``crc`` is of the names.

    ``pictured``: those of which a broker may retain a picture.
    """

    names: Annotated[list[Identifier], Meta(max_length=10_000)]
    crc: int
    pictured: Annotated[list[Identifier], Meta(max_length=10_000)] = []

    def __post_init__(self) -> None:
        if self.crc != _crc([*self.names, *self.pictured]):
            raise ValueError("its checksum is wrong")


def _crc(names: Iterable[str]) -> int:
    return zlib.crc32("\n".join(names).encode())


class Roster:
    """Names of pipelines, kept in the state directory. Where that cannot be written, they are kept in memory."""

    def __init__(self, state: Path, damaged: Callable[[str], object]) -> None:
        self._path = state / NAME
        self._written = _Roster([], _crc([]))
        self.gone: set[str] = set()
        self.unpictured: set[str] = set()
        """Pipelines whose last picture brokers are to forget."""
        self._reports = 0
        self._known, self._pictured = self._read(damaged)

    def adopt(self, configured: Iterable[str], pictured: Iterable[str] = ()) -> set[str]:
        """Take the pipelines of a configuration. Return those that are gone since the last time.

        ``pictured`` are those that take pictures. Those that did and do not any more are in ``unpictured``.
        """
        now, taking = set(configured), set(pictured)
        self.unpictured = set(sorted((self.unpictured | self._pictured) - taking)[:_MOST_GONE])
        self._pictured = taking
        news = self._known - now - self.gone
        self.gone = set(sorted((self.gone | self._known) - now)[:_MOST_GONE])
        self._known = now
        self._reports = 0
        self._write()
        return news & self.gone

    def health_published(self, *, connected: bool) -> None:
        """Take note of a health report. After enough of them over a connection, forget what is gone."""
        self._reports = self._reports + 1 if connected else 0
        if self._reports >= _REPORTS and (self.gone or self.unpictured):
            self.gone.clear()
            self.unpictured.clear()
            self._write()

    def _read(self, damaged: Callable[[str], object]) -> tuple[set[str], set[str]]:
        then = "states of pipelines that are gone stay as they are"
        try:
            if found := state_files.read(self._path, _Roster, _LARGEST, damaged, then):
                self._written = found
        except OSError as error:
            log.warning("%s: %s; pipelines that are gone are not known", self._path, error.strerror)
        return set(self._written.names), set(self._written.pictured)

    def _write(self) -> None:
        names, pictured = sorted(self._known | self.gone), sorted(self._pictured | self.unpictured)
        roster = _Roster(names, _crc([*names, *pictured]), pictured)
        if roster == self._written:
            return
        try:
            state_files.replace(self._path, msgspec.json.encode(roster))
        except OSError as error:
            log.warning("%s: %s; the pipelines of this run are not remembered", self._path, error.strerror)
        self._written = roster
