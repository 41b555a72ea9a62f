"""Pipelines that are taken out of the configuration while a model of theirs is on trial, with a real daemon."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from daemon.conftest import Configure, replay
from daemon.test_updates import COMMANDS, desired, made, order, runs, stage
from support.broker import wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path

OTHER = """
[pipelines.other]
source = "imu"
model = "dense.tflite"
decoder = { kind = "regress" }
"""


def test_a_pipeline_that_is_removed_on_trial_and_comes_back_is_like_any_other(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    config = configure(replay("imu"), COMMANDS, OTHER)
    whole = config.read_text()
    bundle = made(tmp_path, 1)
    endless = desired(bundle, 1, policy={"trial_windows": 1_000_000})
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        order(tmp_path, running, {"order": "update", "desired": endless}, bundle)
        wait_until(lambda: stage(consumer) == "trial" and runs(consumer, "motion"), 20)
        config.write_text(whole.replace(COMMANDS, ""))
        running.signal(signal.SIGHUP)
        wait_until(lambda: consumer.events("motion", "stopped"), 20)
        consumer.wait_results(
            "other", len(consumer.results("other")) + 150
        )  # The figures of the trial are old now.
        config.write_text(whole)
        running.signal(signal.SIGHUP)
        wait_until(lambda: runs(consumer, "dense"), 20)
        os.kill(running.pid_of("imu"), signal.SIGSEGV)
        wait_until(lambda: consumer.events("motion", "crashed"), 20)
        consumer.wait_results("motion", 5)
        order(tmp_path, running, {"order": "update", "desired": desired(bundle, 1)}, bundle)
        wait_until(lambda: stage(consumer) == "good", 20)
        assert running.stop() == 0
