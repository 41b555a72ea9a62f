"""Models are examined in the process of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.deployment.local import examined
from support import bundles, models

if TYPE_CHECKING:
    from pathlib import Path


def test_a_link_is_followed_to_a_model_and_to_nothing_else(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "dense.tflite", 3, 3)
    sound = bundles.bundle(tmp_path / "motion-3.limpet", {"model.tflite": model.read_bytes()})
    (tmp_path / "current.limpet").symlink_to(sound)
    found = examined(tmp_path / "current.limpet")
    assert (found.name, found.version, found.problem) == ("motion", 3, "")
    sound.rename(tmp_path / "secret")
    (tmp_path / "current.limpet").unlink()
    (tmp_path / "current.limpet").symlink_to(tmp_path / "secret")
    assert examined(tmp_path / "current.limpet").problem.endswith(
        "is a link to a file that is no model: its name does not end in .limpet or .tflite"
    )
    (tmp_path / "round.limpet").symlink_to(tmp_path / "round.limpet")
    assert "is a link to a file that is no model" in examined(tmp_path / "round.limpet").problem
