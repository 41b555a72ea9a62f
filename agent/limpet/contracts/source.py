"""What a source must do.

Who owns a block's memory: the source hands it over. As long as anything refers to the arrays of a block, neither
the source nor its driver writes to them again. So a window can be a view of a block, and several pipelines see the
same memory. A source that makes new arrays for each block has nothing to do for that.

A camera need not copy its frames. It hands out the memory that the driver wrote to, each frame in its own block.
When nothing refers to a buffer any more, it gives the buffer back to the driver: ``weakref.finalize`` on the array
calls it then. Views of the array keep it. With ``queue`` blocks in the mailbox, up to ``queue + 3`` are out at a
time: the reader thread and the models hold some. If no buffer is left, the source drops the frame and counts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from limpet.contracts.data import Samples, SampleSpec
    from limpet.contracts.needs import Needs


SOURCE_FAULTS = frozenset(
    {
        "busy",
        "codec",
        "control",
        "driver",
        "ended",
        "login",
        "missing",
        "no_access",
        "not_found",
        "resized",
        "timeout",
        "tls",
        "unplugged",
        "unreachable",
        "wrong_format",
    }
)
"""Causes in ``dropped`` that count how often something was wrong with the device. All others count samples."""


class Source(Protocol):
    """Where samples come from. ``describe`` must work while the device is away."""

    Config: Any

    def needs(self, config: Any) -> Needs:
        """Say what it opens: its sandbox leaves that open, and the paths in its ``Config``, and nothing else.

        Default: nothing. Called before anything is opened; the device may be away.
        """

    def describe(self, config: Any) -> SampleSpec:
        """Say what its samples are. ``ConfigError`` where the configuration cannot be right."""

    def open(self, config: Any, dropped: Counter[str]) -> AbstractContextManager[Iterator[Samples]]:
        """Open it. The iterator yields at least once a second, no samples if there are none.

        A block without samples may say in its ``note`` why there are none; the pipelines then wait. A block with
        samples may say what is wrong with them, as long as it is. ``dropped`` counts samples that it must drop, by
        cause, and faults of its device, see ``SOURCE_FAULTS``. ``SourceError`` from here or the iterator means
        that the device is away and is to be opened again later. The iterator's end means the source's end.
        """
