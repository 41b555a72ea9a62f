"""A device by ssh: model and windows go there as a stream, through the system's ``ssh``, to ``limpet tensors``.

The device needs Limpet and nothing else, and keeps nothing. The settings of the host in ``~/.ssh/config`` apply.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
from contextlib import suppress
from select import select
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from limpet.contracts.messages import Inferred
from limpet.errors import TransportError, UnreadableError
from limpet.inference import infer_request
from limpet.inference.tensor_stream import CHUNK, MAGIC, Chunk, Order, read
from limpet.wire.stream import Readable, write
from limpet_convert.devices import DeviceError, Ran, gather, read_model, shown

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import FloatArray
    from limpet_convert.devices import Login

SILENCE = 300.0
"""Seconds without an answer: sending a model takes long, and a GPU compiles for most of a minute."""
GOODBYE = 10.0
"""Seconds until ssh ends and says why it failed."""
LARGEST_OUTPUTS = 1 << 30
"""Bytes of all outputs of a model. They are kept in memory."""
_NOT_FOUND, _NOT_STARTED, _UNKNOWN_COMMAND, _SSH = 127, 126, 2, 255
_HINTS = {
    "Permission denied": "Limpet logs in with keys only. Run `ssh-copy-id {target}`, or load your key into "
    "your ssh-agent",
    "Host key verification failed": "it is not known here yet, or is another machine: look at its key with "
    "`ssh {target}`",
    "Could not resolve": "is the name right? ~/.ssh/config may name hosts too",
    "Connection refused": "nothing listens there: is its ssh server running, and on this port?",
    "timed out": "is it switched on, and on this network?",
    "No route to host": "is it switched on, and on this network?",
}


class Ssh:
    """``ssh://[user@]host[:port][?limpet=PATH&delegate=NAME&config=FILE]``.

    ``limpet``: the program there, by default found on its path. ``config``: an ssh configuration for ``ssh -F``.
    """

    any_model = True

    def __init__(self, url: str, login: Login) -> None:
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        try:
            port = parts.port
        except ValueError:
            raise DeviceError(f"{url}: the port must be a number") from None
        if unknown := options.keys() - {"limpet", "delegate", "config"}:
            raise DeviceError(f"{url}: {min(unknown)} is unknown; there are limpet, delegate and config")
        host, user = parts.hostname or "", parts.username or ""
        # Neither may look like an option of ssh, or have a shell's characters in it.
        if not re.fullmatch(r"[\w.:][\w.:-]*", host) or not re.fullmatch(r"([\w.][\w.-]*)?", user):
            raise DeviceError(f"{url}: it names no host, as ssh://pi@kitchen.local does")
        if parts.password or parts.path.strip("/"):
            raise DeviceError(
                f"{url}: no password, a key lets you in; and no path, ?limpet=PATH names the program"
            )
        self.name = f"{user}@{host}" if user else host
        self._port = ["-p", str(port)] if port else []
        self._config = ["-F", options["config"][0]] if "config" in options else []
        self._limpet = options.get("limpet", ["limpet"])[0]
        self._delegate = login.delegate or options.get("delegate", ["cpu"])[0]

    def run(self, model: Path, windows: FloatArray) -> Ran:
        """See ``Device``."""
        with TemporaryFile() as request, TemporaryFile() as said:
            # A file, so that neither side ever waits for the other to read.
            ask(request, read_model(model), windows, self._delegate)
            request.seek(0)
            try:
                process = subprocess.Popen(self._command(), stdin=request, stdout=subprocess.PIPE, stderr=said)
            except FileNotFoundError:
                raise DeviceError("ssh is not installed here; Debian has it as openssh-client") from None
            with process:
                assert process.stdout is not None
                try:
                    found = answers(_Pipe(process.stdout), len(windows))
                except EOFError as error:
                    _end(process)
                    raise DeviceError(self._why(process.returncode, said)) from error
                except (TransportError, UnreadableError) as error:
                    process.kill()
                    raise DeviceError(f"{self.name}: {shown(str(error))}") from error
                _end(process)
                return gather(found)

    def _command(self) -> list[str]:
        options = ["BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15"]
        flags = [word for option in options for word in ("-o", option)]
        program = f"{shlex.quote(self._limpet)} tensors"
        return ["ssh", "-T", *self._config, *flags, *self._port, "--", self.name, program]

    def _why(self, status: int | None, said: IO[bytes]) -> str:
        said.seek(0)
        lines = said.read(1 << 16).decode(errors="replace").splitlines()
        return explain(self.name, self._limpet, status, "\n".join(shown(line) for line in lines))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let ssh end, which it does by itself unless the other side hangs."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(GOODBYE)
    process.kill()


class _Pipe:
    """Reads a pipe as a file does. ``TransportError`` where nothing comes for long."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe.fileno()

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        data = bytearray()
        while len(data) < size:
            if not select([self._pipe], [], [], SILENCE)[0]:
                raise TransportError(f"it has not answered for {SILENCE:.0f} s")
            if not (part := os.read(self._pipe, size - len(data))):
                break
            data += part
        return bytes(data)


def ask(file: IO[bytes], model: bytes, windows: FloatArray, delegate: str) -> None:
    """Write the model and the windows."""
    file.write(MAGIC)
    order = Order(len(model), hashlib.sha256(model).hexdigest(), list(windows.shape[1:]), len(windows), delegate)
    write(file, order)
    for start in range(0, len(model), CHUNK):
        write(file, Chunk(model[start : start + CHUNK]))
    at_once = max(1, CHUNK // max(1, windows[0].nbytes))
    for start in range(0, len(windows), at_once):
        write(file, infer_request.tensor(windows[start : start + at_once]))


def answers(pipe: Readable, windows: int) -> list[Inferred]:
    """Read what the device answers.

    ``EOFError`` if it ends too early, ``TransportError`` or ``UnreadableError`` if it is no answer.
    """
    begin = pipe.read(len(MAGIC))
    if not MAGIC.startswith(begin):
        raise TransportError(
            f"it printed {begin.decode(errors='replace')!r} where the answer should begin; if a login file there "
            "(such as .bashrc) prints, have it do so in interactive shells only"
        )
    if begin != MAGIC:
        raise EOFError
    found: list[Inferred] = []
    count = size = 0
    while count < windows:
        found.append(read(pipe, Inferred))
        count += len(found[-1].run_us)
        size += sum(len(output.data) + 8 * len(output.values) for output in found[-1].outputs)
        if not found[-1].run_us:
            raise TransportError("it answered without an output")
        if size > LARGEST_OUTPUTS:
            raise TransportError(f"its outputs have more than {LARGEST_OUTPUTS} bytes; use fewer test windows")
    if count > windows:
        raise TransportError(f"it answered {count} windows of {windows}")
    return found


def explain(target: str, limpet: str, status: int | None, said: str) -> str:
    """Return why there is no answer and what to do, from ssh's exit status and its stderr."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    reasons = [line.removeprefix("limpet: ") for line in lines if line.startswith("limpet: ")]
    if reasons and status != _UNKNOWN_COMMAND:
        return f"{target}: {'; '.join(reasons)}"
    if status == _NOT_FOUND:
        return (
            f"{target}: there is no program {limpet!r}; name it, as ssh://{target}?limpet=/opt/limpet/bin/limpet"
        )
    if status == _NOT_STARTED:
        return f"{target}: {limpet!r} cannot be started there: {last}"
    if status == _UNKNOWN_COMMAND:
        return f"{target}: its Limpet is too old to know `limpet tensors`; install the one that is here: {last}"
    if status == _SSH and last:
        hint = next((text for words, text in _HINTS.items() if words in last), "does `ssh` get there by hand?")
        return f"{target} cannot be reached: {last}; {hint.format(target=target)}"
    ended = "does not end" if status is None else f"ended with status {status}"
    return f"{target}: `limpet tensors` {ended} before all was answered: {last or 'it may have crashed there'}"
