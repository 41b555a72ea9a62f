"""The reporters of a configuration, opened and closed as it changes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from limpet import config, plugin
from limpet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.config import Config
    from limpet.messages import Message, Origin


class Reporters:
    """The reporters that are open, by kind, each with the table that it was opened from."""

    def __init__(self, origin: Origin, obey: Callable[[plugin.Command], None]) -> None:
        self._origin = origin
        self._obey = obey
        self._open: dict[str, tuple[dict[str, Any], plugin.Reporter, ExitStack]] = {}

    def adopt(self, wanted: Config) -> None:
        """Open, close or reopen until what is open is what is wanted. ``ConfigError`` leaves all as it was."""
        configs = resolve(wanted)
        for kind in list(self._open):
            if wanted.reporters.get(kind) != self._open[kind][0]:
                self._open.pop(kind)[2].close()
        for kind, (module, options) in configs.items():
            if kind not in self._open:
                stack = ExitStack()
                opened = module.open(options, self._origin, wanted.device.state, self._obey)
                self._open[kind] = (wanted.reporters[kind], stack.enter_context(opened), stack)

    def report(self, message: Message) -> None:
        """Hand a message to each."""
        for _, reporter, _ in self._open.values():
            reporter.report(message)

    def health(self) -> dict[str, dict[str, Any]]:
        """Return each reporter's own figures."""
        return {kind: reporter.health() for kind, (_, reporter, _) in self._open.items()}

    def close(self) -> None:
        """Let each send what it can, and close it."""
        while self._open:
            self._open.popitem()[1][2].close()


def resolve(wanted: Config) -> dict[str, tuple[Any, Any]]:
    """Return module and filled ``Config`` of each reporter. ``ConfigError`` has all that is wrong."""
    problems: list[str] = []
    configs = {}
    for kind, table in wanted.reporters.items():
        try:
            module = plugin.load("reporters", kind)
        except ConfigError as error:
            problems += [f"{kind}: {problem}" for problem in error.problems]
            continue
        configs[kind] = (module, config.fill(module.Config, table, kind, wanted.base, problems))
    if not wanted.reporters:
        problems.append("no reporter: add [mqtt] with a url, or [jsonl], or nobody will hear of the results")
    if problems:
        raise ConfigError(problems)
    return configs
