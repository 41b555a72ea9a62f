"""Results on their way from a worker to the supervisor, many to a record."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from limpet.wire.channel import Channel
from limpet.wire.records import LARGEST_OUTPUT, Result, Results, ToWorker
from limpet.wire.stream import LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 64
"""Results in one record."""
BATCH_AGE = 0.02
"""Seconds from one record that is not full to the next: a result after a quiet time crosses the border at once."""

SupervisorChannel: TypeAlias = Channel[ToWorker]
"""The supervisor, as its worker sees it."""


class ResultSender:
    """Sends results in batches. ``left_out`` is called with a result that cannot be sent, and the reason."""

    def __init__(self, supervisor: SupervisorChannel, left_out: Callable[[Result[Any], str], None]) -> None:
        self._supervisor = supervisor
        self._left_out = left_out
        self._batch: list[Result[Any]] = []
        self._due = 0.0

    def add(self, result: Result[Any]) -> None:
        """Take a result. Send the batch if it is full."""
        self._batch.append(result)
        if len(self._batch) >= BATCH:
            self.flush()

    @property
    def pending(self) -> bool:
        """Whether there are results that were not sent yet."""
        return bool(self._batch)

    def flush_if_due(self) -> None:
        """Send the batch, unless the record before has only just gone."""
        if self._batch and monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Send the batch."""
        if self._batch:
            batch, self._batch = self._batch, []
            self._send(batch)
            self._due = monotonic() + BATCH_AGE

    def _send(self, batch: list[Result[Any]]) -> None:
        """Send results in as many records as they need. A result that no record can hold is left out."""
        try:
            data = self._supervisor.encode(Results(batch))
        except Exception as error:  # noqa: BLE001 - a decoder of another package made what is encoded
            if len(batch) > 1:
                self._send_halves(batch)
            else:
                self._left_out(batch[0], f"an output cannot be encoded: {error}")
            return
        if len(data) <= LARGEST_OUTPUT:
            self._supervisor.send_encoded(data)
        elif len(batch) > 1:
            self._send_halves(batch)
        elif (size := self._output_size(batch[0])) <= LARGEST_OUTPUT:
            self._supervisor.send_encoded(data)
        else:
            self._left_out(batch[0], f"an output has {size} bytes; the limit is {LARGEST_OUTPUT}")

    def _send_halves(self, batch: list[Result[Any]]) -> None:
        self._send(batch[: len(batch) // 2])
        self._send(batch[len(batch) // 2 :])

    def _output_size(self, result: Result[Any]) -> int:
        """Return how many bytes the output of a result has as the supervisor receives it."""
        return len(self._supervisor.encode(result.output)) - LENGTH.size
