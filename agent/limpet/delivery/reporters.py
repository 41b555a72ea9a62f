"""The reporters of a configuration, opened and closed as it changes."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from limpet import config, plugins
from limpet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.config import Config
    from limpet.contracts.messages import Message, Origin
    from limpet.contracts.reporter import Command, Reporter

log = logging.getLogger(__name__)

MOST_HELD = 10_000
"""Messages that wait for a reporter that cannot be opened again. Beyond, the oldest are dropped and counted."""
AGAIN = 5.0
"""Seconds between two attempts to open such a reporter."""


@dataclass
class _Wanted:
    """A reporter that is to be open: its plugin, and its filled ``Config`` from ``table``."""

    kind: str
    table: dict[str, Any]
    module: Any
    options: Any


@dataclass
class _Opened:
    """A reporter that is open, and how to close it."""

    wanted: _Wanted
    reporter: Reporter
    stack: ExitStack


@dataclass
class _Held:
    """What waits for a reporter that could not be opened again, which should never be."""

    wanted: _Wanted
    error: str = ""
    due: float = 0.0
    messages: deque[Message] = field(default_factory=deque)
    dropped: int = 0

    def hold(self, message: Message) -> None:
        self.messages.append(message)
        if len(self.messages) > MOST_HELD:
            self.messages.popleft()
            self.dropped += 1


class Reporters:
    """The reporters that are open, by kind."""

    def __init__(self, origin: Origin, obey: Callable[[Command], None] | None) -> None:
        self._origin = origin
        self._obey = obey
        self._open: dict[str, _Opened] = {}
        self._held: dict[str, _Held] = {}

    def adopt(self, wanted: Config) -> None:
        """Open, close or reopen until what is open is what is wanted.

        What an error is raised for leaves all as it was: new reporters are opened first. One whose options changed
        is checked first, then closed and opened again, as two of a kind cannot share an outbox or a name at the
        broker. If it cannot be opened after all, the old one is opened again.
        """
        found = {
            kind: _Wanted(kind, wanted.reporters[kind], module, options)
            for kind, (module, options) in resolve(wanted).items()
        }
        changed = {kind: one for kind, one in found.items() if self._changes(kind, one)}
        for one in changed.values():
            one.module.check(one.options, wanted.device.state)
        with ExitStack() as undo:
            added = {kind: one for kind, one in found.items() if kind not in self._open and kind not in self._held}
            for kind, one in added.items():
                self._open[kind] = self._start(one, wanted)
                undo.callback(self._close, kind)
            for kind, one in changed.items():
                held = self._held.pop(kind, None)
                before = held.wanted if held else self._close(kind)
                undo.callback(self._return_to, before, wanted, held)
                self._open[kind] = self._start(one, wanted)
                self._hand_over(kind, held)
            undo.pop_all()
        for kind in self._open.keys() - found.keys():
            self._close(kind)
        for kind in self._held.keys() - found.keys():
            self._give_up(kind)

    def _changes(self, kind: str, wanted: _Wanted) -> bool:
        if kind in self._held:
            return True
        return kind in self._open and self._open[kind].wanted.table != wanted.table

    def _start(self, one: _Wanted, wanted: Config) -> _Opened:
        stack = ExitStack()
        opened = one.module.open(one.options, self._origin, wanted.device.state, self._obey)
        return _Opened(one, stack.enter_context(opened), stack)

    def _close(self, kind: str) -> _Wanted:
        """Let a reporter send what it can, and close it; return what it was."""
        opened = self._open.pop(kind)
        try:
            opened.stack.close()
        except Exception:
            log.exception("the reporter %r failed while it was closed", kind)
        return opened.wanted

    def _return_to(self, before: _Wanted, wanted: Config, held: _Held | None = None) -> None:
        """Open a reporter again as it was. If even that fails, its messages wait. ``held`` are those that do."""
        kind = before.kind
        if kind in self._open:
            self._close(kind)
        try:
            self._open[kind] = self._start(before, wanted)
        except Exception as error:
            log.exception("the reporter %r cannot be opened again; its messages wait", kind)
            held = held or _Held(before)
            held.error, held.due = str(error), monotonic() + AGAIN
            self._held[kind] = held
        else:
            self._hand_over(kind, held)

    def _hand_over(self, kind: str, held: _Held | None) -> None:
        """Give a reporter what waited for it."""
        if held is None:
            return
        log.warning(
            "the reporter %r is open again; %d messages waited, %d were lost",
            kind,
            len(held.messages),
            held.dropped,
        )
        while held.messages:
            self._open[kind].reporter.report(held.messages.popleft())

    def _give_up(self, kind: str) -> None:
        held = self._held.pop(kind)
        log.error(
            "%d messages for the reporter %r are lost: %s", len(held.messages) + held.dropped, kind, held.error
        )

    def tend(self, wanted: Config) -> None:
        """Try again to open a reporter whose messages wait."""
        for kind, held in list(self._held.items()):
            if held.due > monotonic():
                continue
            del self._held[kind]
            self._return_to(held.wanted, wanted, held)

    def report(self, message: Message) -> None:
        """Hand a message to each."""
        for opened in self._open.values():
            opened.reporter.report(message)
        for held in self._held.values():
            held.hold(message)

    def connected(self) -> bool:
        """Whether all reporters can send. One that says nothing of a connection needs none."""
        return not self._held and all(
            opened.reporter.health().get("connected", True) for opened in self._open.values()
        )

    def health(self) -> dict[str, dict[str, Any]]:
        """Return each reporter's own figures."""
        figures = {kind: opened.reporter.health() for kind, opened in self._open.items()}
        for kind, held in self._held.items():
            figures[kind] = {"waiting": len(held.messages), "dropped": held.dropped, "last_error": held.error}
        return figures

    def close(self) -> None:
        """Let each send what it can, and close it."""
        for kind in list(self._open):
            self._close(kind)
        for kind in list(self._held):
            self._give_up(kind)


def resolve(wanted: Config) -> dict[str, tuple[Any, Any]]:
    """Return module and filled ``Config`` of each reporter. ``ConfigError`` has all that is wrong."""
    problems: list[str] = []
    configs = {}
    for kind, table in wanted.reporters.items():
        try:
            module = plugins.load("reporters", kind)
        except ConfigError as error:
            problems += [f"{kind}: {problem}" for problem in error.problems]
            continue
        configs[kind] = (module, config.fill(module.Config, table, kind, wanted.base, problems))
    if not wanted.reporters:
        problems.append("no reporter: add [mqtt] with a url, or [jsonl], or nobody will hear of the results")
    if problems:
        raise ConfigError(problems)
    return configs
