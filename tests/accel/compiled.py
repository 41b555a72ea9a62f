"""LiteRT's own accelerators in the real daemon: ``python -m accel.compiled gpu`` or ``npu`` says what came of it.

The GPU is SwiftShader's, the NPU is Intel's dispatch on OpenVINO's CPU device: no speed is to be had from either.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accel import phases
from support import models
from support.accel import NO_GPU, NO_NPU, swiftshader
from support.broker import wait_until
from support.daemon import daemon

DELEGATES = {"gpu": "", "npu": '[delegates.npu]\noptions = { graph_backend = "cpu" }\n'}
ABSENT = {"gpu": NO_GPU or ("" if find_spec("ai_edge_litert") else "ai-edge-litert is absent"), "npu": NO_NPU}


def run(kind: str, folder: Path) -> dict[str, Any]:
    """Run a pipeline on ``kind`` beside one on the CPU, and compare."""
    with phases.board(folder, Path("unused")) as (path, _, consumer):
        models.dense(folder / "dense.tflite", inputs=3, outputs=3, layers=2, int8=False)
        text = path.read_text().replace('delegates = ["board"]', f'delegates = ["{kind}"]')
        path.write_text(text.replace("opening = 1.5", "") + DELEGATES[kind])
        with daemon(path, swiftshader() if kind == "gpu" else None) as running:
            wait_until(lambda: len(phases.on(consumer, kind)) >= 100 or _refused(consumer, kind), 100)
            wait_until(lambda: consumer.last("health/fast")["placement"] or not phases.on(consumer, kind))
            running.stop()
        ran = phases.on(consumer, kind)
        return {
            "ran": bool(ran),
            "max_error": max(phases.difference(consumer, ran), default=None),
            "placement": consumer.last("health/fast")["placement"],
            "lost_windows": phases.lost(consumer.results("fast")),
            "reason": "" if ran else consumer.events("fast", "degraded")[-1]["reason"],
        }


def _refused(consumer: Any, kind: str) -> bool:
    reasons = [event["reason"] for event in consumer.events("fast", "degraded")]
    return any(kind in reason and "still being opened" not in reason for reason in reasons)


if __name__ == "__main__":
    wanted = sys.argv[1]
    if ABSENT[wanted]:
        print(json.dumps({"ran": False, "max_error": None, "placement": None, "reason": ABSENT[wanted]}))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(run(wanted, Path(scratch))))
