"""Which modules a package has, found in its folders. ``pkgutil`` would import ``inspect`` to say so, 1 MB."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def module_names(package: ModuleType) -> list[str]:
    """Return the names of a package's public modules, sorted. Packages within it are left out."""
    files = {name for folder in package.__path__ for name in os.listdir(folder)}  # noqa: PTH208 - of strings
    return sorted(name[:-3] for name in files if name.endswith(".py") and not name.startswith("_"))
