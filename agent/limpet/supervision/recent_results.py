"""The last results of each pipeline, for clients of the local API that come later. Decides, without I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from limpet.wire.gateway_records import MOST_RECENT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from limpet.contracts.messages import ResultMessage

MOST_BYTES = 1 << 20
"""Bytes of outputs that are kept of one pipeline. The last result is kept in any case."""
_JSON = msgspec.json.Encoder()


class _Kept:
    """The results of one pipeline."""

    def __init__(self) -> None:
        self.results: deque[ResultMessage] = deque()
        self._bytes = 0

    def add(self, result: ResultMessage) -> None:
        self.results.append(result)
        self._bytes += _size(result)
        while len(self.results) > 1 and (len(self.results) > MOST_RECENT or self._bytes > MOST_BYTES):
            self._bytes -= _size(self.results.popleft())


class RecentResults:
    """Keeps nothing until it is ``wanted``."""

    def __init__(self) -> None:
        self.wanted = False
        self._kept: dict[str, _Kept] = {}

    def use(self, pipelines: Collection[str], *, wanted: bool) -> None:
        """Keep results of these pipelines, if they are wanted at all."""
        self.wanted = wanted
        self._kept = {name: kept for name, kept in self._kept.items() if wanted and name in pipelines}

    def take(self, results: Iterable[ResultMessage]) -> None:
        """Keep results."""
        for result in results:
            if result.pipeline not in self._kept:
                self._kept[result.pipeline] = _Kept()
            self._kept[result.pipeline].add(result)

    def last(self, pipeline: str, most: int) -> list[bytes]:
        """Return the last results of a pipeline as JSON, oldest first."""
        kept = self._kept.get(pipeline)
        return [_JSON.encode(result) for result in list(kept.results)[-most:]] if kept else []


def _size(result: ResultMessage) -> int:
    return len(result.output) if isinstance(result.output, msgspec.Raw) else 0
