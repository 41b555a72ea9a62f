"""Captured windows as arrays. This is the one module of ``limpet.captures`` with numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from limpet.contracts.captures import Capture, Contents
    from limpet.contracts.data import Array


def samples(capture: Capture, contents: Contents) -> Array:
    """Return the window before the first transform, ``(samples, *shape of one)``, read-only.

    ``UnreadableError`` if its bytes are not of that shape, or if it is pictures: these are ``contents.parts``, a
    JPEG each.
    """
    window = capture.window
    if window.encoding != "raw":
        raise UnreadableError(f"{capture.name} is pictures, not numbers")
    with reading(f"the window of {capture.name}"):
        return np.frombuffer(contents.parts[0], np.dtype(window.dtype).newbyteorder("<")).reshape(window.shape)
