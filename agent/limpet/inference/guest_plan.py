"""A model that clients use and no pipeline runs: planned without source, window, transforms and decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from limpet.contracts.delegate import CPU, Choice
from limpet.errors import ConfigError, ModelError
from limpet.inference import infer_request, unpacking
from limpet.inference.admission import load, opened
from limpet.inference.delegates import delegates_of
from limpet.inference.inputs import StatePlan, describe
from limpet.inference.planning import read_facts
from limpet.inference.resolving import Configured, Resolver
from limpet.inference.served_model import MOST_ROWS, Identity, ServedModel
from limpet.inference.served_rows import SMALL, Rows
from limpet.models import bundle as bundles
from limpet.models.requirements import delegate_problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from limpet.contracts.assignment import Assignment
    from limpet.contracts.model_facts import ModelFacts
    from limpet.contracts.runtime import Storing
    from limpet.inference.admission import Planned
    from limpet.models.manifest import Manifest


class GuestPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to load the model. ``batched``: its inputs leave the batch open, and nothing else."""

    bundle: bundles.Bundle
    runtime: Configured
    delegates: tuple[Choice, ...]
    state: StatePlan
    shapes: tuple[tuple[int, ...], ...] | None = None
    batched: bool = False
    require: float = 0.0
    least_speed: float = 1.0


def plan_guest(assignment: Assignment, name: str) -> GuestPlan:
    """Unpack the model of a pipeline that has no source, and plan how to load it.

    ``ModelError``, ``DeployError``, ``ConfigError`` or ``UnreadableError`` says why that is not possible.
    """
    model = assignment.pipelines[name].model
    bundle = bundles.load(model.path, unpacking.folder(assignment, name), model.sha256, model.key)
    manifest, options = bundle.manifest, assignment.pipelines[name].options
    delegates = delegates_of(assignment, name)
    problems: list[str] = []
    resolver = Resolver(assignment.folders.base, problems)
    runtime = resolver.runtime(manifest.runtime, options.runtime, "runtime", problems)
    if runtime is None:
        raise ConfigError(problems)
    named = {word for choice in delegates for word in (choice.name, choice.kind)}
    if runtime.abilities.learns:
        problems.append("it learns on the device from what it runs, so clients cannot run it")
    problems += runtime.abilities.check(bundle.model, [choice.name for choice in delegates])
    if problem := delegate_problem(manifest.requires, named):
        problems.append(problem)
    if problems:
        raise ModelError("; ".join(problems))
    facts = describe(manifest, read_facts(runtime, bundle))
    state = _state(manifest, facts)
    shapes = [tuple(tensor.shape) for tensor in facts.inputs]
    opens = bool(shapes) and all(shape[:1] == (-1,) and -1 not in shape[1:] for shape in shapes)
    return GuestPlan(
        bundle=bundle,
        runtime=runtime,
        delegates=delegates,
        state=state,
        shapes=tuple((1, *shape[1:]) for shape in shapes) if opens else None,
        batched=opens and not state,
    )


def _state(manifest: Manifest, facts: ModelFacts) -> StatePlan:
    """Return the state inside the model. Inputs and outputs that hold state are the client's to hand back."""
    lasting = facts.stateful if manifest.stateful is None else manifest.stateful
    if facts.state:
        return StatePlan(inside=facts.state, lasting=bool(lasting))
    return StatePlan(
        inside="state that its maker names" if lasting and not facts.pairs else "", lasting=bool(lasting)
    )


def serve_guest(plan: GuestPlan, stack: ExitStack) -> ServedModel:
    """Load the model on its best delegate, until ``stack`` is closed. ``ModelError``."""
    model = stack.enter_context(load(plan, plan.shapes))
    manifest = plan.bundle.manifest
    rows = plan.batched and all(spec.shape[:1] == (1,) for spec in (*model.inputs, *model.outputs))
    identity = Identity(
        manifest.name,
        manifest.version,
        infer_request.digest(plan, model.delegate),
        infer_request.runtime(plan),
        rows=MOST_ROWS if rows else 1,
        forgets=bool(plan.state),
    )
    if not plan.runtime.abilities.stored:
        return ServedModel(identity, model)
    batch = rows_of(plan, plan.shapes, stack) if rows and model.delegate == CPU.name else None
    return ServedModel(identity, model, cast("Storing", model), batch)


def rows_of(plan: Planned, shapes: Sequence[tuple[int, ...]] | None, stack: ExitStack) -> Rows | None:
    """Return what opens a copy of a model for several windows, on the CPU; ``None`` if the model is too large."""
    if shapes is None or plan.bundle.model.stat().st_size > SMALL:
        return None

    def open_model(size: int) -> Storing:
        wider = [(size, *shape[1:]) for shape in shapes]
        return cast("Storing", stack.enter_context(opened(plan, CPU, wider)))

    return Rows(open_model)
