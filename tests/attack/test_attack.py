"""The short form of ``make attack``: some attempts at each border, and what must never come of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attack import api_clients, brokers, bundles, cameras, commands, executors, state, workers
from attack.ground import ground
from attack.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attack.ground import Ground

SHORT: dict[str, Callable[[Ground], None]] = {
    "worker": lambda prepared: workers.run(
        prepared,
        [
            "read the password of the broker",
            "read and write the outbox",
            "use devices that its source does not declare",
            "change modes and times of files outside",
            "set limits and priorities of the supervisor",
            "garbage instead of a record",
            "a record announced as 4 GiB",
            "a histogram bucket of 99,999,999",
            "a result for the pipeline a/#",
            "a result for the pipeline of another worker",
            "a picture of its own pipeline, which takes none",
            "ten outputs of 50 MB",
            "1,600 file descriptors",
            "as a camera on the network, read files of others",
            "as a camera on the network, connect elsewhere",
            "as a camera of this machine, use other devices",
        ],
    ),
    "executor": lambda prepared: executors.run(
        prepared,
        ["read the password of the broker", "an output of 2^60 values"],
    ),
    "client": lambda prepared: commands.run(
        prepared,
        [
            "a payload with a key that is not UTF-8",
            "100,000 nested lists as a payload",
            "a window of 2^248 values",
            "a label that moves the cursor",
            "2^62 examples of a label",
            "an answer to x/#",
            "an answer to the device's status",
        ],
    ),
    "broker": lambda prepared: brokers.run(
        prepared, ["a topic of wildcards", "a message of 20 MB", "garbage instead of CONNACK"]
    ),
    "camera": lambda prepared: cameras.run(
        prepared,
        ["a redirection to the broker", "a description of 2 GB", "a picture with scans without end"],
    ),
    "local API": lambda prepared: api_clients.run(
        prepared,
        [
            "requests of another site with the session of a person",
            "500 connections",
            "shared memory of somebody else",
        ],
    ),
    "state": lambda prepared: state.run(prepared, ["boot.json that is not UTF-8", "a row for the pipeline a/#"]),
    "bundle": lambda prepared: bundles.run(
        prepared,
        [
            "an unknown decoder",
            "a window of 2^40 samples",
            "a spectrogram of 2^31 numbers",
            "a zip cut in half",
            "a model that crashes the runtime when it is loaded",
        ],
    ),
    "store": lambda prepared: bundles.run_newer(
        prepared,
        ["a model with the wrong hash", "a model that crashes the runtime when it is loaded"],
    ),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("border", SHORT)
def test_no_border_gives_way(border: str, tmp_path: Path) -> None:
    report = Report()
    with ground(tmp_path / border, report) as prepared:
        SHORT[border](prepared)
    assert report.attempts
    assert not report.harmful()
    assert report.holds(), report.totals()
