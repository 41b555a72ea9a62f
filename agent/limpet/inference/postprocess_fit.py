"""Whether postprocess stages can take the results that they would get, as far as plugins declare them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.contracts.outputs import Classification, Detections, Keypoints, Keyword, Labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.postprocess import Trait
    from limpet.inference.resolving import Configured

_ADVICE: dict[Trait, tuple[str, str]] = {
    "ids": ("objects with ids", 'put { kind = "track" } before it'),
    "scores": ("the probability of each label", 'use the decoder "classify"'),
}
"""What a trait is in words, and what to do to have it."""
_BEARERS: dict[Trait, tuple[type, ...]] = {
    "ids": (Detections, Keypoints),
    "scores": (Classification, Keyword, Labels),
}
"""The types of results that can have a trait. Of others, a stage that wants it needs it not."""


def misfits(decoder: Configured, stages: Sequence[Configured], where: str) -> Iterator[str]:
    """Yield a sentence for each stage that cannot take what it would get. ``where`` names the list of stages."""
    given: type | None = decoder.abilities.output
    giver = f"the decoder {decoder.kind!r}"
    traits: set[Trait] = {"scores"} if decoder.abilities.scores else set()
    for number, stage in enumerate(stages):
        able = stage.abilities
        place = f"{where}[{number}]: {stage.kind!r}"
        if able.takes and (given is None or not issubclass(given, able.takes)):
            wanted = " or ".join(kind.__name__ for kind in able.takes)
            found = f"gives {given.__name__}" if given else "does not declare what it gives"
            yield f"{place} takes {wanted}, and {giver} {found}"
            return
        for trait in able.wants:
            can_have = given is None or issubclass(given, _BEARERS[trait])
            if can_have and trait not in traits:
                what, advice = _ADVICE[trait]
                yield f"{place} needs {what}; {advice}"
        if able.gives is not None:
            given, giver = able.gives, repr(stage.kind)
            traits &= {"scores"}
        traits |= set(able.adds)
