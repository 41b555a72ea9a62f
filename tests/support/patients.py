"""Who ``limpet doctor`` looks at in tests: machines laid out in files, with good software."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet import config
from limpet.device.machine import Machine, User
from limpet.doctor.installation import Installation
from limpet.doctor.runtime_packages import Platform, Software

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.doctor.finding import Finding

HERE = Platform("Linux", "x86_64", 64, (3, 11), (2, 36))
GOOD = Software(HERE, {"ai-edge-litert": "2.3.0", "numpy": "2.4.6"}, lambda _: "")
ROOT = User("root", 0, frozenset({0}))


def lay(root: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(root, ROOT, litert=None)


def table(tmp_path: Path, **more: Any) -> config.Config:
    tables: dict[str, Any] = {
        "device": {"id": "d", "state": str(tmp_path / "state")},
        "sources": {"s": {"kind": "serial", "port": "/dev/ttyUSB0", "channels": ["a"]}},
        "pipelines": {"p": {"source": "s", "model": "m"}},
        "jsonl": {},
    }
    return config.build({**tables, **more}, tmp_path)


def patient(tmp_path: Path, files: dict[str, str] | None = None, **more: Any) -> Installation:
    more.setdefault("machine", lay(tmp_path / "root", files or {}))
    return Installation(tmp_path / "limpet.toml", software=GOOD, **more)


def only(check: Callable[[Installation], Iterator[Finding]], who: Installation) -> Finding:
    (finding,) = check(who)
    return finding
