"""A pipeline as an adaptation has it run: with another threshold, weights of its classes, and offsets.

The model and its manifest stay as they are. What does not fit is left out with a warning: an adaptation must never
be the reason why a pipeline does not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet.inference.resolving import Configured, Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from limpet.contracts.adaptation import AdaptOptions, Correction
    from limpet.contracts.data import SampleSpec

THRESHOLD = "threshold"
CONFORMAL = "conformal"


def decoder_table(table: Mapping[str, Any], correction: Correction | None) -> dict[str, Any]:
    """Return a decoder's table with the threshold of a correction."""
    if correction is None or correction.threshold is None:
        return dict(table)
    return {**table, THRESHOLD: correction.threshold}


def postprocess_tables(tables: Sequence[dict[str, Any]], correction: Correction | None) -> list[dict[str, Any]]:
    """Return the tables of postprocess stages with the coverage of a correction, within what a stage knows."""
    aim = None if correction is None else correction.aim
    return [dict(table) if aim is None else _aimed(table, aim) for table in tables]


def _aimed(table: Mapping[str, Any], aim: float) -> dict[str, Any]:
    levels = table.get("levels")
    if table.get("kind") != CONFORMAL or not isinstance(levels, list) or not levels:
        return dict(table)
    if not all(isinstance(level, int | float) for level in levels):
        return dict(table)
    return {**table, "aim": min(max(aim, min(levels)), max(levels))}


def weighting(
    correction: Correction | None, labels: Sequence[str], decoder: Mapping[str, Any], base: Path
) -> tuple[Configured, ...]:
    """Return the stage that weights classes, if there is one. It comes right behind the decoder."""
    weights = {} if correction is None else {k: v for k, v in correction.weights.items() if k in labels}
    if not weights:
        return ()
    table = {"kind": "priors", "weights": weights, THRESHOLD: decoder.get(THRESHOLD)}
    return Resolver(base, []).all("postprocess", [table], "adapt.priors")


def offsets(correction: Correction | None, spec: SampleSpec, base: Path) -> tuple[Configured, ...]:
    """Return the transform that subtracts offsets, if there is one. It comes first."""
    if correction is None or not correction.offsets or len(correction.offsets) != channels(spec):
        return ()
    values: list[float] | float = correction.offsets if len(correction.offsets) > 1 else correction.offsets[0]
    table = {"kind": "normalise", "mean": values}
    return Resolver(base, []).all("transforms", [table], "adapt.offsets")


def channels(spec: SampleSpec) -> int:
    """Return how many channels samples have, 0 for pictures."""
    if spec.frames or len(spec.shape) > 1:
        return 0
    return spec.shape[0] if spec.shape else 1


def left_out(correction: Correction | None, spec: SampleSpec, labels: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each part of a correction that does not fit a pipeline."""
    if correction is None:
        return
    if correction.offsets and len(correction.offsets) != channels(spec):
        count = len(correction.offsets)
        yield f"adaptation {correction.number}: offsets of {count} channels do not fit {channels(spec)}"
    if correction.weights and not any(label in labels for label in correction.weights):
        yield f"adaptation {correction.number}: priors are left out, as the model has none of their classes"


def problems(
    allowed: AdaptOptions | None, decoder: Configured, postprocess: Sequence[Configured], spec: SampleSpec
) -> Iterator[str]:
    """Yield why a pipeline cannot adapt what it is allowed to, each with its key."""
    if allowed is None:
        return
    if allowed.threshold is not None and not decoder.abilities.threshold:
        yield f"adapt.threshold: the decoder {decoder.kind!r} has no threshold; remove this key"
    if allowed.priors is not None:
        if not decoder.abilities.scores:
            yield f"adapt.priors: the decoder {decoder.kind!r} gives no probability of each class; remove this key"
        if any(stage.kind == "bayes" for stage in postprocess):
            yield 'adapt.priors: the stage "bayes" has priors of its own; remove this key'
    if allowed.coverage is not None and not any(
        stage.kind == CONFORMAL and stage.config.levels for stage in postprocess
    ):
        yield 'adapt.coverage: no stage "conformal" has `levels` to choose from; remove this key'
    if allowed.offsets is not None and not channels(spec):
        yield "adapt.offsets: only samples that are rows of numbers have channels; remove this key"
