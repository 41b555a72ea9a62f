"""Tables of a configuration or a manifest to plugins with filled options. Nothing is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet import plugins
from limpet.config import fill
from limpet.errors import ConfigError
from limpet.inference.plan import Configured
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Resolver(msgspec.Struct, frozen=True):
    """Tables to plugins. What is wrong with them adds up in ``problems``."""

    base: Path
    problems: list[str]

    def plugin(self, group: plugins.Group, kind: str, options: Mapping[str, Any], where: str) -> Configured | None:
        """Resolve a plugin whose kind is known."""
        try:
            module = plugins.load(group, kind)
        except ConfigError as error:
            self.problems.extend(f"{where}: {problem}" for problem in error.problems)
            return None
        config = fill(module.Config, options, where, self.base, self.problems)
        return None if config is None else Configured(kind, module, config)

    def runtime(self, kind: str, options: Mapping[str, Any], where: str, written: list[str]) -> Configured | None:
        """Resolve a runtime that a manifest names, with ``options`` of the configuration.

        What is wrong with those is added to ``written``.
        """
        try:
            module = plugins.load("runtimes", kind)
        except ConfigError as error:
            self.problems.extend(f"runtime: {problem}" for problem in error.problems)
            return None
        config = fill(module.Config, options, where, self.base, written)
        return None if config is None else Configured(kind, module, config)

    def table(self, group: plugins.Group, table: Mapping[str, Any], where: str) -> Configured | None:
        """Resolve a table that names its own kind."""
        kind = table.get("kind")
        if not isinstance(kind, str):
            self.problems.append(f"{where}.kind: missing{suggest('', plugins.names(group))}")
            return None
        return self.plugin(group, kind, {k: v for k, v in table.items() if k != "kind"}, where)

    def all(self, group: plugins.Group, tables: Sequence[Mapping[str, Any]], where: str) -> tuple[Configured, ...]:
        """Resolve tables in their order."""
        found = [self.table(group, table, f"{where}[{number}]") for number, table in enumerate(tables)]
        return tuple(plugin for plugin in found if plugin)


def resolve_transforms(tables: Sequence[Mapping[str, Any]], where: str, base: Path) -> tuple[Configured, ...]:
    """Resolve the tables of transforms; ``where`` names them in messages. ``ConfigError`` has all problems."""
    resolve = Resolver(base, [])
    found = resolve.all("transforms", tables, where)
    if resolve.problems:
        raise ConfigError(resolve.problems)
    return found
