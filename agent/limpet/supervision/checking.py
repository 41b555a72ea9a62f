"""The supervisor's end of a checker: starts one, and takes its answer."""

from __future__ import annotations

import logging
import socket
from time import monotonic
from typing import TYPE_CHECKING

from limpet.deployment.assignments import to_check
from limpet.errors import UnreadableError
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.records import LARGEST_RECORD, Check, Checked

if TYPE_CHECKING:
    from limpet.config import Config
    from limpet.supervision.forks import Forks

log = logging.getLogger(__name__)

CHECKING = 5.0
"""Seconds to wait for the answer."""


class Checking:
    """A check of the options in a configuration, which a process of its own does in a sandbox.

    Options of plugins are for plugins to understand, and those may read files.
    """

    def __init__(self, forks: Forks, wanted: Config) -> None:
        """Start the process. The caller can do other things before it asks for ``problems``."""
        self._error = ""
        self.number: int | None = None
        """The number of the fork, if there is one."""
        self._ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.number = forks.fork("check", Check(*to_check(wanted)), theirs)
            except OSError as error:
                self._error = error.strerror or str(error)

    def problems(self) -> list[str]:
        """Return all that is wrong. If the process fails or takes too long, nothing is known to be wrong."""
        with self._ours:
            until = monotonic() + CHECKING
            channel: Channel[Checked] = Channel(self._ours, Checked, largest=LARGEST_RECORD)
            try:
                # One that was taken over may send a byte now and then.
                while (left := until - monotonic()) > 0:
                    self._ours.settimeout(left)
                    for checked in channel.receive():
                        return [cleaned(problem) for problem in checked.problems]
                raise TimeoutError  # noqa: TRY301 - as ``receive`` does
            except (EOFError, TimeoutError, UnreadableError) as error:
                reason = self._error or str(error) or "it took too long"
                log.warning("the options are not checked: %s", reason)
                return []
