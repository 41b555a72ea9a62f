"""What a monitor must do: blocks of windows to the question whether they still look like the model's reference.

A monitor is a plugin of the group ``monitors``: one file each. The host, ``limpet.inference.monitoring``, gathers
windows and hands them over in blocks, off the path of a result. It turns what changes into events and health.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from limpet.contracts.data import FloatArray, TimeArray
from limpet.contracts.drift import Fault, Moved

if TYPE_CHECKING:
    from limpet.contracts.reference import Reference

Need: TypeAlias = Literal["features", "scores", "classes", "embeddings"]


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a module of monitors declares as ``ABILITIES``. ``needs``: what of a block it looks at."""

    needs: tuple[Need, ...] = ("features",)


class Observed(msgspec.Struct):
    """A block of n windows, oldest first. The arrays are valid until the call returns.

    There is no gap inside, but of a camera: there, frames may be missing anywhere.

    ``features`` ``(n, features)``: see ``limpet.inference.window_features``; their order is the reference's.
    ``scores`` ``(n,)``: NaN where there is none. ``classes`` ``(n,)``: int32, -1 where the model abstained.
    ``embeddings`` ``(n, d)``: projected as the reference says; ``None`` where the model has none. ``times_ns``
    ``(n,)``: when the last sample of each window was taken. ``gap``: windows are missing before the first one.
    """

    features: FloatArray
    scores: FloatArray
    classes: NDArray[np.int32]
    embeddings: FloatArray | None
    times_ns: TimeArray
    gap: bool = False

    def __len__(self) -> int:
        return len(self.times_ns)


class Alarm(msgspec.Struct):
    """What a monitor holds to be true. ``since_ns``: when it began, on the clock of ``Observed.times_ns``."""

    moved: list[Moved]
    since_ns: int
    p_value: float
    fault: Fault | Literal[""] = ""
    reason: str = ""


class Monitor(Protocol):
    """One monitor of one pipeline. Used by one thread. It keeps at most some ten kilobytes."""

    @property
    def level(self) -> float:
        """Its statistic at the last windows, in shares of its threshold: an alarm begins above 1. 0 at first."""

    def see(self, observed: Observed) -> Alarm | None:
        """Look at the next windows. Return the alarm that holds now, ``None`` if there is none.

        An alarm begins above the calibrated threshold and ends below a lower one, so that it does not flicker.
        """

    def reset(self) -> None:
        """Forget all windows: go on as if newly opened."""


class MonitorPlugin(Protocol):
    """A module that makes monitors. It may declare ``ABILITIES``."""

    Config: Any

    def calibrate(self, config: Any, observed: Observed, reference: Reference, allowed: float) -> dict[str, Any]:
        """Return the thresholds that the bundle is to carry. Runs on the workstation, with numpy alone.

        ``observed``: the reference's windows in their order. ``allowed``: false alarms a window that this monitor
        may raise, such as 1e-8. ``ValueError`` says why it cannot be calibrated on these data.
        """

    def open(self, config: Any, reference: Reference, thresholds: dict[str, Any]) -> Monitor:
        """Prepare to watch. ``thresholds`` are not to be trusted: ``ValueError`` says what is wrong with them.

        Make arrays of the quantiles that are needed later: to save memory, the host forgets all lists of quantiles
        when the monitors are open.
        """
