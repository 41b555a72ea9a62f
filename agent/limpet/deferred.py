"""Modules that the daemon imports when it first uses something of them: memory that most devices then save.

``importlib.util.LazyLoader`` does not do it: the next ``import`` statement loads the module all the same.
"""

from __future__ import annotations

import importlib
import sys
from time import sleep
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


class Deferred(ModuleType):
    """Stands for a module until one of its attributes is used."""

    def __getattr__(self, attribute: str) -> Any:
        """Load the module. Called only for what this one lacks, so ``import NAME`` does not."""
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        name = self.__name__
        if self.__dict__.pop("_stands_in", False):  # True for one thread alone
            del sys.modules[name]
        while sys.modules.get(name) is self:
            sleep(0)
        module = importlib.import_module(name)
        self.__dict__.update(module.__dict__)
        return getattr(module, attribute)


def defer(name: str) -> None:
    """Have ``import NAME`` load a module when something of it is first used. One that is loaded stays so."""
    if name in sys.modules:
        return
    sys.modules[name] = module = Deferred(name)
    module.__dict__["_stands_in"] = True
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(importlib.import_module(parent), child, module)


def save_memory() -> None:
    """Defer what is rarely used. For a process that has imported next to nothing."""
    for name in RARELY_USED:
        defer(name)
    if sys.version_info >= (3, 11) and "typing_extensions" not in sys.modules:
        # msgspec takes what typing has as well from there, if it can: 1.5 MB.
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
        importlib.import_module("msgspec")
        del sys.modules["typing_extensions"]
