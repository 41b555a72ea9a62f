"""Drift of one channel in the running daemon: the event that says so, and health."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limpet.contracts.monitor import Observed
from limpet.contracts.reference import FeatureReference, Reference
from limpet.monitors import univariate
from support import bundles, models
from support.broker import wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.conftest import Configure

NORMAL, DRIFTED = 4000, 6000
CHANNELS = ["ax", "ay", "az"]
CONFIG = """
[sources.played]
kind = "replay"
path = "rows.csv"
speed = "flat-out"

[pipelines.motion]
source = "played"
model = "motion-7.limpet"
monitors = { share = 1.0 }
"""


def rows() -> np.ndarray:
    return np.random.default_rng(3).normal([0, 0, 9.8], 0.3, (NORMAL + DRIFTED, 3)).astype(np.float32)


def reference(values: np.ndarray) -> Reference:
    features = [
        FeatureReference(
            name=f"{name}.mean",
            channel=name,
            mean=float(column.mean()),
            std=float(column.std()),
            quantiles=np.quantile(column, np.linspace(0, 1, 33)).tolist(),
            effective=len(column),
        )
        for name, column in zip(CHANNELS, values.T, strict=True)
    ]
    made = Reference(windows=len(values), features=features)
    nothing = np.full(len(values), -1, np.int32)
    observed = Observed(values, nothing.astype(np.float32), nothing, None, np.arange(len(values)))
    made.thresholds = {"univariate": univariate.calibrate(univariate.Config(), observed, made, 1e-8)}
    return made


def test_drift_is_an_event_that_says_what_moved_and_is_in_health(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    played = rows()
    members = {
        "model.tflite": models.dense(tmp_path / "m.tflite", inputs=3, outputs=3).read_bytes(),
        "reference.json": msgspec.json.encode(reference(played[:NORMAL])),
    }
    bundles.bundle(
        tmp_path / "motion-7.limpet",
        members,
        version=7,
        reference="reference.json",
        decoder={"kind": "regress"},
        inputs=[{"name": "input", "shape": [1, 3], "dtype": "float32", "channels": CHANNELS}],
    )
    played[NORMAL:, 1] += 2
    np.savetxt(tmp_path / "rows.csv", played, "%.5f", ",", header=",".join(CHANNELS), comments="")
    with daemon(configure(CONFIG)) as running:
        wait_until(lambda: consumer.events("motion", "finished"))
        (new,) = [event for event in consumer.events("motion", "drift") if event["details"]["type"] == "new"]
        assert new["details"]["monitor"] == "univariate"
        assert new["details"]["moved"][0]["name"] == "ay.mean"
        assert "ay.mean moved from" in new["reason"]
        health = consumer.last("health/motion")["monitors"]
        assert health["windows"] > NORMAL / 4
        assert health["monitors"]["univariate"]["alarm"]["moved"] != []
        assert set(health["sketches"]) == {"ax.mean", "ay.mean", "az.mean"}
        assert running.stop() == 0
