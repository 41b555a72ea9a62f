"""Modules that are loaded when they are first used, each tried in a Python of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEFER = """
import sys
from limpet.deferred import Deferred, defer
defer({name!r})
"""


def run(name: str, program: str) -> None:
    """Run a program after ``name`` was deferred."""
    subprocess.run([sys.executable, "-c", DEFER.format(name=name) + program], check=True, timeout=30)


@pytest.mark.parametrize("name", ["wave", "xml.sax"])
def test_an_import_does_not_load_and_a_use_does(name: str) -> None:
    use = {"wave": "wave.open", "xml.sax": "xml.sax.parse"}[name]
    run(
        name,
        f"import {name}\n"
        f"assert isinstance(sys.modules[{name!r}], Deferred)\n"
        f"assert callable({use})\n"
        f"assert not isinstance(sys.modules[{name!r}], Deferred)\n",
    )


def test_a_name_imported_from_it_is_the_modules_own() -> None:
    run("wave", "from wave import Error\nimport wave\nassert Error is wave.Error is sys.modules['wave'].Error\n")


def test_what_it_lacks_it_lacks() -> None:
    run("wave", "import wave\nassert not hasattr(wave, 'nothing')\nassert not hasattr(wave, '__nothing__')\n")


def test_a_module_that_is_loaded_stays_as_it_is() -> None:
    run("sys", "assert not isinstance(sys, Deferred)\n")


def test_many_threads_load_it_once() -> None:
    run(
        "decimal",
        "import decimal, threading\n"
        "start, found = threading.Barrier(16), []\n"
        "def use():\n"
        "    start.wait()\n"
        "    found.append(decimal.Decimal)\n"
        "threads = [threading.Thread(target=use) for _ in range(16)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "assert found == [sys.modules['decimal'].Decimal] * 16, found\n",
    )
