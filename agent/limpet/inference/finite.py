"""Whether what a model is to get is finite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from limpet.errors import ModelError

if TYPE_CHECKING:
    from limpet.contracts.data import Array


def refuse_not_finite(values: Array) -> None:
    """Raise ``ModelError`` where what a model is to get has NaN or infinity: a quantized input would hide that."""
    flat = values.ravel()
    if not (math.isfinite(flat.dot(flat)) or np.isfinite(values).all()):  # The first is faster, and rarely wrong.
        raise ModelError("samples so large that window and transforms make NaN or infinity of them")
