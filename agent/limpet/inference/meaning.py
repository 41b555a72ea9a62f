"""What the inputs of a model mean. A model that learns starts again when that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.sha256 import sha256

if TYPE_CHECKING:
    from limpet.inference.plan import PipelinePlan


def meaning(plan: PipelinePlan) -> str:
    """Return a digest of the channels, the window and the transforms of a pipeline, in hexadecimal."""
    transforms = [(plugin.kind, plugin.config) for plugin in plan.transforms.plugins]
    what = (plan.spec.channels, plan.spec.shape, plan.window, transforms, plan.every)
    data = msgspec.json.encode(what, enc_hook=str)
    digest = sha256(len(data))
    digest.update(data)
    return digest.hexdigest()
