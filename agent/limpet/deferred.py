"""Modules that the daemon loads when it first uses something of them: memory that most devices then save.

``importlib.util.LazyLoader`` does not do it: the next ``import`` statement loads the module all the same.
"""

from __future__ import annotations

import importlib
import sys
from threading import RLock
from types import ModuleType
from typing import Any

RARELY_USED = (
    "ast",
    "bz2",
    "decimal",
    "hashlib",
    "inspect",
    "ipaddress",
    "lzma",
    "shutil",
    "ssl",
    "tempfile",
    "tokenize",
    "urllib.request",
)
"""Others import these: paho for TLS, websockets and proxies, the rest dataclasses, numpy and zipfile."""

DURING_UPDATES = ("limpet.models.sealed", "limpet.updates.instructions", "limpet.updates.stimuli")
"""What the supervisor needs while a pipeline gets another model, and where bundles are encrypted."""

_locks: dict[str, RLock] = {}
"""One for each deferred module. Threads wait there for the first one, which loads the module."""


class Deferred(ModuleType):
    """A module that is empty until one of its attributes is used. It is loaded into this very object."""

    def __getattr__(self, attribute: str) -> Any:
        """Load the module. Called only for what it lacks, so ``import NAME`` does not load it."""
        if attribute.startswith("__") and attribute != "__all__":  # which ``from NAME import *`` looks for
            raise AttributeError(attribute)
        with _locks[self.__name__]:
            if self.__spec__ is None:  # else it is loaded, or is being loaded by this thread
                self._load()
        return super().__getattribute__(attribute)

    def _load(self) -> None:
        try:
            importlib.reload(self)
        except BaseException:
            self.__spec__ = None
            raise


def defer(name: str) -> None:
    """Have ``import NAME`` load a module when something of it is first used. One that is loaded stays so."""
    if name in sys.modules:
        return
    _locks[name] = RLock()
    sys.modules[name] = module = Deferred(name)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(importlib.import_module(parent), child, module)


def save_memory() -> None:
    """Defer what is rarely used. For a process that has imported next to nothing."""
    for name in (*RARELY_USED, *DURING_UPDATES):
        defer(name)
    if sys.version_info >= (3, 11) and "typing_extensions" not in sys.modules:
        # msgspec takes what typing has as well from there, if it can: 1.5 MB.
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
        importlib.import_module("msgspec")
        del sys.modules["typing_extensions"]
