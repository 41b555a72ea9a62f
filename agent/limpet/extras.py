"""How to have an extra of Limpet that is missing."""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGED = "/opt/limpet"
"""Where the Debian package and the offline bundle install Limpet, without pip."""
_ADDITIONS = {"camera": "camera", "api-grpc": "grpc"}
"""Extras that have a separate package, limpet-NAME, by extra."""


def install_extra(extra: str, prefix: str = sys.prefix) -> str:
    """Return what to do to have an extra in the Python environment at ``prefix``."""
    name = _ADDITIONS.get(extra)
    if name and prefix == _PACKAGED and not any(Path(prefix).glob("lib/*/site-packages/pip")):
        return f"install the package limpet-{name}, or run install.sh --with {name}"
    return f"pip install 'limpet[{extra}]'"
