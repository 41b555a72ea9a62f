"""The command that runs a fork server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_START = (
    "import sys; *given, modules, children = sys.argv[1:]; sys.path[:] = given[2:]; "
    "from limpet.fork.server import main; main([*given[:2], modules, children])"
)
"""Has the modules of this process. ``python -m`` would look in the working directory first, and the sandbox of
every worker would leave that folder open: for a service it is ``/``."""


def command(parent: int, fd: int, modules: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a fork server, but for the last argument: its children's process ids.

    They have commas between them, and there are some only after a rest. ``parent``: process id of the supervisor.
    ``fd``: the socket to it. ``modules``: what to import.
    """
    return [sys.executable, "-c", _START, str(parent), str(fd), *filter(None, sys.path), ",".join(modules)]
