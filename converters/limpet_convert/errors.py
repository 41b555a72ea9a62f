"""Errors that a user can correct when a model is converted."""

from __future__ import annotations

from limpet.errors import LimpetError


class ConvertError(LimpetError):
    """A model, its data or an option cannot be used as it is. The text says what to write instead.

    ``details``: what a library printed and raised, for a log. It is foreign text, of many lines.
    """

    def __init__(self, text: str = "", details: str = "") -> None:
        super().__init__(text)
        self.details = details
