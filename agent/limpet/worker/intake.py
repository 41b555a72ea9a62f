"""What comes into a worker: its source's samples, read by its own thread, and the gaps in them."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from limpet.inference.reader import Expected, Reader
from limpet.isolation import refusal
from limpet.worker.mailbox import Mailbox

if TYPE_CHECKING:
    from limpet.contracts.data import Samples
    from limpet.inference.plan import SourcePlan
    from limpet.isolation.permissions import Permissions

PATIENCE = 1.5
"""Seconds that a source may take to close. It shows that it is alive once a second, and can be closed then."""


class Intake:
    """The reader thread: source to mailbox, and a trace of whether it is alive."""

    def __init__(self, source: SourcePlan, allowed: Permissions) -> None:
        self.dropped: Counter[str] = Counter()
        self.mailbox = Mailbox(source.queue, source.queue_bytes, wait=not source.spec.live)
        self.reader = Reader(
            source.plugin.module,
            source.plugin.config,
            self.dropped,
            Expected(source.silence, source.spec, reported=True),
            lambda error: refusal.explain(error, allowed),
        )
        self.crash: BaseException | None = None
        self._turned = monotonic()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"read {source.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Have the source closed, so that its device is left as it was. One that hangs is left behind."""
        self._ending.set()
        self.mailbox.close()
        self._thread.join(PATIENCE)

    def _read(self) -> None:
        try:
            with closing(iter(self.reader)) as blocks:
                for samples in blocks:
                    self._turned = monotonic()
                    if len(samples):
                        self.mailbox.put(samples)
                    if self._ending.is_set():
                        break
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.crash = error
        finally:
            self.mailbox.close()

    @property
    def tried(self) -> bool:
        """Whether it is known if the source can be opened."""
        return self.reader.tried or self.mailbox.closed

    def hangs(self, deadline: float) -> bool:
        """Whether the source has neither given nor said anything for ``deadline`` seconds."""
        return not self.mailbox.closed and not self.mailbox and monotonic() - self._turned > deadline


class Gaps(msgspec.Struct):
    """Gaps in a source's samples that were not yet reported."""

    count: int = 0
    missing: int = 0
    next_notice: float = 0.0
    expected: int | None = msgspec.field(default=None)

    def see(self, samples: Samples) -> None:
        """Look at a block before it goes to the pipelines."""
        if self.expected is not None and samples.gap:
            self.count += 1
            self.missing += max(samples.index - self.expected, 0)
        self.expected = samples.index + len(samples)

    def sentence(self, source: str) -> str:
        """Return how many gaps there were, and how many samples are known to be missing, if any."""
        gaps = f"{self.count:,} gap{'' if self.count == 1 else 's'} in the samples of {source}"
        if not self.missing:
            return gaps
        return f"{gaps}: {self.missing:,} sample{' is' if self.missing == 1 else 's are'} missing"
