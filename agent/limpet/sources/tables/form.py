"""What is known of a table before it is read. Apart from what reads it, which takes 7 ms to import."""

from __future__ import annotations

from typing import Literal

import msgspec


class Form(msgspec.Struct, kw_only=True):
    """The configuration of a table. What it leaves out is detected in the table."""

    channels: tuple[str, ...] = ()
    delimiter: str = ""
    decimal: Literal[".", ","] | None = None
    time: str | None = None
