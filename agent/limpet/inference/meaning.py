"""What the inputs of a model mean. What was learned from others does not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.sha256 import sha256

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.inference.plan import PipelinePlan


def enrolled_file(plan: PipelinePlan) -> Path | None:
    """Return the file of what is enrolled in a pipeline, one for each model and meaning of its inputs.

    So a model that comes back finds what was enrolled with it. ``None`` if nothing is kept.
    """
    if plan.learned is None:
        return None
    data = f"{plan.identity} {meaning(plan)}".encode()
    digest = sha256(len(data))
    digest.update(data)
    return plan.learned / f"enrolled-{digest.hexdigest()[:16]}"


def meaning(plan: PipelinePlan) -> str:
    """Return a digest of the channels, the window and the transforms of a pipeline, in hexadecimal."""
    transforms = [(plugin.kind, plugin.config) for plugin in plan.transforms.plugins]
    what = (plan.spec.channels, plan.spec.shape, plan.window, transforms, plan.every)
    data = msgspec.json.encode(what, enc_hook=str)
    digest = sha256(len(data))
    digest.update(data)
    return digest.hexdigest()
