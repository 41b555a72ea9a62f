"""The file of updates, as someone wrote it who can write to the state directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from limpet.models import deployed
from limpet.updates.state import Update, Updates

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [("p", "../../precious"), ("p", "q"), ("../../precious", "../../precious"), ("..", ".."), ("p/q", "p/q")],
)
def test_attack_an_update_with_the_name_of_a_folder_elsewhere_is_refused(
    tmp_path: Path, name: str, pipeline: str
) -> None:
    content = msgspec.json.encode({"pipelines": {name: {"pipeline": pipeline, "stage": "downloading"}}})
    (tmp_path / "updates.json").write_bytes(content)
    reasons: list[str] = []
    assert deployed.read(tmp_path, reasons.append) == Updates()
    assert len(reasons) == 1
    assert (tmp_path / "updates.json.damaged").read_bytes() == content


def test_an_update_below_its_own_name_is_taken(tmp_path: Path) -> None:
    wanted = Updates(pipelines={"p": Update(pipeline="p"), "Q.1-a_b": Update(pipeline="Q.1-a_b")})
    deployed.write(tmp_path, wanted)
    assert deployed.read(tmp_path) == wanted
