"""The model of one pipeline, wherever it runs best: on the CPU here, or on an accelerator in an executor.

No window is lost when an accelerator is: the CPU runs it again. A better one is opened and proven in an executor
of its own while the old goes on, and takes over between two windows.
"""

from __future__ import annotations

import logging
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

from limpet.accelerators.failover import Failover
from limpet.contracts.delegate import CPU
from limpet.errors import ModelError
from limpet.wire.records import Dismiss, Need

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from limpet.config import PipelineConfig
    from limpet.contracts.data import Array
    from limpet.contracts.messages import Placed
    from limpet.contracts.runtime import Model
    from limpet.inference.plan import PipelinePlan
    from limpet.worker.executor_link import ExecutorLink

log = logging.getLogger(__name__)

FIRST_WAIT = 0.5
"""Seconds that samples wait at a pipeline's start for its first delegate, before the CPU takes them."""


class Delegation:
    """A ``Model``. ``turn`` looks after executors and is to be called often."""

    def __init__(
        self, plan: PipelinePlan, cpu: Model, config: PipelineConfig, say: Callable[[Need | Dismiss], None]
    ) -> None:
        self.inputs, self.outputs = cpu.inputs, cpu.outputs
        self._reason = ""
        self._plan = plan
        self._cpu = cpu
        self._config = config
        self._say = say
        self._failover = Failover([choice.name for choice in plan.delegates], monotonic())
        self._fallback = CPU in plan.delegates
        self._link: ExecutorLink | None = None
        self._candidate: ExecutorLink | None = None
        self._changed = False
        self._patience = monotonic() + FIRST_WAIT
        self._next_check = 0.0

    @property
    def delegate(self) -> str:
        """The delegate in use."""
        return self._link.delegate if self._link else CPU.name

    @property
    def delegate_share(self) -> float:
        """Share of the ops that are on it."""
        return self._link.opened.placed.op_share if self._link else 1.0

    @property
    def placed(self) -> Placed | None:
        """Proof of what runs on an accelerator, ``None`` on the CPU."""
        return self._link.opened.placed if self._link else None

    @property
    def reason(self) -> str:
        """Why it is not on the first delegate."""
        if self._reason or self._candidate is None or self._link is not None:
            return self._reason
        return f"delegate {self._candidate.delegate!r} is still being opened"

    @property
    def ready(self) -> bool:
        """Whether windows can be run."""
        return self._fallback or self._link is not None

    @property
    def settled(self) -> bool:
        """Whether it is decided what to start on, or has taken too long."""
        decided = self._link is not None or self._failover.current in {None, CPU.name}
        return decided or monotonic() > self._patience

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run on the accelerator; on the CPU if there is none, or it breaks on this very window."""
        if self._link is not None:
            try:
                return self._link.run(inputs)
            except ModelError as error:
                self._lose(str(error))
        if not self._fallback:
            raise ModelError(f"no delegate is left: {self.reason}")
        return self._cpu.run(inputs)

    def reset(self) -> None:
        """Forget earlier inputs. The CPU's model forgets when it takes over."""
        if self._link is None:
            self._cpu.reset()
            return
        try:
            self._link.reset()
        except ModelError as error:
            self._lose(str(error))

    def turn(self) -> bool:
        """Look after executors; return whether there is something new to tell."""
        now = monotonic()
        if self._candidate is not None:
            self._look_at(self._candidate, now)
        else:
            self._seek(now)
        if self._link is not None:
            self._check(self._link, now)
        changed, self._changed = self._changed, False
        return changed

    def lend(self, number: int, end: socket.socket) -> bool:
        """Take the socket of an executor, if it is the one that was asked for."""
        if self._candidate is None or self._candidate.number != number:
            return False
        self._candidate.connect(end)
        return True

    def close(self) -> None:
        """Let go of all executors."""
        for link in (self._link, self._candidate):
            self._dismiss(link)
        self._link = self._candidate = None

    def _seek(self, now: float) -> None:
        """Have an executor started for the delegate to be on, or for a better one whose time has come."""
        current = self._failover.current
        waits = self._link is None and current not in {None, CPU.name}
        wanted = current if waits else self._failover.due(now)
        if wanted is None:
            return
        from limpet.worker.executor_link import ExecutorLink, Expected

        number = next(_numbers)
        expected = Expected(self.inputs, self.outputs, self._config.deadline / 2)
        self._candidate = ExecutorLink(number, wanted, expected, now + self._config.opening)
        self._say(Need(number, self._plan.name, wanted))

    def _look_at(self, candidate: ExecutorLink, now: float) -> None:
        try:
            if candidate.poll():
                self._adopt(candidate, now)
        except ModelError as error:
            self._refuse(candidate, str(error), now)

    def _adopt(self, candidate: ExecutorLink, now: float) -> None:
        self._dismiss(self._link)
        self._link, self._candidate = candidate, None
        self._failover.passed(candidate.delegate, now)
        self._next_check = now + self._plan.recheck
        self._changed = True
        if not self._failover.degraded:
            self._reason = ""

    def _refuse(self, candidate: ExecutorLink, reason: str, now: float) -> None:
        self._candidate = None
        self._dismiss(candidate)
        log.info("%s: delegate %r: %s", self._plan.name, candidate.delegate, reason)
        if self._link is None and candidate.delegate == self._failover.current:
            self._failover.failed(now)
            self._reason = _named(candidate, reason)
            self._changed = True
        else:
            self._failover.refused(candidate.delegate, now)

    def _lose(self, reason: str) -> None:
        """Go on without the accelerator in use."""
        link, self._link = self._link, None
        assert link is not None
        self._dismiss(link)
        self._failover.failed(monotonic())
        self._reason = _named(link, reason)
        self._changed = True
        if self._plan.state.inside:
            self._cpu.reset()

    def _check(self, link: ExecutorLink, now: float) -> None:
        """See from time to time whether the numbers are still right, unless the model would lose its state."""
        keeps = self._plan.state.inside and self._plan.state.lasting
        try:
            if link.recheck_over() and now >= self._next_check and not keeps:
                self._next_check = now + self._plan.recheck
                link.recheck()
        except ModelError as error:
            self._lose(str(error))

    def _dismiss(self, link: ExecutorLink | None) -> None:
        if link is not None:
            link.close()
            self._say(Dismiss(link.number))


def _named(link: ExecutorLink, reason: str) -> str:
    return reason if repr(link.delegate) in reason else f"delegate {link.delegate!r}: {reason}"


_numbers = count(1)
