"""A device that ssh reaches, and the captures that it gives. What it sends is foreign data."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections import deque
from contextlib import suppress
from tempfile import TemporaryFile
from threading import Thread
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from limpet.commands._captures_give import LARGEST_GIVEN, Given, Known
from limpet.errors import LimpetError
from limpet.untrusted import printable
from limpet.wire import stream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from pathlib import Path

_PIECE, _PIECES = 4096, 16


class Remote:
    """A device that ssh reaches. ``name``: its host, with the user if one is named."""

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
        self._login = f"{user}@{host}" if user else host
        self.host = f"{host}:{port}" if port else host
        self._flags = [*(["-F", str(config)] if config else []), *(["-p", str(port)] if port else [])]
        self._program = " ".join(map(shlex.quote, shlex.split(program)))

    def captures(self, pipeline: str | None, have: Mapping[str, list[str]]) -> Generator[Given]:
        """Yield the captures of the device that are not in ``have``. ``LimpetError`` if it cannot give them."""
        chosen = f" --pipeline {shlex.quote(pipeline)}" if pipeline else ""
        with TemporaryFile() as request:
            stream.write(request, Known(dict(have)))
            request.seek(0)
            with subprocess.Popen(
                self._command(f"captures give{chosen}"),
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                said = _LastWords(process.stderr)
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
        with TemporaryFile() as request:
            request.write("\n".join(names).encode())
            request.seek(0)
            with subprocess.Popen(
                self._command("captures delete -"),
                stdin=request,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            ) as process:
                assert process.stderr is not None
                said = _LastWords(process.stderr)
                if process.wait():
                    raise self._failed(said)

    def _command(self, words: str) -> list[str]:
        options = ["BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15"]
        flags = [word for option in options for word in ("-o", option)]
        return ["ssh", "-T", *flags, *self._flags, "--", self._login, f"{self._program} {words}"]

    def _failed(self, said: _LastWords) -> LimpetError:
        why = said.line() or "it sent no captures and did not say why"
        return LimpetError(f"{self._login}: {why}")


class _LastWords:
    """The end of what a program says on standard error. All of it might fill the disk."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._pieces: deque[bytes] = deque(maxlen=_PIECES)
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError, ValueError):  # the pipe was closed
            while piece := self._pipe.read1(_PIECE):  # type: ignore[attr-defined]
                self._pieces.append(piece)

    def line(self) -> str:
        """Return the last line, once the program is over."""
        self._thread.join(1.0)
        lines = b"".join(self._pieces).decode(errors="replace").splitlines()
        return printable(lines[-1][:300]) if lines else ""
