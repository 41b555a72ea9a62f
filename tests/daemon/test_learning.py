"""A model that learns in the running daemon: what it finds, what it keeps, and what takes over from it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np

from daemon.conftest import Configure, replay
from limpet.commands import _channels, _starter
from limpet.runtimes import mahalanobis
from support import bundles, shuttle
from support.broker import wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

LEARNED_FROM = 2000
SHUTTLE = """
[sources.played]
kind = "replay"
path = "shuttle.csv"
speed = "flat-out"

[pipelines.machine]
source = "played"
model = "machine"
"""
MACHINE = """
[pipelines.machine]
source = "left"
model = "machine"
"""


def put_starter(folder: Path, channels: list[str], **learn: Any) -> None:
    store = folder / "state" / "models"
    store.mkdir(parents=True, exist_ok=True)
    options = mahalanobis.Options(shape=[1, len(channels)], **learn)
    content = _starter.packed("machine", channels, _channels.window(None, len(channels)), options)
    (store / "machine-0.limpet").write_bytes(content)


def learned(consumer: Consumer) -> list[float]:
    return [result["output"]["learned"] for result in consumer.results("machine")]


def test_it_finds_anomalies_in_telemetry_after_learning_from_some_with_anomalies(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    lines, anomalous = shuttle.rows(6000)
    (tmp_path / "shuttle.csv").write_text("\n".join([",".join(shuttle.CHANNELS), *lines, ""]))
    assert 0.05 < anomalous[:LEARNED_FROM].mean() < 0.1
    put_starter(tmp_path, shuttle.CHANNELS, windows=LEARNED_FROM)
    with daemon(configure(SHUTTLE)):
        wait_until(lambda: consumer.events("machine", "finished"))
        wait_until(lambda: len(consumer.results("machine")) == len(anomalous))
    assert (consumer.last("health/machine") or {})["version"] == 0
    assert len(consumer.events("machine", "learned")) == 1
    first, later = np.split([result["output"] for result in consumer.results("machine")], [LEARNED_FROM])
    assert all(output["untrained"] and not output["anomalous"] for output in first)
    assert not any(output["untrained"] for output in later)
    assert {output["learned"] for output in later} == {1.0}
    labels = anomalous[LEARNED_FROM:]
    assert shuttle.area_of_results(consumer.results("machine"), anomalous) >= 0.95
    alarms = np.array([output["anomalous"] for output in later])
    assert alarms[labels].mean() > 0.9
    assert alarms[~labels].mean() < 0.02


def test_what_it_learned_survives_kill_and_restart_and_a_damaged_file_means_learning_again(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    put_starter(tmp_path, ["ax", "ay", "az"], seconds=20)
    file = tmp_path / "state" / "learned" / "machine" / mahalanobis.FILE
    with daemon(configure(replay("left", 1000), MACHINE)) as running:
        wait_until(file.is_file)
        kept = learned(consumer)[-1]
        assert kept > 0
        os.kill(running.pid_of("left"), signal.SIGKILL)
        wait_until(lambda: len(consumer.events("machine", "running")) == 2)
        seen = len(learned(consumer))
        wait_until(lambda: len(learned(consumer)) > seen)
        assert min(learned(consumer)[seen:]) >= 0.04
        assert not consumer.events("machine", "warning")
        running.stop()
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        running.start()
        wait_until(lambda: consumer.events("machine", "warning"))
        (event,) = consumer.events("machine", "warning")
        assert "checksum" in event["reason"]
        assert "learns again" in event["reason"]
        wait_until(lambda: learned(consumer)[-1] < 0.04)


def test_a_trained_version_takes_over_without_a_lost_sample(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    put_starter(tmp_path, ["ax", "ay", "az"], windows=100)
    trained = tmp_path / "state" / "models" / "machine-1.limpet"
    model = {"model.tflite": (tmp_path / "dense.tflite").read_bytes()}
    bundles.bundle(trained, model, name="machine", version=1, decoder={"kind": "anomaly", "threshold": 1.0})
    with daemon(configure(replay("left", 500), MACHINE)) as running:
        wait_until(lambda: consumer.results("machine"))
        assert "untrained" not in consumer.results("machine")[-1]["output"]
        worker = running.pid_of("left")
        trained.rename(tmp_path / "aside")
        running.signal(signal.SIGHUP)
        wait_until(lambda: consumer.results("machine")[-1]["output"].get("untrained") is False)
        assert running.pid_of("left") != worker  # only this one may write what it learns
        assert (tmp_path / "state" / "learned" / "machine" / mahalanobis.FILE).is_file()
        before = len(consumer.results("machine"))
        (tmp_path / "aside").rename(trained)
        running.signal(signal.SIGHUP)
        wait_until(lambda: consumer.results("machine")[-1]["version"] == 1)
        consumer.wait_results("machine", len(consumer.results("machine")) + 20)
    later = consumer.results("machine")[before:]
    samples = [result["sample"] for result in later]
    assert samples == list(range(samples[0], samples[0] + len(samples)))
    assert [result["version"] for result in later] == sorted(result["version"] for result in later)
