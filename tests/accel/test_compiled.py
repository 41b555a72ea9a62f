"""LiteRT's real GPU and NPU accelerators in the real daemon, beside the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accel import compiled

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("kind", "device"),
    [
        pytest.param(kind, device, marks=pytest.mark.skipif(bool(reason), reason=reason))
        for kind, device, reason in (
            ("gpu", "SwiftShader", compiled.ABSENT["gpu"]),
            ("npu", "OpenVINO CPU (software)", compiled.ABSENT["npu"]),
        )
    ],
)
def test_it_runs_right_and_says_where(kind: str, device: str, tmp_path: Path) -> None:
    row = compiled.run(kind, tmp_path)
    assert row["ran"], row["reason"]
    assert row["max_error"] < 0.05
    assert row["lost_windows"] == 0
    assert row["placement"]["op_share"] == 1.0
    assert row["placement"]["sandbox"]
    assert device in row["placement"]["device"]
