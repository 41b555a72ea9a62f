"""What the supervisor needs to know of a bundle's reference, as it reads no bundle itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from limpet.contracts.adaptation import MOST_LABELS
from limpet.errors import LimpetError
from limpet.learning.expected import Expected
from limpet.models import reference as references
from limpet.wire.border import cleaned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.assignment import PipelineOptions
    from limpet.contracts.reference import ClassReference, Reference, SliceReference
    from limpet.inference.plan import PipelinePlan

log = logging.getLogger(__name__)

LONGEST = 64


def expectation(plan: PipelinePlan, options: PipelineOptions) -> Expected | None:
    """Return what is expected of a pipeline's model, ``None`` if its bundle says nothing about that."""
    manifest, path = plan.bundle.manifest, plan.bundle.reference
    threshold = _threshold(plan, options)
    if path is None:
        return (
            None
            if threshold is None
            else Expected(plan.name, manifest.name, manifest.version, threshold=threshold)
        )
    try:
        reference = references.read(path, manifest.name)
    except LimpetError as error:
        log.warning("pipeline %s: %s; nothing is expected of its accuracy", plan.name, error)
        return None
    classes = reference.classes
    return Expected(
        plan.name,
        manifest.name,
        manifest.version,
        accuracy=None if classes is None else _accuracy(classes),
        slices={name: one.right / one.windows for name, one in _slices(reference)},
        priors=_priors(classes) if classes is not None and len(classes.labels) <= MOST_LABELS else {},
        threshold=threshold,
    )


def _slices(reference: Reference) -> Iterator[tuple[str, SliceReference]]:
    return ((cleaned(name, LONGEST), one) for name, one in reference.slices.items() if one.windows)


def _accuracy(classes: ClassReference) -> float | None:
    total = sum(map(sum, classes.confusion))
    right = sum(row[place] for place, row in enumerate(classes.confusion))
    return right / total if total else None


def _priors(classes: ClassReference) -> dict[str, float]:
    shares = zip(classes.labels, classes.priors, strict=True)
    return {cleaned(label, 2 * LONGEST): share for label, share in shares if 0 <= share <= 1}


def _threshold(plan: PipelinePlan, options: PipelineOptions) -> float | None:
    """Return the threshold that the decoder has by configuration or manifest, if the device may adapt it."""
    if options.adapt is None or options.adapt.threshold is None:
        return None
    table = plan.bundle.manifest.decoder if options.decoder is None else options.decoder
    value = table.get("threshold")
    return float(value) if isinstance(value, int | float) and -1e300 < value < 1e300 else None
