"""What a person can mend when a model is converted, and where the plain words for it are made."""

from __future__ import annotations

import importlib
from typing import Any

from limpet.errors import LimpetError


class ConvertError(LimpetError):
    """A model, its data or what is asked for cannot be used as it is; the text says what to write instead."""


def need(module: str, extra: str = "convert") -> Any:
    """Import a heavy package where it is first used. ``ConvertError`` names the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise ConvertError(f"{module} is not installed; it comes with: pip install 'limpet[{extra}]'") from error
