"""What is planned: the plugins of a source or a pipeline, each with its own typed options."""

from __future__ import annotations

from pathlib import Path

import msgspec

from limpet.contracts.data import SampleSpec
from limpet.contracts.delegate import Choice
from limpet.contracts.fields import WindowSpec
from limpet.contracts.savings import CacheOptions, CascadeOptions, EarlyExitOptions, GateOptions
from limpet.contracts.uncertainty import VariationOptions
from limpet.inference.inputs import InputPlan, StatePlan
from limpet.inference.resolving import Configured
from limpet.inference.stages import Transforms
from limpet.models import bundle as bundles


class SourcePlan(msgspec.Struct, frozen=True):
    """A source that can be opened, and what its samples are. The rest: see ``limpet.contracts.assignment``."""

    name: str
    plugin: Configured
    spec: SampleSpec
    queue: int
    queue_bytes: int
    silence: float | None = None


class LightPlan(msgspec.Struct, frozen=True):
    """The light model of a cascade, and when it is sure.

    ``shared``: it takes what the transforms of the pipeline give; otherwise it has transforms of its own, which
    take the window's ``columns``, ``None`` for all.
    """

    options: CascadeOptions
    plan: PipelinePlan
    shared: bool
    columns: list[int] | None = None


class SavingsPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What saves runs of a pipeline's model. ``None``: it has none of that kind.

    ``weight``: how much a window counts beside another one, 0 to 1: those that overlap have samples in common.
    """

    gate: GateOptions | None = None
    cache: CacheOptions | None = None
    early_exit: EarlyExitOptions | None = None
    light: LightPlan | None = None
    weight: float = 1.0

    @property
    def mixes(self) -> bool:
        """Whether results differ as a whole from those that the model gives for all windows."""
        return self.light is not None or self.early_exit is not None


class MonitorPlan(msgspec.Struct, frozen=True):
    """Monitors of a pipeline. ``chosen``: those that have options; the reference says which others there are.

    ``share``: of the pipeline's time, ``None`` for the usual one. ``off``: kinds that do not run.
    """

    share: float | None
    off: tuple[str, ...] = ()
    chosen: tuple[Configured, ...] = ()


class PipelinePlan(msgspec.Struct, frozen=True):
    """All that ``Pipeline`` needs to open.

    ``columns`` are the source's channels that the model takes, ``None`` for all as they are; ``spec`` is what the
    samples are with only those. ``inputs`` are the model's, in its order; none if its runtime does not read files
    and its manifest names none. ``delegates`` come best first; ``require`` and what follows is as configured.
    ``warnings``: what is allowed and most likely not meant, a sentence each. ``learned``: where a
    model that learns keeps what it learns, and a decoder what is enrolled. ``identity``: SHA-256 of the model.
    ``savings``: what saves runs of the model, see ``limpet.inference.savings_plan``.
    ``monitors``: ``None`` if they are off, or the bundle has no reference. ``test_time``: the variations of each
    window that the model also runs on. ``beside``: channels that only stages look at, with the source's columns.
    """

    name: str
    bundle: bundles.Bundle
    columns: list[int] | None
    spec: SampleSpec
    window: WindowSpec
    transforms: Transforms
    runtime: Configured
    decoder: Configured
    postprocess: tuple[Configured, ...]
    delegates: tuple[Choice, ...]
    inputs: tuple[InputPlan, ...]
    state: StatePlan
    require: float = 0.0
    least_speed: float = 1.0
    recheck: float = 3600.0
    every: int = 1
    rate_tolerance: float = 0.05
    warnings: tuple[str, ...] = ()
    learned: Path | None = None
    identity: str = ""
    savings: SavingsPlan | None = None
    test_time: VariationOptions | None = None
    beside: dict[str, int] = {}
    monitors: MonitorPlan | None = None

    @property
    def resamples(self) -> bool:
        """Whether windows are computed from samples, not cut."""
        return self.window.seconds is not None and self.window.size is not None

    @property
    def output(self) -> type | None:
        """The type of its results, ``None`` where its plugins do not say."""
        given: type | None = self.decoder.abilities.output
        for plugin in self.postprocess:
            given = plugin.abilities.gives or given
        return given

    @property
    def accelerators(self) -> tuple[Choice, ...]:
        """The delegates but the CPU."""
        return tuple(choice for choice in self.delegates if choice.how != "cpu")
