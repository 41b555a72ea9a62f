"""Attempts of a worker that was taken over: at its channel to the supervisor, and at the kernel around it."""

from __future__ import annotations

import contextlib
import sys
from itertools import count
from typing import TYPE_CHECKING

from attack.ground import PLUGIN
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attack.ground import Ground
    from attack.report import Attempt

sys.path.insert(0, str(PLUGIN))

import attacker_escapes
import attacker_expansions
import attacker_floods
import attacker_records
import attacker_sensors
import attacker_user

CHANNEL = "the worker's channel"
SANDBOX = "the worker's sandbox"
RECORDS = [*attacker_records.ATTEMPTS, *attacker_expansions.ATTEMPTS]
FLOODS = list(attacker_floods.ATTEMPTS)
ESCAPES = [*attacker_escapes.ATTEMPTS, *attacker_user.ATTEMPTS, *attacker_sensors.ATTEMPTS]
POISON = ("a/#", "NUL", "70,000", "+", "../..", "surrogate", "names", "year", "NaN", "without a name")
"""Words in the names of attempts after which the daemon is killed and started again: they may have left poison."""
REFUSALS = ("EPERM", "EACCES", "PermissionError", "Errno 38", "ENOSYS", "Errno 27", "FileTooLarge", "Errno 1]")
SOURCE = """
[sources.{name}]
kind = "attacker"
attempt = {attempt}
target = {target}
{keys}

[pipelines.{name}]
source = "{name}"
model = "evil.tflite"
deadline = 2.0
decoder = {{ kind = "regress" }}
adapt = {{ offsets = {{ windows = 10 }} }}
"""
PATIENCE = 12.0
_numbers = count(1)


def run(ground: Ground, names: Iterable[str]) -> None:
    """Make these attempts one after another, each by a worker of its own."""
    for name in names:
        escape = name in ESCAPES
        poison = any(word in name for word in POISON) and not escape
        with ground.attempt(name, SANDBOX if escape else CHANNEL, restart=poison) as attempt:
            _take_over(ground, attempt, escape=escape)


def _take_over(ground: Ground, attempt: Attempt, *, escape: bool) -> None:
    source = f"a{next(_numbers)}"
    ground.spy.pipelines.add(source)
    keys = attacker_sensors.KEYS.get(attempt.name, "")
    target = _quoted(str(ground.folder))
    ground.reload(SOURCE.format(name=source, attempt=_quoted(attempt.name), target=target, keys=keys))

    def over() -> bool:
        seen = ground.seen(attempt.name)
        return "unread" in seen or _crashed(ground, source) != "" or not ground.alive()

    with contextlib.suppress(AssertionError):
        wait_until(over, PATIENCE)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: _crashed(ground, source) or ground.daemon.process.poll() is not None, 0.3)
    seen, crashed = ground.seen(attempt.name), _crashed(ground, source)
    attempt.reached = proof(seen, crashed, "the supervisor", escape=escape)
    attempt.happened = crashed or str(seen.get("error") or seen.get("said") or "taken, to no effect")
    if str(seen.get("said")).startswith("ESCAPED"):
        attempt.harmed("escaped")


def _crashed(ground: Ground, source: str) -> str:
    return next(
        (event["reason"] for event in ground.spy.said(f"event/{source}") if event["event"] == "crashed"), ""
    )


def proof(seen: dict[str, object], crashed: str, reader: str, *, escape: bool) -> str:
    """Return how it is known that the attempt got to its border."""
    if escape:
        return "the kernel answered" if "said" in seen or "error" in seen else ""
    if seen.get("unread") == 0:
        return f"{reader} read every byte"
    if crashed and seen.get("begun"):
        return "the supervisor ended the worker"
    if seen.get("begun") and seen.get("error"):
        return f"{reader} closed the channel"
    return ""


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
