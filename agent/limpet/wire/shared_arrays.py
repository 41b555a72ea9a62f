"""Arrays in the memory that a worker and its executor share."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from limpet.errors import ModelError

if TYPE_CHECKING:
    import mmap

    from limpet.contracts.data import Array
    from limpet.wire.executor_records import ArrayForm

import numpy as np


def view(memory: mmap.mmap, place: tuple[int, int], form: ArrayForm) -> Array:
    """Return the array that was put at a place."""
    dtype, shape = form
    return np.frombuffer(memory, np.dtype(dtype), prod(shape), place[0]).reshape(shape)


def put(memory: mmap.mmap, place: tuple[int, int], values: Array) -> ArrayForm:
    """Copy an array to its place. ``ModelError`` where it is too large."""
    values = np.ascontiguousarray(values)
    if values.nbytes > place[1]:
        raise ModelError(f"an array of shape {list(values.shape)} and {values.dtype} is too large")
    form = (values.dtype.str, values.shape)
    view(memory, place, form)[...] = values
    return form
