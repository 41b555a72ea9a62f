"""Proof that a pipeline works on this device, before it takes over from another one or runs at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.contracts.delegate import CPU
from limpet.errors import DeployError, ModelError, WrongOutputsError

if TYPE_CHECKING:
    from limpet.contracts.runtime import Model
    from limpet.inference.pipeline import Pipeline
    from limpet.inference.plan import PipelinePlan


def check_golden_vectors(plan: PipelinePlan, cpu: Model) -> float | None:
    """Run the golden vectors of a bundle on its model on the CPU. A bundle without any passes.

    Return the largest absolute difference, ``None`` without vectors. ``ModelError`` if an output differs by more
    than the manifest allows, or if the vectors cannot be used.
    """
    if plan.bundle.golden is None:
        return None
    from limpet.models.golden import check_golden

    _, tolerance = plan.bundle.suited({CPU.name})
    try:
        error = check_golden(plan.bundle, cpu, alone=bool(plan.state.inside) and not plan.state.lasting)
    except DeployError as problem:
        raise ModelError(str(problem)) from problem
    allowed = tolerance.absolute
    if not error <= allowed:
        raise WrongOutputsError(
            f"wrong outputs for its golden vectors: off by {error:.4g}, {allowed:.4g} is allowed"
        )
    return error


def run_one_window(pipeline: Pipeline) -> None:
    """Run one window that is made up, and drop the result. ``ModelError`` if that fails.

    A decoder may refuse what zeros give, so noise is tried as well.
    """
    try:
        pipeline.try_once(noise=False)
    except ModelError:
        pipeline.try_once(noise=True)
