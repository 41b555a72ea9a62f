"""``limpet doctor --report``: an archive for a bug report, without what identifies a person, device or network.

Collecting needs no root. What cannot be read is named in the archive.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tomli_w

from limpet import __version__, text_file
from limpet.doctor import private_facts, redaction
from limpet.doctor.report_parts import COLLECTORS, Context
from limpet.errors import LimpetError
from limpet.untrusted import reading

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation
    from limpet.doctor.redaction import Redactor


class Part(NamedTuple):
    """A file of the archive: its name, what is in it, and its text."""

    name: str
    what: str
    text: str


class Written(NamedTuple):
    """The archive, its parts, and what could not be read, with the reason."""

    path: Path
    parts: list[Part]
    missing: list[str]


def usual() -> Path:
    """Return the name of an archive that is made now."""
    return Path(time.strftime("limpet-report-%Y-%m-%d-%H%M%S.tar.gz"))


def write(installation: Installation, findings: Sequence[Finding], path: Path) -> Written:
    """Write the archive for its owner alone. ``LimpetError`` if there is such a file, or it cannot be made."""
    parts, missing = collect(installation, findings, os.environ)
    data = _archive(parts)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise LimpetError(f"{path} exists already. Name another file: limpet doctor --report FILE") from None
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror}. Name another file: limpet doctor --report FILE") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return Written(path.absolute(), parts, missing)


def collect(
    installation: Installation, findings: Sequence[Finding], environment: Mapping[str, str]
) -> tuple[list[Part], list[str]]:
    """Return the parts of the archive, README first, and what could not be read, for the terminal only."""
    redactor = redaction.Redactor(private_facts.vocabulary())
    missing: list[str] = []
    tables = _tables(installation.path, missing)
    private_facts.learn_names(redactor, installation, environment)
    private_facts.learn_secrets(redactor, tables, installation.path, missing)
    cleaned = tomli_w.dumps(redactor.tables(tables))
    parts = [Part("configuration.toml", "the configuration, without comments", cleaned)] if tables else []
    context = Context(installation, findings, redactor)
    for name, what, collector in COLLECTORS:
        try:
            text = collector(context)
        except (OSError, LimpetError, ValueError, subprocess.SubprocessError) as error:
            missing.append(f"{name}: {' '.join(str(error).split())}")
        else:
            parts.append(Part(name, what, text))
    # Once more: a name may have been found after an earlier part was written.
    parts = [part._replace(text=redactor.facts(part.text)) for part in parts]
    return [_readme(parts, missing, redactor), *parts], missing


def _archive(parts: Sequence[Part]) -> bytes:
    buffer, now = io.BytesIO(), int(time.time())
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for part in parts:
            data = part.text.encode()
            member = tarfile.TarInfo(f"limpet-report/{part.name}")
            member.size, member.mtime, member.mode = len(data), now, 0o600
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _readme(parts: Sequence[Part], missing: Sequence[str], redactor: Redactor) -> Part:
    lines = [
        f"A bug report of Limpet {__version__}. Read all of it before you send it.",
        "",
        "Names, addresses, serial numbers and secrets are replaced: host-1 is the same host everywhere.",
        "Words that are not in Limpet's own source code are word-1, word-2 and so on.",
        "",
        *(f"{part.name}: {part.what}" for part in parts),
        *(("", "Not included:", *map(redactor.text, missing)) if missing else ()),
        "",
        "Known names and words that are replaced: "
        + ", ".join(f"{count} {kind}" for kind, count in redactor.counts.items()),
        "",
    ]
    return Part("README.txt", "what is in this archive", redactor.facts("\n".join(lines)))


def _tables(path: Path, missing: list[str]) -> dict[str, Any]:
    try:
        with reading("it"):
            return tomllib.loads(text_file.read(path))
    except LimpetError as error:
        missing.append(f"configuration.toml: {error}")
        return {}
