"""Gathers the chunks of a file, as the supervisor passes them on from MQTT."""

from __future__ import annotations

from contextlib import suppress
from select import select
from time import monotonic
from typing import TYPE_CHECKING

from limpet.contracts.chunks import LARGEST_LIST
from limpet.deployer import ranges
from limpet.deployer.chunking import Asking, Chunks, read_list
from limpet.deployer.failures import SourceFailedError
from limpet.errors import UnreadableError
from limpet.wire.deploy_records import Chunk, Lacking

if TYPE_CHECKING:
    from limpet.deployer.meter import Meter
    from limpet.deployer.part import Part
    from limpet.wire.channel import Channel

TURN = 1.0
"""Seconds between two looks at the clock."""


class Gathering:
    """Takes chunks until the file is complete. ``list_sha256`` is that of the list of chunks."""

    def __init__(self, supervisor: Channel[Chunk], list_sha256: str, part: Part, meter: Meter) -> None:
        self._supervisor = supervisor
        self._list_sha256 = list_sha256
        self._part = part
        self._meter = meter
        self._asking = Asking(monotonic())
        self._strange = 0
        self._chunks: Chunks | None = None

    def run(self) -> None:
        """Take what comes. ``SourceFailedError`` without a sender; ``EOFError`` if the supervisor is gone."""
        with suppress(UnreadableError):  # None was kept, or not the whole list.
            self._take_list(self._part.kept_list(LARGEST_LIST))
        while not (self._chunks and self._part.complete):
            self._turn()
        self._meter.lacking(Lacking(self._part.sha256))

    def _turn(self) -> None:
        now = monotonic()
        if self._asking.is_over(now):
            self._meter.lacking(Lacking(self._part.sha256))
            strange = f"; {self._strange} others came, which are not of this file" if self._strange else ""
            raise SourceFailedError(f"no chunks come over MQTT{strange}")
        if self._asking.due <= now:
            self._ask()
            self._asking.asked(now)
        wait = min(max(self._asking.due - now, 0.0), TURN, self._meter.left())
        if select([self._supervisor], [], [], wait)[0]:
            for record in self._supervisor.receive():
                self._take(record)
        self._meter.report(self._part.present)

    def _ask(self) -> None:
        if self._chunks is None:
            self._meter.lacking(Lacking(self._part.sha256, needs_list=True))
        elif wanted := self._chunks.missing(self._part.ranges):
            self._meter.lacking(Lacking(self._part.sha256, wanted))

    def _take(self, record: Chunk) -> None:
        self._meter.came(len(record.data))
        if record.sha256 != self._part.sha256:
            self._strange += 1
        elif record.index < 0:
            self._take_new_list(record.data)
        elif self._chunks:  # Without the list it cannot be checked. It is requested again.
            self._take_chunk(self._chunks, record)

    def _take_new_list(self, data: bytes) -> None:
        if self._chunks:
            return  # once more, after a new connection
        try:
            self._take_list(data)
        except UnreadableError:
            self._strange += 1
            return
        self._part.keep_list(data)
        self._asking.ask_now(monotonic())

    def _take_chunk(self, chunks: Chunks, record: Chunk) -> None:
        if record.index < chunks.count and ranges.covers(self._part.ranges, *chunks.place(record.index)):
            return  # Another device asked for it.
        if chunks.is_right(record.index, record.data):
            self._part.write(chunks.place(record.index)[0], record.data)
            self._asking.came(monotonic())
        else:
            self._strange += 1

    def _take_list(self, data: bytes) -> None:
        """Take the list, and check by it what is there already, from whatever source."""
        self._chunks = read_list(data, self._list_sha256, self._part.length)
        for index in range(self._chunks.count):
            begin, end = self._chunks.place(index)
            there = ranges.covers(self._part.ranges, begin, end)
            if there and not self._chunks.is_right(index, self._part.read(begin, end)):
                self._part.drop(begin, end)
        self._part.save()
