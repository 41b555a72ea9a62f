"""Captured windows as arrays. This is the one module of ``limpet.captures`` with numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from limpet.contracts.captures import Capture, Contents
    from limpet.contracts.data import Array


def samples(capture: Capture, contents: Contents) -> Array:
    """Return the window before the first transform, ``(samples, *shape of one)``, read-only.

    ``UnreadableError`` if it is pictures: these are ``contents.parts``, a JPEG each.
    """
    window = capture.window
    if window.encoding != "raw":
        raise UnreadableError(f"{capture.name} is pictures, not numbers")
    return np.frombuffer(contents.parts[0], np.dtype(window.dtype).newbyteorder("<")).reshape(window.shape)
