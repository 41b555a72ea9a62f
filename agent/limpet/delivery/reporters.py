"""The reporters of a configuration, opened and closed as it changes. Each reads the bus at its own pace."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from limpet import plugins
from limpet.config import ReporterTable
from limpet.contracts.reporter import Reporter, ReporterContext
from limpet.delivery.bus import Cursor
from limpet.device import directories, state_files
from limpet.errors import ConfigError, NoAccessError
from limpet.filling import fill
from limpet.wording import below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.config import Config
    from limpet.contracts.deliveries import Deliveries
    from limpet.contracts.messages import Origin
    from limpet.contracts.reporter import Command
    from limpet.delivery.bus import Bus

log = logging.getLogger(__name__)

PATIENCE = 15.0
"""Seconds that a reporter may take to close. The daemon then goes on without it."""
NO_REPORTER = "no reporter: add [mqtt] with a url, or [jsonl]; without one, no result leaves the device"
RETRY = 5.0
"""Seconds between two attempts to open a reporter again that should be open."""


class _Settings(msgspec.Struct):
    """What a reporter is to be: its table, the module of its kind, and that module's filled ``Config``."""

    name: str
    table: ReporterTable
    module: Any
    options: Any


class _Opened(msgspec.Struct):
    """A reporter that is open, and how to close it."""

    reporter: Reporter
    stack: ExitStack


class _Consumer(msgspec.Struct):
    """A reporter of the configuration. Its cursor stays while it is closed and opened again.

    ``opened`` is ``None`` while it cannot be opened: ``error`` says why, ``retry_at`` when it is tried again.
    ``missed`` is what it had missed at the last look; ``behind``: since then it has not caught up.
    """

    settings: _Settings
    cursor: Cursor
    opened: _Opened | None = None
    error: str = ""
    retry_at: float = 0.0
    missed: int = 0
    behind: bool = False


class Reporters:
    """The reporters, by name. ``state`` is the device's state directory. ``obey`` gets a reporter's name, too.

    ``adopt`` may run in its own thread. Meanwhile only ``health`` and ``connected`` may be called.
    """

    def __init__(  # noqa: PLR0913 - what each reporter gets
        self,
        origin: Origin,
        state: Path,
        bus: Bus,
        obey: Callable[[str, Command], None] | None,
        deliveries: Deliveries,
        *,
        patience: float = PATIENCE,
    ) -> None:
        self._origin = origin
        self._state = state
        self._bus = bus
        self._obey = obey
        self._deliveries = deliveries
        self._patience = patience
        self._consumers: dict[str, _Consumer] = {}

    def adopt(self, wanted: Config) -> None:
        """Open, close or reopen until what is open is what is wanted. What did not change is left alone.

        If an error is raised, all is as it was before: new reporters are opened first. A reporter with changed
        options is checked first, then closed and opened again. The old and the new one cannot share an outbox or a
        client id. If it cannot be opened, the old one is opened again.
        """
        found = resolve(wanted)
        changed = {name: one for name, one in found.items() if self._has_changed(one)}
        for one in changed.values():
            with _named(one):
                plugins.optional(one.module, "check", _nothing_to_check)(one.options)
        with ExitStack() as undo:
            for name, one in found.items():
                if name not in self._consumers:
                    self._consumers[name] = _Consumer(one, self._bus.subscribe())
                    undo.callback(self._remove, name)
                    self._open(self._consumers[name])
            for name, one in changed.items():
                consumer = self._consumers[name]
                undo.callback(self._return_to, consumer, consumer.settings)
                self._close(consumer)
                consumer.settings = one
                self._open(consumer)
            undo.pop_all()
        for name in self._consumers.keys() - found.keys():
            self._remove(name)

    def tend(self) -> None:
        """Try again to open reporters that could not be opened again."""
        for consumer in self._consumers.values():
            if consumer.opened is None and consumer.retry_at <= monotonic():
                self._reopen(consumer)

    def connected(self) -> bool:
        """Whether all reporters can send."""
        reporters = [consumer.opened for consumer in list(self._consumers.values())]
        return all(opened and opened.reporter.health().get("connected", True) for opened in reporters)

    def undelivered(self) -> int:
        """Return how many messages reporters have not taken yet, or keep to be sent."""
        health = self.health().values()
        return sum(one["waiting"] + one.get("outbox_depth", 0) for one in health)

    def health(self) -> dict[str, dict[str, Any]]:
        """Return each reporter's figures: its own, and those of its place on the bus."""
        return {name: self._health(name, consumer) for name, consumer in list(self._consumers.items())}

    def close(self) -> None:
        """Let each send what it can, all at the same time, and close it."""
        self._close(*self._consumers.values())
        for name in list(self._consumers):
            self._remove(name)

    # --- one reporter

    def _has_changed(self, one: _Settings) -> bool:
        consumer = self._consumers.get(one.name)
        if consumer is None:
            return False
        before = consumer.settings.table
        same = (before.kind, before.options) == (one.table.kind, one.table.options)
        return consumer.opened is None or not same

    def _open(self, consumer: _Consumer) -> None:
        settings = consumer.settings
        consumer.cursor = self._bus.reopen(consumer.cursor)
        state = directories.reporter(self._state, settings.name)
        context = ReporterContext(
            name=settings.name,
            origin=self._origin,
            state=state,
            runtime=_runtime_folder(settings.name) or state,
            feed=consumer.cursor,
            obey=partial(self._obey, settings.name) if self._obey else None,
            deliveries=self._deliveries,
        )
        stack = ExitStack()
        with _named(settings):
            reporter = stack.enter_context(settings.module.open(settings.options, context))
        consumer.opened, consumer.error = _Opened(reporter, stack), ""

    def _close(self, *consumers: _Consumer) -> None:
        """Let reporters send what they can, at the same time, and close them. Those that hang are left behind."""
        until = monotonic() + self._patience
        threads: list[tuple[str, Thread]] = []
        for consumer in consumers:
            opened, consumer.opened = consumer.opened, None
            if opened is not None:
                name = consumer.settings.name
                threads.append(
                    (name, Thread(target=_leave, args=(name, opened), name=f"close {name}", daemon=True))
                )
                threads[-1][1].start()
        for name, thread in threads:
            thread.join(max(0.0, until - monotonic()))
            if thread.is_alive():
                log.error("the reporter %r does not close; going on without it", name)

    def _return_to(self, consumer: _Consumer, before: _Settings) -> None:
        """Open a reporter again as it was."""
        self._close(consumer)
        consumer.settings = before
        self._reopen(consumer)

    def _reopen(self, consumer: _Consumer) -> None:
        """Open a reporter again. If even that fails, its cursor waits."""
        name, failed_before = consumer.settings.name, consumer.error
        try:
            self._open(consumer)
        except Exception as error:
            if not failed_before:
                log.exception("the reporter %r cannot be opened again; its messages wait", name)
            consumer.error, consumer.retry_at = str(error), monotonic() + RETRY
        else:
            log.warning(
                "the reporter %r is open again; %d messages waited, %d were missed",
                name,
                consumer.cursor.uncommitted,
                consumer.cursor.missed,
            )

    def _remove(self, name: str) -> None:
        """Close a reporter, never to open it again. What it did not take from the bus is lost, and is logged."""
        consumer = self._consumers.pop(name)
        self._close(consumer)
        if lost := self._bus.close(consumer.cursor):
            reason = f": {consumer.error}" if consumer.error else ""
            log.error("%d messages for the reporter %r are lost%s", lost, name, reason)

    def _health(self, name: str, consumer: _Consumer) -> dict[str, Any]:
        _log_loss(name, consumer)
        opened = consumer.opened
        own = opened.reporter.health() if opened else {"last_error": consumer.error}
        cursor = consumer.cursor
        kind = consumer.settings.table.kind
        return {"kind": kind, **own, "waiting": cursor.uncommitted, "missed": cursor.missed}


def _nothing_to_check(_options: Any) -> None:
    """Stand in for a reporter without ``check``."""


def _nothing_exclusive(_options: Any, _name: str, _device: str) -> list[str]:
    """Stand in for a reporter without ``exclusive``."""
    return []


def _leave(name: str, opened: _Opened) -> None:
    try:
        opened.stack.close()
    except Exception:
        log.exception("the reporter %r failed while it was closed", name)


def _log_loss(name: str, consumer: _Consumer) -> None:
    """Log once that messages are dropped before a reporter reads them, until it has read everything."""
    missed = consumer.cursor.missed
    if missed > consumer.missed and not consumer.behind:
        consumer.behind = True
        log.error("the reporter %r is too slow: the oldest messages are dropped before it reads them", name)
    elif not consumer.cursor.uncommitted:
        consumer.behind = False
    consumer.missed = missed


def _runtime_folder(name: str) -> Path | None:
    """Return a reporter's folder in the runtime directory. What is there and is no folder is set aside."""
    if (runtime := directories.runtime()) is None:
        return None
    folder = directories.reporter(runtime, name)
    for each in (folder.parent, folder):
        with suppress(OSError):
            if state_files.is_irregular_folder(each):
                state_files.set_aside(each)
    return folder


@contextmanager
def _named(one: _Settings) -> Iterator[None]:
    """Put the name of a reporter's table before the problems that its plugin finds."""
    try:
        yield
    except ConfigError as error:
        keys = one.options.__struct_encode_fields__
        problems = [below(one.table.where, problem, keys) for problem in error.problems]
        raise (NoAccessError if isinstance(error, NoAccessError) else ConfigError)(problems) from error


def resolve(wanted: Config) -> dict[str, _Settings]:
    """Return module and filled ``Config`` of each reporter. ``ConfigError`` has all that is wrong."""
    found, problems = _settings(wanted)
    if problems:
        raise ConfigError(problems)
    return found


class Findings(NamedTuple):
    """What is wrong with the reporters. ``denied``: files that this user cannot open, but another user may."""

    problems: list[str]
    denied: list[str]


def inspect(wanted: Config, *, complete: bool = True) -> Findings:
    """Return all that would keep the reporters from being opened, also files that are missing. Opens none.

    ``complete``: tables of reporters that are wrong were not left out, so that there should be one.
    """
    found, problems = _settings(wanted)
    if not complete:
        problems = [problem for problem in problems if problem != NO_REPORTER]
    denied: list[str] = []
    for one in found.values():
        try:
            with _named(one):
                plugins.optional(one.module, "check", _nothing_to_check)(one.options)
        except NoAccessError as error:
            denied += error.problems
        except ConfigError as error:
            problems += error.problems
    return Findings(problems, denied)


def _settings(wanted: Config) -> tuple[dict[str, _Settings], list[str]]:
    """Return module and filled ``Config`` of each reporter that is right, and what is wrong with the others."""
    problems: list[str] = []
    found: dict[str, _Settings] = {}
    for name, table in wanted.reporters.items():
        try:
            module = plugins.load("reporters", table.kind)
        except ConfigError as error:
            problems += [f"{table.where}.kind: {problem}" for problem in error.problems]
            continue
        options = fill(module.Config, table.options, table.where, wanted.base, problems)
        if options is not None:
            found[name] = _Settings(name, table, module, options)
    if not wanted.reporters:
        problems.append(NO_REPORTER)
    return found, problems + _conflicts(found, wanted.device.id)


def _conflicts(found: dict[str, _Settings], device: str) -> list[str]:
    """Return which reporters use what only one of them can use."""
    problems: list[str] = []
    users: dict[str, str] = {}
    for name, one in found.items():
        for what in plugins.optional(one.module, "exclusive", _nothing_exclusive)(one.options, name, device):
            if what in users:
                problems.append(f"{one.table.where}: {what} is used by [{users[what]}] already")
            users.setdefault(what, one.table.where)
    return problems
