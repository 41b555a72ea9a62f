"""A real daemon whose pipelines have a cascade, a gate, a cache and early exit, in the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.doctor.check import inspect
from limpet.models import deployed
from support import bundles, models
from support.broker import wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.conftest import Configure

CONFIG = """
[sources.played]
kind = "replay"
path = "rows.csv"
speed = "flat-out"

[pipelines.both]
source = "played"
model = "large"
cascade = { model = "light", margin = 0.5 }
gate = {}
cache = {}

[pipelines.rounds]
source = "played"
model = "large"
early_exit = { windows = 4, confidence = 0.9 }
"""
ROWS = [(5, 0, 0), (5, 0, 0), (0, 0.2, 0), (0, 0, 5)] * 4


def put(folder: Path, name: str, gain: float) -> None:
    """Put a bundle into the store whose model gives its three inputs times ``gain`` as scores."""
    store = folder / "state" / "models"
    store.mkdir(parents=True, exist_ok=True)
    model = models.perceptron(folder / "model.tflite", [(np.eye(3) * gain, np.zeros(3))])
    members = {"model.tflite": model.read_bytes(), "labels.txt": b"one\ntwo\nthree"}
    said: dict[str, Any] = {
        "name": name,
        "version": 1,
        "labels": "labels.txt",
        "decoder": {"kind": "classify", "activation": "softmax"},
    }
    bundles.bundle(store / f"{name}-1.limpet", members, **said)


def test_both_models_of_a_cascade_run_in_the_sandbox_and_health_has_what_was_saved(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    put(tmp_path, "large", 4.0)
    put(tmp_path, "light", 1.0)
    (tmp_path / "rows.csv").write_text("x,y,z\n" + "".join(f"{x},{y},{z}\n" for x, y, z in ROWS))
    path = configure(CONFIG)
    found = inspect(deployed.read_config(path))
    assert (found.problems, found.warnings) == ([], [])
    with daemon(path) as running:
        wait_until(lambda: consumer.events("both", "finished") and consumer.events("rounds", "finished"))
        wait_until(lambda: (consumer.last("health/both") or {}).get("savings"))
        wait_until(lambda: (consumer.last("health/rounds") or {}).get("savings"))
        assert running.stop() == 0
    results = consumer.results("both")
    assert [one["model"] for one in results] == ["light", "light", "large", "light"] * 4
    assert [one["output"]["label"] for one in results] == ["one", "one", "two", "three"] * 4
    assert {one["degraded"] for one in results} == {False}
    savings = (consumer.last("health/both") or {})["savings"]
    counts = {name: (one["windows"], one["spared"]) for name, one in savings.items()}
    assert counts == {"gate": (16, 4), "cache": (12, 9), "cascade": (3, 2)}
    assert all(one["cost_s"] >= 0 and one["saved_s"] >= 0 for one in savings.values())
    assert [one["sample"] for one in consumer.results("rounds")] == [0, 4, 8, 12]
    (rounds,) = (consumer.last("health/rounds") or {})["savings"].values()
    assert (rounds["windows"], rounds["spared"]) == (16, 12)


def test_check_says_that_a_cascade_has_no_light_model(configure: Configure, tmp_path: Path) -> None:
    put(tmp_path, "large", 4.0)
    (tmp_path / "rows.csv").write_text("x,y,z\n5,0,0\n")
    found = inspect(deployed.read_config(configure(CONFIG)))
    assert not found.problems
    (warning,) = found.warnings
    assert "skipped the light model of the cascade: " in warning
