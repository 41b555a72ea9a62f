"""A pipeline opened and run once as ``limpet run`` would, in a child process that may crash or hang."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limpet.contracts.delegate import CPU
from limpet.errors import LimpetError, ModelError
from limpet.inference import needs
from limpet.inference.admission import judge, load
from limpet.inference.pipeline import Pipeline
from limpet.inference.proving import check_golden_vectors, run_one_window
from limpet.isolation import confined
from limpet.isolation.permissions import Permissions
from limpet.models.tflite.coverage import Coverage

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.assignment import Assignment
    from limpet.inference.plan import PipelinePlan

SHARE = 2.0
LEAST = 5.0
"""Times its deadline, and seconds at least, that a pipeline may take to open and run once."""
SECONDS = 60.0
"""For the same where there is no deadline."""


def failure(assignment: Assignment, plan: PipelinePlan) -> str:
    """Return why a pipeline cannot run, in a line; empty if it can.

    It runs on the CPU, which an accelerator is measured by. The accelerator may be in use, so it is left alone.
    """
    seconds = max(LEAST, assignment.pipelines[plan.name].options.deadline * SHARE)
    wanted = needs.of_executor(assignment, plan, CPU)._replace(change=frozenset(), devices=frozenset())
    try:
        return confined.run(lambda: _attempt(plan, prove=plan.name in assignment.prove), wanted, seconds)
    except confined.LostError as error:
        return f"the runtime did not survive the model {plan.bundle.manifest.name}: {error}"


def refuse_crashing(plan: PipelinePlan) -> None:
    """Raise ``ModelError`` if the runtime does not survive one run of a model, before it runs in this process."""
    needed = Permissions(frozenset({plan.bundle.model.resolve()}))
    try:
        confined.run(lambda: _attempt(plan), needed, SECONDS)
    except confined.LostError as error:
        raise ModelError(f"the runtime did not survive the model {plan.bundle.manifest.name}: {error}") from error


def _attempt(plan: PipelinePlan, *, prove: bool = False) -> str:
    """Open the pipeline and run it. With ``prove``, its model must give the golden outputs of its bundle."""
    np.seterr(all="ignore")
    try:
        with Pipeline(plan, judge if plan.accelerators else load) as pipeline:
            if prove:
                check_golden_vectors(plan, pipeline.model)
            run_one_window(pipeline)
    except LimpetError as error:
        return str(error)
    return ""


def coverage(model: Path) -> Coverage:
    """Return what the CPU's delegate runs. ``ModelError`` says why the runtime refuses the model, or crashes."""
    from limpet.runtimes import tflite

    def answer() -> str:
        try:
            return msgspec.json.encode(tflite.cover(model)).decode()
        except ModelError as error:
            return f"!{error}"

    try:
        answered = confined.run(answer, Permissions(frozenset({model.resolve()})), SECONDS)
    except confined.LostError as error:
        raise ModelError(f"{tflite.package} {tflite.version} did not survive the model: {error}") from error
    try:
        return msgspec.json.decode(answered, type=Coverage)
    except msgspec.MsgspecError:
        raise ModelError(answered.removeprefix("!")) from None
