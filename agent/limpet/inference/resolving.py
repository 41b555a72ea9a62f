"""Tables of a configuration or a manifest to plugins with filled options. Nothing is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet import plugins
from limpet.contracts import decoder, monitor, postprocess, runtime, transform
from limpet.errors import ConfigError
from limpet.filling import fill
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_CONTRACTS: dict[plugins.Group, type[Any]] = {
    "transforms": transform.Abilities,
    "runtimes": runtime.Abilities,
    "decoders": decoder.Abilities,
    "postprocess": postprocess.Abilities,
    "monitors": monitor.Abilities,
}
"""What a plugin of a group may declare that it can do."""


class Configured(msgspec.Struct, frozen=True):
    """A plugin: its ``kind``, its module, its filled ``Config``, and the abilities that it declares."""

    kind: str
    module: Any
    config: Any
    abilities: Any = None


class Resolver(msgspec.Struct, frozen=True):
    """Tables to plugins. What is wrong with them adds up in ``problems``."""

    base: Path
    problems: list[str]

    def plugin(self, group: plugins.Group, kind: str, options: Mapping[str, Any], where: str) -> Configured | None:
        """Resolve a plugin whose kind is known."""
        return self._resolve(group, kind, options, (f"{where}.kind", where), self.problems)

    def runtime(self, kind: str, options: Mapping[str, Any], where: str, written: list[str]) -> Configured | None:
        """Resolve a runtime that a manifest names, with ``options`` of the configuration.

        What is wrong with those is added to ``written``.
        """
        return self._resolve("runtimes", kind, options, ("runtime", where), written)

    def _resolve(
        self,
        group: plugins.Group,
        kind: str,
        options: Mapping[str, Any],
        where: tuple[str, str],
        written: list[str],
    ) -> Configured | None:
        """Resolve a plugin. ``where`` names it and its options in messages."""
        try:
            module = plugins.load(group, kind)
            declared = plugins.abilities(module, _CONTRACTS[group]) if group in _CONTRACTS else None
        except ConfigError as error:
            self.problems.extend(f"{where[0]}: {problem}" for problem in error.problems)
            return None
        config = fill(module.Config, options, where[1], self.base, written)
        return None if config is None else Configured(kind, module, config, declared)

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
