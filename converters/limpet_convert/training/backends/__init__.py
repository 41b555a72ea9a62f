"""The frameworks that can train: one module each, imported when it is used."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet_convert.training.fitting import Backend

NEEDS: dict[str, tuple[str, ...]] = {"torch": ("torch", "litert_torch"), "keras": ("keras", "tensorflow")}
"""What each framework needs to train and to convert. The first that is installed is used."""


def choose(wanted: str, needs: Mapping[str, Sequence[str]] = NEEDS) -> Backend:
    """Return a framework; if ``wanted`` is empty, the first one that is installed. ``ConvertError`` if none is."""
    missing = {name: _missing(modules) for name, modules in needs.items()}
    there = [name for name in needs if not missing[name]]
    if wanted and missing[wanted]:
        raise ConvertError(
            f"{missing[wanted][0]} is not installed. Run: pip install 'limpet[convert-{_extra(wanted)}]'"
            + (f", or leave out --framework: {there[0]} is installed" if there else "")
        )
    if not there:
        raise ConvertError(
            "training needs PyTorch or Keras, and neither is installed. "
            "Run: pip install 'limpet[convert-torch]' (or 'limpet[convert-tensorflow]')"
        )
    if (wanted or there[0]) == "torch":
        from limpet_convert.training.backends.torch import Torch

        return Torch()
    from limpet_convert.training.backends.keras import Keras

    return Keras()


def _extra(name: str) -> str:
    return "torch" if name == "torch" else "tensorflow"


def _missing(modules: Sequence[str]) -> list[str]:
    return [name for name in modules if importlib.util.find_spec(name) is None]
