"""A checker: a short-lived process that finds what is wrong with the options that a person wrote.

Its answer can end the daemon, so it sees no sensor, no model and no bundle. Options are for plugins to understand,
and a plugin may read a file to do so, such as the first line of a recording: that happens in a sandbox.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from limpet.errors import ConfigError
from limpet.inference import needs
from limpet.inference.planning import options_of, plan_source, source_plugin
from limpet.isolation import sandbox
from limpet.isolation.permissions import Permissions
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.records import MOST_PROBLEMS, Checked

if TYPE_CHECKING:
    import socket

    from limpet.config import Config
    from limpet.wire.records import Check

PATIENCE = 10
"""Seconds after which the kernel ends a check that hangs."""


def run(end: socket.socket, task: Check) -> None:
    """Find what is wrong, and send it."""
    signal.alarm(PATIENCE)
    supervisor: Channel[Any] = Channel(end, Checked)
    problems = problems_of(task.config)[:MOST_PROBLEMS]
    supervisor.send(Checked([cleaned(problem) for problem in problems]))


def problems_of(wanted: Config) -> list[str]:
    """Return all that is wrong. Enters a sandbox for ever."""
    problems: list[str] = []
    read: set[Any] = set()
    used = sorted({pipeline.source for pipeline in wanted.pipelines.values()})
    sound = []
    for name in used:
        try:
            read |= needs.of_description(wanted, name, source_plugin(wanted, name))
        except ConfigError as error:
            problems += error.problems
        else:
            sound.append(name)
    for name in wanted.pipelines:
        problems += options_of(wanted, name)
    sandbox.enter(Permissions(frozenset(read)))
    for name in sound:
        try:
            plan_source(wanted, name)
        except ConfigError as error:
            problems += error.problems
    return problems
