"""How the daemon starts: read and check the configuration, claim the state directory, supervise."""

from __future__ import annotations

import logging
import selectors
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING

from limpet import __version__, config
from limpet.audit.entry import What
from limpet.audit.journal import Journal
from limpet.contracts.messages import Origin
from limpet.delivery.reporters import inspect
from limpet.device import boot
from limpet.device.state_files import give_to_owner
from limpet.errors import ConfigError
from limpet.isolation import closed_memory
from limpet.models import deployed
from limpet.models.history import History
from limpet.supervision import learning
from limpet.supervision.fleet import Fleet
from limpet.supervision.reloads import placed
from limpet.supervision.roster import Roster
from limpet.supervision.supervisor import Memory, Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.config import Config
    from limpet.fork.launch import ForkServerProcess
    from limpet.supervision.supervisor import Attendance

log = logging.getLogger(__name__)


def supervise(path: Path, launched: ForkServerProcess, attendance: Attendance) -> dict[str, str]:
    """Run a configuration file until SIGTERM or SIGINT, or until ``attendance`` ends it.

    Return the reasons of pipelines that have failed. ``ConfigFileError`` if the file cannot be used.
    """
    with ExitStack() as stack:
        stack.callback(launched.close)
        closed_memory.close_memory()
        stack.enter_context(_in_file(path))
        damaged: list[str] = []
        wanted = _read(path, launched)
        stack.callback(give_to_owner, wanted.device.state)
        claim = boot.lock(wanted.device.state, damaged.append)
        if claim:
            stack.enter_context(claim)
        with suppress(OSError):  # A worker can read what comes into the store later only if the store exists.
            wanted.models.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # As with the store. What is there instead of a folder is set aside.
            deployed.make_folder(wanted.device.state)
        origin = Origin(wanted.device.id, boot.next_boot(wanted.device.state, damaged.append), __version__)
        log.info("limpet %s starts as %s, boot %s", origin.version, origin.device, origin.boot)
        state = wanted.device.state
        kept = deployed.kept(state, damaged.append)
        journal = Journal(state, origin.boot)
        journal.record("start", What(reason=f"limpet {origin.version} as {origin.device}"))
        learned = learning.read(state, damaged.append)
        memory = Memory(Roster(state, damaged.append), History(state, damaged.append), journal, kept, learned)
        return Supervisor(path, wanted, origin, launched, memory).run(attendance, damaged)


@contextmanager
def _in_file(path: Path) -> Iterator[None]:
    """Give problems of a configuration their place in its file."""
    try:
        yield
    except ConfigError as error:
        raise placed(path, error) from error


def _read(path: Path, launched: ForkServerProcess) -> Config:
    """Read a configuration file. If its form is wrong, ``ConfigError`` has what is wrong with its options, too."""
    _, tables = config.parse(path)
    read = config.examine(tables, path.absolute().parent)
    if not read.problems:
        return read.config
    problems = [*read.problems, *inspect(read.config, complete=read.no_reporter).problems]
    with selectors.PollSelector() as selector, ExitStack() as stack:
        fleet = Fleet(selector, launched, lambda _cell, _record: None)
        stack.callback(fleet.close)
        checking = fleet.check(read.config, wrong=read.wrong)
        while not checking.options_checked:
            for key, _ in selector.select(max(0.0, fleet.next_due() - monotonic())):
                key.data()
            fleet.tend()
    raise ConfigError([*problems, *checking.problems])
