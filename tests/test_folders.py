"""The picture of the folders, and the page that explains them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
AGENT = ROOT / "agent" / "limpet"


def picture(checkout: Path) -> list[str]:
    command = [sys.executable, ROOT / "tools" / "folders.py", checkout]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.strip() for line in done.stdout.splitlines()]


def with_numpy(lines: list[str]) -> set[str]:
    (line,) = (line for line in lines if line.startswith("class ") and line.endswith(" numpy"))
    return set(line.split()[1].split(","))


def test_the_picture_of_this_agent_has_no_circle_and_a_supervisor_without_numpy() -> None:
    lines = picture(ROOT)
    assert "supervision_ --> delivery_" in lines
    assert {"inference_", "worker_"} <= with_numpy(lines)
    assert not {"supervision_", "delivery_", "reporters_", "fork_", "isolation_"} & with_numpy(lines)
    assert not [line for line in lines if line.startswith("subgraph")]


@pytest.fixture
def other_agent(tmp_path: Path) -> Path:
    """An agent with a circle of two folders, a short cut, and numpy in one of its folders."""
    files = {
        "__init__.py": "def __getattr__(name):\n    import limpet.inference.pipeline\n",
        "errors.py": "",
        "inference/pipeline.py": "import numpy\nimport limpet.errors\nimport limpet.low.one\n",
        "low/one.py": "import limpet.errors\nimport limpet.high.one\n",
        "high/one.py": "import limpet.low.one\n",
        "high/typed.py": "import typing\nif typing.TYPE_CHECKING:\n    import limpet.inference.pipeline\n",
    }
    for name, text in files.items():
        path = tmp_path / "agent" / "limpet" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return tmp_path


def test_circles_are_boxes_short_cuts_are_left_out_and_type_checking_does_not_count(other_agent: Path) -> None:
    lines = picture(other_agent)
    assert 'subgraph circle1["a circle of 2"]' in lines
    assert [line for line in lines if "-->" in line] == [
        "high_ --> low_",
        "low_ --> high_",
        "inference_ --> low_",
        "low_ --> errors",
    ]
    assert with_numpy(lines) == {"inference_"}


def test_the_agents_page_names_every_folder_and_no_other() -> None:
    text = (ROOT / "agent" / "README.md").read_text()
    rows = "\n".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    named = set(re.findall(r"`(\w+)/`", rows))
    assert named == {path.parent.name for path in AGENT.glob("*/__init__.py")}
    drawn = set(re.findall(r"(\w+)/", text.split("```")[1]))
    assert drawn <= named
