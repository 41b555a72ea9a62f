"""What saves runs of a model, as it is configured: whether it suits the model, and the plan of a light model."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from msgspec.structs import replace

from limpet.contracts.outputs import Classification
from limpet.errors import LimpetError, ModelError
from limpet.inference.plan import LightPlan, SavingsPlan
from limpet.inference.planning import plan_pipeline
from limpet.inference.stages import Transforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.assignment import Assignment, PipelineOptions
    from limpet.contracts.fields import WindowSpec
    from limpet.contracts.savings import CascadeOptions
    from limpet.inference.plan import PipelinePlan
    from limpet.inference.resolving import Configured


def with_savings(assignment: Assignment, name: str, plan: PipelinePlan) -> PipelinePlan:
    """Return the plan of a pipeline with what saves runs of its model. Without any, it is the same plan.

    ``ModelError`` if one of them does not suit the model.
    """
    wanted = assignment.pipelines[name].options
    used = [key for key in ("gate", "cache", "cascade", "early_exit") if _has(wanted, key)]
    if not used:
        return plan
    _refuse_memory(plan, used)
    if wanted.early_exit is not None:
        plan = _without_hop(plan)
    return replace(
        plan,
        savings=SavingsPlan(
            gate=wanted.gate,
            cache=wanted.cache,
            early_exit=wanted.early_exit,
            light=_light(assignment, name, plan),
            weight=_share_of_its_own(plan.window),
        ),
    )


def _has(wanted: PipelineOptions, key: str) -> bool:
    return {
        "gate": wanted.gate,
        "cache": wanted.cache,
        "cascade": wanted.cascade,
        "early_exit": wanted.early_exit,
    }[key] is not None


def _refuse_memory(plan: PipelinePlan, used: Sequence[str]) -> None:
    """Raise ``ModelError`` if a model must run on each window."""
    keys = " and ".join(f"`{key}`" for key in used)
    if plan.state and plan.state.lasting:
        raise ModelError(
            f"{keys}: the model keeps state from window to window, so it must run on each; remove {keys}"
        )
    if plan.runtime.abilities.learns:
        raise ModelError(f"{keys}: the model learns from each window, so it must run on each; remove {keys}")


def _without_hop(plan: PipelinePlan) -> PipelinePlan:
    """Return a plan whose transforms know that windows are left out. ``ModelError`` if one cannot work so."""
    _refuse_unscored(plan, "early_exit")
    try:
        transforms = Transforms(plan.transforms.plugins, replace(plan.transforms.windows, hop=None))
    except ModelError as error:
        raise ModelError(f"early_exit: it leaves windows out. {error}") from error
    return replace(plan, transforms=transforms)


def _refuse_unscored(plan: PipelinePlan, key: str) -> None:
    """Raise ``ModelError`` if a decoder gives no classes, or no probabilities of them."""
    able = plan.decoder.abilities
    if able.output is not Classification or not able.scores:
        raise ModelError(
            f"{key}: the decoder {plan.decoder.kind!r} gives no probabilities of classes; use `classify`, or "
            f"remove {key}"
        )


def _share_of_its_own(window: WindowSpec) -> float:
    """Return the share of a window's samples that the window before does not have."""
    if window.seconds is not None:
        return min(1.0, (window.hop_seconds or window.seconds) / window.seconds)
    size = window.size or 1
    return min(1.0, (window.hop or size) / size)


def _light(assignment: Assignment, name: str, plan: PipelinePlan) -> LightPlan | None:
    """Plan the light model of a cascade. ``None`` if there is none, or its file is not there."""
    pipeline = assignment.pipelines[name]
    options = pipeline.options.cascade
    if options is None or pipeline.light is None:
        return None
    _refuse_unscored(plan, "cascade")
    _refuse_late(plan)
    own = replace(
        pipeline.options, window=plan.window, transforms=None, decoder=None, postprocess=None, inputs=None,
        stateful=None, delegates=["cpu"], require=0.0, runtime={}, snapshots=None, test_time=None,
    )  # fmt: skip
    alone = replace(assignment, pipelines={name: replace(pipeline, model=pipeline.light, options=own, light=None)})
    try:
        light = plan_pipeline(alone, name, plan.spec)
        _refuse_unlike(light, plan)
    except LimpetError as error:
        raise ModelError(f"cascade: the light model {options.model}: {error}") from error
    return _fitted(options, light, plan)


def _refuse_unlike(light: PipelinePlan, plan: PipelinePlan) -> None:
    """Raise ``ModelError`` if the answers of a light model cannot stand for those of the pipeline's own."""
    _refuse_memory(light, ["cascade"])
    _refuse_unscored(light, "cascade")
    labels = [one.decoder.config.labels or one.bundle.labels for one in (light, plan)]
    if list(labels[0]) != list(labels[1]):
        raise ModelError(
            f"its classes are {', '.join(labels[0])}, and those of {plan.bundle.manifest.name} are "
            f"{', '.join(labels[1])}; both need the same ones in the same order"
        )


def _fitted(options: CascadeOptions, light: PipelinePlan, plan: PipelinePlan) -> LightPlan:
    """Return the plan of a light model, which takes what the pipeline's transforms give if that is the same."""
    calibrated = own_stages(light.postprocess)
    if options.margin is None and not calibrated:
        raise ModelError(
            f"cascade.margin: missing; the bundle of {options.model} has no `conformal` stage, so nothing says "
            "when the light model is sure"
        )
    columns = light.columns
    shared = columns is None and _same_transforms(light, plan)
    light = replace(
        light,
        columns=None,
        postprocess=tuple(map(_unfilled, calibrated)),
        transforms=Transforms((), plan.transforms.spec) if shared else light.transforms,
    )
    return LightPlan(options, light, shared, columns)


def _unfilled(stage: Configured) -> Configured:
    """Return a stage whose sets may be empty: the light model is unsure of a window that is like none before."""
    if stage.kind != "conformal":
        return stage
    return replace(stage, config=replace(stage.config, empty=True, most=None))


def _refuse_late(plan: PipelinePlan) -> None:
    """Raise ``ModelError`` if a stage that holds for one model alone would get the results of both."""
    late = plan.postprocess[len(own_stages(plan.postprocess)) :]
    for stage in late:
        if stage.abilities.calibrated:
            raise ModelError(
                f"cascade: the stage {stage.kind!r} holds for one model alone; put it before the others"
            )


def own_stages(postprocess: Sequence[Configured]) -> tuple[Configured, ...]:
    """Return the stages at the start that hold for one model alone."""
    return tuple(takewhile(lambda stage: stage.abilities.calibrated, postprocess))


def _same_transforms(light: PipelinePlan, plan: PipelinePlan) -> bool:
    """Whether two models take the same numbers. What a model absorbs is not among them."""
    ours, theirs = plan.transforms, light.transforms
    if ours.abilities and ours.abilities[-1].byte_table:
        return False
    alike = [(one.kind, one.config) for one in ours.plugins] == [(one.kind, one.config) for one in theirs.plugins]
    return alike and ours.spec == theirs.spec
