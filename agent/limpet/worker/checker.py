"""A checker: a short-lived process that finds what is wrong with the options that a person wrote.

Its answer can end the daemon, so it sees no sensor, no model and no bundle. Only a plugin can check its options.
It may read a file for that, such as the first line of a recording, so it runs in a sandbox.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from limpet.errors import ConfigError
from limpet.inference import needs
from limpet.inference.planning import plan_source, problems_of_options, source_plugin
from limpet.isolation import sandbox
from limpet.isolation.permissions import Permissions
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.fork_records import MOST_PROBLEMS, Checked

if TYPE_CHECKING:
    import socket

    from limpet.wire.fork_records import Check

PATIENCE = 10
"""Seconds after which the kernel ends a check that hangs."""


def run(end: socket.socket, task: Check) -> None:
    """Find what is wrong, and send it."""
    signal.alarm(PATIENCE)
    supervisor: Channel[Any] = Channel(end, Checked)
    problems = problems_of(task)[:MOST_PROBLEMS]
    supervisor.send(Checked([cleaned(problem) for problem in problems]))


def problems_of(task: Check) -> list[str]:
    """Return all problems. Enters a sandbox and never leaves it."""
    problems: list[str] = []
    read: set[Any] = set()
    assignment = task.assignment
    sound = []
    for name in assignment.sources:
        try:
            read |= needs.of_description(assignment.folders, name, source_plugin(assignment, name))
        except ConfigError as error:
            problems += error.problems
        else:
            sound.append(name)
    for name, options in task.pipelines.items():
        problems += problems_of_options(assignment, name, options)
    sandbox.enter(Permissions(frozenset(read)))
    for name in sound:
        try:
            plan_source(assignment, name)
        except ConfigError as error:
            problems += error.problems
    return problems
