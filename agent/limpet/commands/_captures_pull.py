"""``limpet captures pull``: copies the captures of a device, over ssh or from a folder, that are not here yet."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from limpet.captures import ring
from limpet.commands._captures_folder import add_pipeline, inner
from limpet.commands._captures_give import LARGEST_GIVEN, Given, Known, captures, store
from limpet.errors import LimpetError, UnreadableError
from limpet.untrusted import printable
from limpet.wire import stream

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

TEXT = "Copy the captures of a device that are not here yet, over ssh or from a folder such as a USB stick."
_MOST_SAID = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "source",
        metavar="FROM",
        help="ssh://[USER@]HOST[:PORT], or a FOLDER: a state directory, or captures that were copied.",
    )
    parser.add_argument(
        "target", metavar="FOLDER", type=Path, help="Folder for the captures, by device and pipeline."
    )
    add_pipeline(parser)
    parser.add_argument("--delete", action="store_true", help="Delete them on the device once they are here.")
    parser.add_argument(
        "--limpet",
        metavar="COMMAND",
        default="limpet",
        help='Program on the device, over ssh. Default: limpet. Example: "sudo /opt/limpet/bin/limpet".',
    )
    parser.add_argument("--ssh-config", metavar="FILE", type=Path, help="Configuration for ssh -F.")
    parser.set_defaults(act=_pull)


def _pull(arguments: argparse.Namespace) -> int:
    target: Path = arguments.target
    have = {
        (root.name, f"{pipeline}/{one.capture.number}")
        for root, pipeline in ring.rings(target)
        for one in ring.entries(root, pipeline)
    }
    if arguments.source.startswith("ssh://"):
        remote = Remote(arguments.source, arguments.limpet, arguments.ssh_config)
        taken = _take(remote.captures(arguments.pipeline, have), target)
        if arguments.delete and taken.names:
            remote.delete(taken.names)
    else:
        root = inner(Path(arguments.source))
        taken = _take(captures(root, arguments.pipeline, have), target)
        for name in taken.names if arguments.delete else ():
            ring.delete(ring.path_named(root, name))
    print(f"{len(taken.names)} new captures in {target}")
    for problem in taken.problems:
        print(printable(problem), file=sys.stderr)
    return 1 if taken.problems else 0


class _Taken(msgspec.Struct):
    """Names of new captures, and what was wrong with others."""

    names: list[str] = []
    problems: list[str] = []


def _take(given: Iterable[Given], target: Path) -> _Taken:
    taken = _Taken()
    for one in given:
        try:
            capture = None if one.problem else store(one, target, "a capture of the device")
        except UnreadableError as error:
            one.problem = str(error)
        if one.problem:
            taken.problems.append(one.problem)
        elif capture is not None:
            taken.names.append(capture.name)
    return taken


class Remote:
    """A device that ssh reaches. What it sends is foreign data."""

    def __init__(self, url: str, program: str, config: Path | None) -> None:
        """``LimpetError`` if the URL is wrong. ``program``: words that start Limpet there."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise LimpetError(f"{url}: the port must be a number") from None
        host, user = parts.hostname or "", parts.username or ""
        # Neither may look like an option of ssh, or have a shell's characters in it.
        if not re.fullmatch(r"[\w.:][\w.:-]*", host) or not re.fullmatch(r"([\w.][\w.-]*)?", user):
            raise LimpetError(f"{url}: it names no host, as ssh://pi@kitchen.local does")
        if parts.password or parts.path.strip("/") or parts.query:
            raise LimpetError(f"{url}: only user, host and port belong here; keys let you in")
        self._name = f"{user}@{host}" if user else host
        self._flags = [*(["-F", str(config)] if config else []), *(["-p", str(port)] if port else [])]
        self._program = " ".join(map(shlex.quote, shlex.split(program)))

    def captures(self, pipeline: str | None, have: set[tuple[str, str]]) -> Iterator[Given]:
        """Yield the captures of the device that are not here yet. ``LimpetError`` if it cannot give them."""
        names: dict[str, list[str]] = {}
        for device, name in have:
            names.setdefault(device, []).append(name)
        chosen = f" --pipeline {shlex.quote(pipeline)}" if pipeline else ""
        with TemporaryFile() as request, TemporaryFile() as said:
            stream.write(request, Known(names))
            request.seek(0)
            with subprocess.Popen(
                self._command(f"captures give{chosen}"), stdin=request, stdout=subprocess.PIPE, stderr=said
            ) as process:
                assert process.stdout is not None
                try:
                    while (given := stream.read(process.stdout, Given, LARGEST_GIVEN)) != Given():
                        yield given
                except EOFError as error:
                    process.kill()
                    process.wait()
                    raise self._failed(said) from error
                except BaseException:
                    process.kill()
                    raise

    def delete(self, names: Iterable[str]) -> None:
        """Delete captures on the device. ``LimpetError``."""
        with TemporaryFile() as said:
            done = subprocess.run(
                self._command("captures delete -"),
                input="\n".join(names).encode(),
                stdout=subprocess.DEVNULL,
                stderr=said,
                check=False,
            )
            if done.returncode:
                raise self._failed(said)

    def _command(self, words: str) -> list[str]:
        options = ["BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15"]
        flags = [word for option in options for word in ("-o", option)]
        return ["ssh", "-T", *flags, *self._flags, "--", self._name, f"{self._program} {words}"]

    def _failed(self, said: IO[bytes]) -> LimpetError:
        said.seek(0)
        lines = said.read(_MOST_SAID).decode(errors="replace").splitlines()
        why = printable(lines[-1]) if lines else "it sent no captures and did not say why"
        return LimpetError(f"{self._name}: {why}")
