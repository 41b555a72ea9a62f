"""Accelerators on live sources, killed in mid-stream: what is counted, and that nothing is lost or mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accel import live

if TYPE_CHECKING:
    from pathlib import Path


def marked(kind: str) -> Any:
    reason = live.ABSENT.get(kind, "")
    return pytest.param(kind, marks=pytest.mark.skipif(bool(reason), reason=reason))


@pytest.mark.parametrize("kind", [marked(kind) for kind in live.SCENES])
def test_a_killed_accelerator_is_counted_loses_no_window_and_comes_back(kind: str, tmp_path: Path) -> None:
    found = live.run(kind, tmp_path)
    assert found.steps[-3:] == [kind, "cpu", kind]
    assert "it crashed" in found.cause
    assert found.failovers == 1
    assert found.degraded > 0
    assert found.unaccounted == 0
    assert found.wrong == 0
    if kind != "board":
        assert found.max_error is not None
        assert found.max_error < 0.07  # 1 step of int8 is 0.0625
        assert "SwiftShader" in found.device or "OpenVINO CPU (software)" in found.device
