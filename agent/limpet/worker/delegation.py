"""The model of one pipeline on its best delegate: on the CPU here, or on an accelerator in an executor.

If an accelerator fails, the CPU runs the window at hand again, so no window is lost. A better delegate is opened
and proven in its own executor while the old one goes on. It takes over between two windows.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, cast

from limpet.accelerators.failover import Failover
from limpet.contracts.delegate import CPU
from limpet.errors import ModelError
from limpet.wire.records import Dismiss, Need
from limpet.worker.executor_numbers import executor_numbers

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from limpet.contracts.assignment import PipelineOptions
    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.messages import Placed
    from limpet.contracts.runtime import Model, Storing
    from limpet.inference.plan import PipelinePlan
    from limpet.worker.executor_link import ExecutorLink

log = logging.getLogger(__name__)

FIRST_WAIT = 0.5
"""Seconds that samples wait at a pipeline's start for its first delegate, before the CPU takes them."""


class DelegatedModel:
    """A ``Model`` on the best delegate that works. Call ``poll`` often: it looks after executors."""

    def __init__(
        self,
        plan: PipelinePlan,
        cpu: Model,
        options: PipelineOptions,
        revision: int,
        send: Callable[[Need | Dismiss], None],
    ) -> None:
        self.inputs, self.outputs = cpu.inputs, cpu.outputs
        self._reason = ""
        self._plan = plan
        self._cpu = cpu
        self._options = options
        self._revision = revision
        self._send = send
        self._failover = Failover([choice.name for choice in plan.delegates], monotonic())
        self._may_use_cpu = CPU in plan.delegates
        self._link: ExecutorLink | None = None
        self._candidate: ExecutorLink | None = None
        self._changed = False
        self._settle_until = monotonic() + FIRST_WAIT
        self._next_check = 0.0
        self._forget: Callable[[], None] | None = None

    def on_lost_state(self, forget: Callable[[], None]) -> None:
        """Call ``forget`` each time that the state inside the model begins again, in another process."""
        self._forget = forget

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
        return self._may_use_cpu or self._link is not None

    @property
    def chosen(self) -> bool:
        """Whether a delegate is chosen: the accelerator in use, the CPU, or none as all have failed."""
        return self._link is not None or self._failover.current in {None, CPU.name}

    @property
    def settled(self) -> bool:
        """True once a delegate is chosen or the time limit for opening the first one has passed."""
        return self.chosen or monotonic() > self._settle_until

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run on the accelerator; on the CPU if there is none, or it breaks on this very window."""
        if self._link is not None:
            try:
                return self._link.run(inputs)
            except ModelError as error:
                self._fall_back(str(error))
        if not self._may_use_cpu:
            raise ModelError(f"no delegate is left: {self.reason}")
        return self._cpu.run(inputs)

    def run_stored(self, inputs: Sequence[Array], /, *, real: bool) -> Sequence[Array]:
        """Run as ``run`` does, on tensors as they are stored. The runtime must declare ``stored``."""
        if self._link is not None:
            try:
                return self._link.run_stored(inputs, real=real)
            except ModelError as error:
                self._fall_back(str(error))
        if not self._may_use_cpu:
            raise ModelError(f"no delegate is left: {self.reason}")
        return cast("Storing", self._cpu).run_stored(inputs, real=real)

    def absorb(self, byte_values: FloatArray) -> bool:  # noqa: ARG002
        """Return False: executors get real values."""
        return False

    def reset(self) -> None:
        """Forget earlier inputs. The CPU's model forgets when it takes over."""
        if self._link is None:
            self._cpu.reset()
            return
        try:
            self._link.reset()
        except ModelError as error:
            self._fall_back(str(error))

    def poll(self) -> bool:
        """Look after executors. Return whether the delegate in use or the reason for it changed."""
        now = monotonic()
        if self._candidate is not None:
            self._poll_candidate(self._candidate, now)
        else:
            self._request_executor(now)
        if self._link is not None:
            self._recheck(self._link, now)
        changed, self._changed = self._changed, False
        return changed

    def connect_executor(self, number: int, end: socket.socket) -> bool:
        """Take the socket of an executor, if this model requested it. Return whether it did."""
        if self._candidate is None or self._candidate.number != number:
            return False
        self._candidate.connect(end)
        return True

    def drop_candidate(self) -> None:
        """Dismiss an executor that is still being opened. ``poll`` may request it again."""
        self._dismiss(self._candidate)
        self._candidate = None

    def close(self) -> None:
        """Dismiss all executors."""
        for link in (self._link, self._candidate):
            self._dismiss(link)
        self._link = self._candidate = None

    def _request_executor(self, now: float) -> None:
        """Request an executor for the delegate to be on, or for a better one whose next try is due."""
        current = self._failover.current
        missing = self._link is None and current not in {None, CPU.name}
        wanted = current if missing else self._failover.due(now)
        if wanted is None:
            return
        from limpet.worker.executor_link import ExecutorLink, Expected

        number = next(executor_numbers)
        expected = Expected(self.inputs, self.outputs, self._options.deadline / 2)
        self._candidate = ExecutorLink(number, wanted, expected, now + self._options.opening)
        self._send(Need(number, self._plan.name, wanted, self._revision))

    def _poll_candidate(self, candidate: ExecutorLink, now: float) -> None:
        try:
            if candidate.poll():
                self._adopt(candidate, now)
        except ModelError as error:
            self._reject(candidate, str(error), now)

    def _adopt(self, candidate: ExecutorLink, now: float) -> None:
        self._dismiss(self._link)
        self._link, self._candidate = candidate, None
        self._forget_scores()
        self._failover.passed(candidate.delegate, now)
        self._next_check = now + self._plan.recheck
        self._changed = True
        if not self._failover.degraded:
            self._reason = ""

    def _reject(self, candidate: ExecutorLink, reason: str, now: float) -> None:
        self._candidate = None
        self._dismiss(candidate)
        log.info("%s: delegate %r: %s", self._plan.name, candidate.delegate, reason)
        if self._link is None and candidate.delegate == self._failover.current:
            self._failover.failed(now)
            self._reason = _with_delegate(candidate, reason)
            self._changed = True
        else:
            self._failover.refused(candidate.delegate, now)

    def _fall_back(self, reason: str) -> None:
        """Give up the accelerator in use: the CPU or the next executor runs the windows from here on."""
        link, self._link = self._link, None
        assert link is not None
        self._dismiss(link)
        self._failover.failed(monotonic())
        self._reason = _with_delegate(link, reason)
        self._changed = True
        if self._plan.state.inside:
            self._cpu.reset()
            self._forget_scores()

    def _forget_scores(self) -> None:
        """Have the stages behind the model forget what came of a state that is lost."""
        if self._forget is not None and self._plan.state.inside and self._plan.state.lasting:
            self._forget()

    def _recheck(self, link: ExecutorLink, now: float) -> None:
        """Check from time to time that the outputs are still right, unless the model would lose its state."""
        keeps_state = self._plan.state.inside and self._plan.state.lasting
        try:
            if link.recheck_over() and now >= self._next_check and not keeps_state:
                self._next_check = now + self._plan.recheck
                link.recheck()
        except ModelError as error:
            self._fall_back(str(error))

    def _dismiss(self, link: ExecutorLink | None) -> None:
        if link is not None:
            link.close()
            self._send(Dismiss(link.number))


def _with_delegate(link: ExecutorLink, reason: str) -> str:
    return reason if repr(link.delegate) in reason else f"delegate {link.delegate!r}: {reason}"
