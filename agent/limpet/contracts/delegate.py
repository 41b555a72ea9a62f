"""A delegate that a pipeline may run on, as a runtime gets it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

How: TypeAlias = Literal["cpu", "library", "compiled", "coreml"]


class Choice(msgspec.Struct, frozen=True):
    """One entry of a pipeline's list of delegates, resolved. ``libraries`` are tried in order.

    ``how``: the way in which it is reached.
    """

    name: str
    kind: str
    libraries: tuple[str, ...] = ()
    options: dict[str, str] = {}
    how: How = "library"


CPU = Choice("cpu", "cpu", how="cpu")
