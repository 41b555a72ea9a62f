"""Limpet: an on-device inference agent.

``Pipeline`` embeds it: ``for result in Pipeline.from_config(path, "motion"): ...``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limpet.inference.pipeline import Pipeline

__version__ = "0.1.0"
__all__ = ["Pipeline", "__version__"]


def __getattr__(name: str) -> Any:
    """Import ``Pipeline`` when it is asked for: the supervisor must never load numpy."""
    if name == "Pipeline":
        from limpet.inference.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
