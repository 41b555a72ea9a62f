"""Attempts of an executor that was taken over by a library: at its worker, and at the kernel around it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from attack.ground import PLUGIN
from attack.workers import ESCAPES, proof
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from attack.ground import Ground
    from attack.report import Attempt

sys.path.insert(0, str(PLUGIN))

import attacker_executor

CHANNEL = "the executor's channel"
SANDBOX = "the executor's sandbox"
ATTEMPTS = list(attacker_executor.ATTEMPTS)
BAD = ("crashed", "degraded", "failed")
PREFIX = "executor: "
DELEGATE = """
[delegates.{name}]
kind = "external"
library = "{library}"
options = {{ attempt = "{attempt}", target = "{target}" }}
"""
PIPELINE = """
[sources.{name}]
kind = "replay"
path = "recording.csv"
rate = 20
loop = true

[pipelines.{name}]
source = "{name}"
model = "evil.tflite"
delegates = ["{name}"]
least_speed = 0.0
opening = 2.0
deadline = 3.0
decoder = {{ kind = "regress" }}
"""
PATIENCE = 10.0


def run(ground: Ground, names: Iterable[str] | None = None) -> None:
    """Make these attempts, all if none are named. Delegates are configured first: a change restarts all."""
    library, target = _build(ground.folder), str(ground.folder).encode().hex()
    wanted = names or [*ESCAPES, *ATTEMPTS]
    attempts = {f"e{number}": PREFIX + name for number, name in enumerate(wanted)}
    delegates = "".join(
        DELEGATE.format(name=name, attempt=title.encode().hex(), target=target, library=library)
        for name, title in attempts.items()
    )
    ground.reload(delegates)
    for name, title in attempts.items():
        escape = title.removeprefix(PREFIX) in ESCAPES
        with ground.attempt(title, SANDBOX if escape else CHANNEL) as attempt:
            ground.spy.pipelines.add(name)
            ground.reload(delegates, PIPELINE.format(name=name))
            _watch(ground, attempt, name, escape=escape)


def _build(folder: Path) -> Path:
    library, source = folder / "libhostile.so", PLUGIN / "hostile_delegate.c"
    command = [os.environ.get("CC", "cc"), "-std=c11", "-O1", "-Wall", "-Wextra", "-fPIC", "-shared"]
    subprocess.run([*command, "-o", library, source], check=True, timeout=60)
    return library


def _watch(ground: Ground, attempt: Attempt, name: str, *, escape: bool) -> None:
    """Wait until the attempt is over, and the pipeline runs all the same."""

    def over() -> bool:
        seen = ground.seen(attempt.name)
        return ("unread" in seen and bool(ground.spy.results(name))) or not ground.alive()

    with contextlib.suppress(AssertionError):
        wait_until(over, PATIENCE)
    seen = ground.seen(attempt.name)
    attempt.reached = proof(seen, "", "its worker", escape=escape)
    if not attempt.reached and seen.get("begun"):
        attempt.reached = "the executor was ended while it did it"
    events = [event for event in ground.spy.said(f"event/{name}") if event["event"] in BAD]
    attempt.happened = "; ".join(f"{event['event']}: {event['reason']}" for event in events[:2])
    attempt.happened = attempt.happened or str(seen.get("error") or seen.get("said") or "nothing")
    attempt.harmed("escaped", str(seen.get("said")).startswith("ESCAPED"))
    attempt.harmed("others_lost", any(event["event"] in ("crashed", "failed") for event in events))
