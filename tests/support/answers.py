"""Answers of devices to windows of model input."""

from __future__ import annotations

from typing import Any

import msgspec

from limpet.contracts.messages import Inferred

_ANSWER = Inferred(
    model="m",
    version=0,
    sha256="",
    limpet="0",
    runtime="",
    delegate="cpu",
    delegate_share=1.0,
    placement=None,
    outputs=[],
    run_us=[],
)


def inferred(**changes: Any) -> Inferred:
    """Return an answer without outputs, but for ``changes``."""
    return msgspec.structs.replace(_ANSWER, **changes)
