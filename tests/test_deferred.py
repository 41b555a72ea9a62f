"""Modules that are loaded when they are first used, each tried in a Python of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

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
        f"module = sys.modules[{name!r}]\n"
        "assert isinstance(module, Deferred)\n"
        "assert module.__spec__ is None\n"
        f"assert callable({use})\n"
        f"assert module.__spec__.name == {name!r}\n",
    )


def test_a_name_imported_from_it_is_the_modules_own() -> None:
    run("wave", "from wave import Error\nimport wave\nassert Error is wave.Error is sys.modules['wave'].Error\n")


def test_there_is_one_module_before_and_after_it_is_loaded() -> None:
    run(
        "tempfile",
        "import tempfile as early\n"
        "early.gettempdir()\n"
        "import tempfile as late\n"
        "assert early is late\n"
        "early.tempdir = '/nowhere'\n"
        "assert late.gettempdir() == '/nowhere'\n",
    )


@pytest.mark.parametrize("name", ["wave", "ast"])  # one has __all__, and one has not
def test_all_names_can_be_imported_from_it(name: str) -> None:
    some = {"wave": "open", "ast": "parse"}[name]
    run(name, f"from {name} import *\nassert {some} is sys.modules[{name!r}].{some}\n")


def test_a_module_that_cannot_be_loaded_says_why_each_time(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    run(
        "broken",
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import broken\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        broken.attribute\n"
        "    except ImportError as error:\n"
        "        assert 'nothing_of_that_name' in str(error)\n"
        "    else:\n"
        "        raise AssertionError\n",
    )


def test_modules_that_import_each_other_load(tmp_path: Path) -> None:
    (tmp_path / "left.py").write_text("import right\nONE = 1\nTWO = right.TWO\n")
    (tmp_path / "right.py").write_text("import left\nTWO = 2\ndef one(): return left.ONE\n")
    run(
        "left",
        f"sys.path.insert(0, {str(tmp_path)!r})\nimport left, right\nassert (right.one(), left.TWO) == (1, 2)\n",
    )


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
