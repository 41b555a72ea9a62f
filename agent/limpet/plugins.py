"""A module is a plugin: its file name is the ``kind`` in the configuration.

Built-in plugins are the modules of ``limpet.GROUP``; third parties register theirs as an entry point named
after the kind in the group ``limpet.GROUP``. Each has ``Config``, a msgspec struct with its options, and ``open``.
The group's file in ``limpet.contracts`` says what ``open`` takes and returns, and how a module declares what else
it can do. The contract suite of each group, under tests/, tests every plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from limpet.contracts.needs import Needs
from limpet.errors import ConfigError, LimpetError
from limpet.extras import install_extra
from limpet.module_names import module_names
from limpet.wording import bug, line_of, suggest

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib import metadata


T = TypeVar("T")

Group: TypeAlias = Literal[
    "sources", "framings", "transforms", "runtimes", "decoders", "postprocess", "monitors", "reporters", "dialects"
]

_PACKAGES: dict[Group, str] = {"framings": "limpet.sources.framings", "dialects": "limpet.reporters.dialects"}

_DISTRIBUTIONS = {"google": "protobuf"}
"""Distributions whose modules have another name, by module."""
_EXTRAS = {"PIL": "camera"}
"""Extras of modules that several extras bring, by module."""


def _package(group: Group) -> str:
    return _PACKAGES.get(group, f"limpet.{group}")


def built_in(group: Group) -> list[str]:
    """Return the kinds that come with Limpet."""
    return module_names(importlib.import_module(_package(group)))


def _others(group: Group) -> dict[str, metadata.EntryPoint]:
    """Return third parties' kinds. Looking through all that is installed takes tens of milliseconds."""
    from importlib import metadata

    return {entry.name: entry for entry in metadata.entry_points(group=_package(group))}


def names(group: Group) -> list[str]:
    """Return the kinds there are in a group, third parties' among them."""
    return sorted({*built_in(group), *_others(group)})


def load(group: Group, kind: str) -> Any:
    """Import the plugin ``kind`` of ``group``.

    ``ConfigError`` says that there is none, which extra it lacks, which of its group's members, or what went wrong
    in its code.
    """
    module = _import(group, kind)
    lacking = [name for name in ("Config", "open") if name not in vars(module)]
    if lacking:
        raise ConfigError([f"{group} {kind!r} has no {' and no '.join(lacking)}; see limpet.contracts"])
    return module


def needs_of(plugin: Any, config: Any) -> Needs:
    """Return what a plugin declares with ``needs(config)``: nothing if its module has no such function.

    ``ConfigError`` if the function fails or returns something else.
    """
    declare: Callable[[Any], Any] | None = optional(plugin, "needs", None)
    if declare is None:
        return Needs()
    try:
        declared = declare(config)
    except LimpetError:
        raise
    except Exception as error:
        raise ConfigError([f"{plugin.__name__}.needs() failed: {bug(error)}"]) from error
    if not isinstance(declared, Needs):
        kind = type(declared).__name__
        raise ConfigError(
            [f"{plugin.__name__}.needs() returned {kind}; it must return limpet.contracts.needs.Needs"]
        )
    return declared


def optional(module: Any, name: str, default: T) -> T:
    """Return a member of a plugin that its contract declares as optional, ``default`` if it has none."""
    member: T = vars(module).get(name, default)
    return member


def abilities(module: Any, contract: type[T]) -> T:
    """Return what a plugin declares as its ``ABILITIES``, the defaults of its group's ``contract`` if nothing.

    ``ConfigError`` if they are those of another group.
    """
    declared = optional(module, "ABILITIES", contract())
    if not isinstance(declared, contract):
        raise ConfigError([f"ABILITIES of {module} is no {contract.__module__}.{contract.__name__}"])
    return declared


def _import(group: Group, kind: str) -> Any:
    if kind not in built_in(group):
        others = _others(group)
        if kind in others:
            return _loaded(group, others[kind])
        raise ConfigError([f"{kind!r} is not one of the {group}{suggest(kind, names(group))}"])
    try:
        return importlib.import_module(f"{_package(group)}.{kind}")
    except ModuleNotFoundError as error:
        raise ConfigError([_missing(group, kind, error.name or "")]) from error
    except ImportError as error:
        package = (error.name or "limpet").partition(".")[0]
        if package == "limpet":
            raise  # a bug
        raise ConfigError([f"{group} {kind!r} cannot use the installed {package!r}: {error.msg}"]) from error


def _loaded(group: Group, entry: metadata.EntryPoint) -> Any:
    """Import a third party's plugin. Whatever goes wrong in its code is a ``ConfigError`` that says where."""
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        package = f" of the package {entry.dist.name!r}" if entry.dist else ""
        what = f"{type(error).__name__}: {error}"
        where = "" if isinstance(error, SyntaxError) else line_of(error)  # a SyntaxError says where
        raise ConfigError([f"{group} {entry.name!r}{package} cannot be imported: {what}{where}"]) from error


def _missing(group: Group, kind: str, module: str) -> str:
    """Say what to install so that ``module`` is there."""
    from importlib import metadata

    package = module.partition(".")[0]
    if extra := _EXTRAS.get(package):
        return f"{group} {kind!r} needs the extra {extra!r}: {install_extra(extra)}"
    distribution = _DISTRIBUTIONS.get(package, package.replace("_", "-"))
    for requirement in metadata.requires("limpet") or []:
        name, _, marker = requirement.partition(";")
        if name.startswith(distribution) and "extra ==" in marker:
            extra = marker.rpartition("extra ==")[2].strip(" '\"")
            return f"{group} {kind!r} needs the extra {extra!r}: {install_extra(extra)}"
    return f"{group} {kind!r} needs the Python module {module!r}, which is not installed"
