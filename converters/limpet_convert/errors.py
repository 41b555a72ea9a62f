"""Errors that a user can correct when a model is converted."""

from __future__ import annotations

import importlib
from typing import Any

from limpet.errors import LimpetError


class ConvertError(LimpetError):
    """A model, its data or an option cannot be used as it is. The text says what to write instead."""


_SIGNING = frozenset({"tuf", "securesystemslib", "cryptography"})
"""Packages that the small extra ``updates`` has, too."""


def need(module: str, extra: str = "convert") -> Any:
    """Import a heavy package when it is first used. ``ConvertError`` names its extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name not in {package, module}:
            raise
        extra = "updates" if package in _SIGNING else extra
        raise ConvertError(f"{module} is not installed; it comes with: pip install 'limpet[{extra}]'") from error
