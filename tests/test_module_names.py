"""The modules of a package, as its folder has them."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from limpet import commands, decoders, postprocess, runtimes
from limpet.module_names import module_names

if TYPE_CHECKING:
    from types import ModuleType


@pytest.mark.parametrize("package", [commands, decoders, postprocess, runtimes])
def test_they_are_those_that_the_import_system_finds(package: ModuleType) -> None:
    found = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg]
    assert module_names(package) == sorted(name for name in found if not name.startswith("_"))


def test_plugins_are_listed_without_pkgutil() -> None:
    program = (
        "import sys; from limpet.plugins import built_in; "
        "assert 'csv' in built_in('framings'); assert 'pkgutil' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
