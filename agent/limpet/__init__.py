"""Limpet: an on-device inference agent.

``Pipeline`` runs a model in your own program: ``Pipeline("motion-1.limpet").feed(rows)``. Its results have
an ``output`` that is a struct of its decoder, such as a ``Classification``, ``Detections`` or a ``Regression``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limpet.contracts.outputs import (
        Anomaly,
        Classification,
        Cluster,
        Detection,
        Detections,
        Embedding,
        Keypoint,
        Keypoints,
        Keyword,
        Labels,
        Mask,
        Output,
        Pose,
        Region,
        Regression,
        RunLengths,
        ScoredLabel,
        Segmentation,
        Tensors,
        TensorValues,
    )
    from limpet.errors import ConfigError, LimpetError, ModelError
    from limpet.pipeline import Pipeline
    from limpet.wire.records import Result

__version__ = "0.1.0"
__all__ = [
    "Anomaly",
    "Classification",
    "Cluster",
    "ConfigError",
    "Detection",
    "Detections",
    "Embedding",
    "Keypoint",
    "Keypoints",
    "Keyword",
    "Labels",
    "LimpetError",
    "Mask",
    "ModelError",
    "Output",
    "Pipeline",
    "Pose",
    "Region",
    "Regression",
    "Result",
    "RunLengths",
    "ScoredLabel",
    "Segmentation",
    "TensorValues",
    "Tensors",
    "__version__",
]

_MODULES = {
    "Pipeline": "limpet.pipeline",
    "Result": "limpet.wire.records",
    **dict.fromkeys(("ConfigError", "LimpetError", "ModelError"), "limpet.errors"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the supervisor must never load numpy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES.get(name, "limpet.contracts.outputs")), name)
