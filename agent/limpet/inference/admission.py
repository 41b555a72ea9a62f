"""A model on a delegate is admitted only if its placement, its outputs and its speed are as required.

The proof's imports happen with the first proof: a worker on the CPU needs none.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from limpet.contracts.delegate import CPU
from limpet.contracts.messages import Placed
from limpet.errors import DeployError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from limpet.accelerators.placement import Proof
    from limpet.contracts.delegate import Choice
    from limpet.contracts.placement import Placement
    from limpet.contracts.runtime import LoadedModel, Model
    from limpet.inference.inputs import StatePlan
    from limpet.inference.plan import PipelinePlan
    from limpet.inference.resolving import Configured
    from limpet.models.bundle import Bundle

RACE = 0.1
"""Seconds for which a delegate runs against the CPU."""
THROTTLED = 0.5
"""Share of ``least_speed`` below which a delegate in use is given up: it is hot, or someone else uses it too."""


class Planned(Protocol):
    """What is to be loaded: a bundle, with the plugin that runs it. A ``PipelinePlan`` is one."""

    @property
    def bundle(self) -> Bundle:
        """The model's files."""

    @property
    def runtime(self) -> Configured:
        """What runs them."""

    @property
    def delegates(self) -> tuple[Choice, ...]:
        """Where they may run, best first."""

    @property
    def state(self) -> StatePlan:
        """What the model keeps from run to run."""

    @property
    def require(self) -> float:
        """Share of the multiply-adds that must be on the delegate."""

    @property
    def least_speed(self) -> float:
        """How many times as fast as the CPU a delegate must be."""


@contextmanager
def opened(plan: Planned, choice: Choice, shapes: Sequence[tuple[int, ...]] | None) -> Iterator[LoadedModel]:
    """Load the bundle's file for a delegate on it. ``ModelError``."""
    path, _ = plan.bundle.suited({choice.name, choice.kind})
    with plan.runtime.module.open(path, plan.runtime.config, choice, shapes) as model:
        yield model


@contextmanager
def judge(plan: Planned, shapes: Sequence[tuple[int, ...]] | None) -> Iterator[Model]:
    """Load the model on the CPU, the reference and the fallback. ``ModelError`` where it cannot."""
    with ExitStack() as stack:
        try:
            model = stack.enter_context(opened(plan, CPU, shapes))
        except ModelError as error:
            raise ModelError(
                f"the CPU cannot run this model, so no delegate can be checked against it: {error}. "
                "Put the model for the CPU into the same bundle, as a variant"
            ) from error
        yield model


@contextmanager
def load(plan: Planned, shapes: Sequence[tuple[int, ...]] | None) -> Iterator[Model]:
    """Load the model in this process on the first delegate that takes it. ``ModelError`` if none does."""
    refusals: list[str] = []
    with ExitStack() as stack:
        model: Model
        for choice in plan.delegates:
            try:
                if choice == CPU:
                    model = stack.enter_context(opened(plan, choice, shapes))
                else:
                    model, _ = stack.enter_context(admitted(plan, choice, shapes))
            except ModelError as error:
                refusals.append(f"{choice.name}: {error}")
            else:
                yield model
                return
    raise ModelError("; ".join(refusals))


@contextmanager
def admitted(
    plan: Planned, choice: Choice, shapes: Sequence[tuple[int, ...]] | None
) -> Iterator[tuple[Model, Placed]]:
    """Load the model on an accelerator, with the proof that it belongs there. ``ModelError`` says why not."""
    from limpet.accelerators.placement import shortfall

    with opened(plan, choice, shapes) as model:
        placement = _placement(plan, choice, model)
        if reason := shortfall(placement, plan.require) if placement else "":
            raise ModelError(reason)
        with judge(plan, shapes) as cpu:
            proof = examine(plan, choice, model, cpu)
        yield model, _report(plan, model, placement, proof)


def examine(plan: Planned, choice: Choice, model: Model, cpu: Model, *, share: float = 1.0) -> Proof:
    """Run golden vectors, and a race against the CPU. ``ModelError`` says what is wrong or too slow.

    ``share`` of ``least_speed`` is enough. A model that keeps state is reset before and after.
    """
    from limpet.inference.proof import admit

    _, tolerance = plan.bundle.suited({choice.name, choice.kind})
    bundle = replace(plan.bundle, manifest=replace(plan.bundle.manifest, tolerance=tolerance))
    seconds = RACE if plan.least_speed or share == 1 else 0.0
    stateful = [model, cpu] if plan.state.inside else []
    try:
        for one in stateful:
            one.reset()
        return admit(bundle, model, cpu, plan.least_speed * share, seconds, alone=_alone(plan))
    except DeployError as error:
        raise ModelError(str(error)) from error
    finally:
        for one in stateful:
            one.reset()


def _alone(plan: Planned) -> bool:
    """Whether each window is run from a cleared state."""
    return bool(plan.state.inside) and not plan.state.lasting


def _placement(plan: Planned, choice: Choice, model: LoadedModel) -> Placement | None:
    """Return what the runtime says; for a file that a vendor compiled, measured by the CPU's file."""
    placement = model.placement
    path, _ = plan.bundle.suited({choice.name, choice.kind})
    plain, _ = plan.bundle.suited({CPU.name})
    if placement is None or path == plain:
        return placement
    from limpet.accelerators.placement import place
    from limpet.models.tflite import model_graph

    whole = model_graph.read(plain.read_bytes()).macs
    return place(placement.delegate, placement.ops, whole, placement.device)


def _report(plan: Planned, model: Model, placement: Placement | None, proof: Proof) -> Placed:
    if placement is None:
        return Placed(model.delegate_share, speed=proof.speed, error=proof.error, run_us=proof.delegate_us)
    return Placed(
        placement.op_share,
        placement.mac_share,
        _time(plan, placement, proof),
        proof.speed,
        proof.error,
        proof.delegate_us,
        placement.device,
        placement.left_over(),
    )


def _time(plan: Planned, placement: Placement, proof: Proof) -> float | None:
    """Return the share of a run's time that is not spent in ops left to the CPU, ``None`` if it is unknown."""
    if placement.op_share == 1:
        return 1.0
    from limpet.inference.proof import time_share

    make = plan.runtime.abilities.interpreter
    if make is None:
        return None
    with suppress(ModelError):
        path, _ = plan.bundle.suited({CPU.name})
        return time_share(path, placement, make, proof.delegate_us, RACE).on_delegate
    return None


class Load(Protocol):
    """How a pipeline comes by its model."""

    def __call__(
        self, plan: PipelinePlan, shapes: Sequence[tuple[int, ...]] | None
    ) -> AbstractContextManager[Model]:
        """Load it, inputs resized to ``shapes`` where given. ``ModelError``."""
