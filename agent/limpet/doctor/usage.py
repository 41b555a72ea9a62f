"""What Limpet has written to the disk, beside what it may write at most."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from limpet.captures.ring import CAPTURES
from limpet.delivery.outbox.schema import FORMAT
from limpet.device import directories, state_files
from limpet.device.system_files import MB
from limpet.doctor.finding import bad, ok, skip, warn
from limpet.models.housekeeping import look
from limpet.untrusted import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.config import Config
    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation

_LEARNED = ("learned", "learning.json", "undo")
_VERSION = struct.Struct(">60xI")
"""Where an SQLite file has its ``user_version``: https://sqlite.org/fileformat2.html, section 1.3."""


def usage(installation: Installation) -> Iterator[Finding]:
    """Check the size of everything that grows, and that this version can read the outboxes."""
    if not installation.config or not installation.config.device.state.is_dir():
        yield skip("usage", "nothing is written yet")
        return
    try:
        yield from _usage(installation.config)
        for path in sorted((installation.config.device.state / directories.REPORTERS).glob("*/outbox.db")):
            yield from _format(path)
    except PermissionError as error:
        yield skip("usage", f"{error.filename} cannot be read by this user")
    dumps = [look(path).size for path in installation.machine.paths("var/lib/systemd/coredump/core.limpet*")]
    if dumps:
        fix = "sudo rm /var/lib/systemd/coredump/core.limpet*"
        yield warn(
            "usage", f"core dumps: {_mb(sum(dumps))}", "the service writes none, so another program did", fix
        )


def _usage(config: Config) -> Iterator[Finding]:
    state, most = config.device.state, config.device.models_bytes
    models = _size(config.models)
    parts = {"reporters": _size(state / directories.REPORTERS), "cache": _size(state / "cache"), "models": models}
    if captured := _size(state / CAPTURES):
        parts["captures"] = captured
    if learned := sum(_size(state / name) for name in _LEARNED):
        parts["learned"] = learned
    what = ", ".join(f"{name} {_mb(size)}" for name, size in parts.items())
    for path in _jsonl_paths(config):
        what += f", {path} {_mb(sum(_size(config.base / f'{path}{end}') for end in ('', '.1')))}"
    if config.device.models is None and models > most:
        why = f"models may take {_mb(most)}, device.models_bytes"
        yield warn(
            "usage",
            what,
            why,
            "run `limpet housekeeping`, which deletes bundles that no pipeline names; or raise models_bytes",
        )
    else:
        yield ok("usage", what)


def _jsonl_paths(config: Config) -> list[str]:
    paths = [table.options.get("path", "-") for table in config.reporters.values() if table.kind == "jsonl"]
    return [path for path in paths if path != "-"]


def _size(path: Path) -> int:
    return look(path).size if path.exists() else 0


def _mb(size: float) -> str:
    return f"{size / MB:.1f} MB"


def _format(path: Path) -> Iterator[Finding]:
    head = _head(path)
    (found,) = _VERSION.unpack(head) if len(head) == _VERSION.size else (0,)
    if found > FORMAT:
        why = "its messages are not sent, and new ones are kept in memory only"
        fix = f"install the later version again; or move {path} away to start with an empty one"
        yield bad("usage", f"{path} was written by a later version of Limpet (format {found})", why, fix)


def _head(path: Path) -> bytes:
    if not state_files.is_regular(path):
        return b""
    with open_file(path) as file:
        return file.read(_VERSION.size)
