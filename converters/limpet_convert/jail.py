"""Opens foreign models in a sandboxed child process, as the agent's workers do.

A model of TensorFlow, Keras, PyTorch, ONNX or Core ML is read by a large library, and may hold code that runs
there. The child can read Python, the libraries and the model; it can write its own scratch folder. It has no
network and starts no program. What it answers is not trusted either.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from limpet.errors import ConfigError, UnreadableError
from limpet.wire import stream
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import last_line, shown, with_log

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST = (1 << 32) - 1
"""Bytes of an answer: a model of 2 GiB, or the outputs of one run."""
LONGEST = 1800
"""Seconds that a job may take: a model may hold a loop without an end."""
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "OMP_NUM_THREADS")
_PREFIXES = ("TF_", "KERAS_", "XLA_")
_BORDERS = {"landlock": "it can read and write your files", "seccomp": "it can start programs and use the network"}
_warned: set[str] = set()


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """Result of a job. ``problems``: those of a ``ConfigError``; ``error``: any other, and its ``details``."""

    result: Any = None
    error: str = ""
    details: str = ""
    problems: list[str] = []


class CrashedError(ConvertError):
    """The child did not survive a job. ``how``: the signal or the exit status."""

    def __init__(self, text: str, details: str, how: str) -> None:
        super().__init__(text, details)
        self.how = how


class LateError(ConvertError):
    """The child did not end a job in time, and was killed."""


class Jail:
    """A child that does jobs of ``limpet_convert.jobs``, one after the other. It ends with this object."""

    def __init__(self, read: Iterable[Path]) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="limpet-convert-")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the child
        self.scratch = Path(self._scratch.name)
        paths = [[str(path.resolve()) for path in group] for group in (read, [self.scratch])]
        self._child = subprocess.Popen(
            [sys.executable, "-c", "from limpet_convert import jailed; jailed.work()", json.dumps(paths)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd=self._scratch.name,
            env=_environment(self._scratch.name),
        )
        self.pid = self._child.pid
        self._end = weakref.finalize(self, _end, self._child, self._scratch, self._said)
        self._warn(self._receive().result)

    def call(self, job: str, *arguments: Any, within: float = LONGEST) -> Any:
        """Have a job done. ``ConvertError`` or ``ConfigError`` if it cannot be, or the child does not survive.

        ``within``: seconds after which the child is killed, ``LateError``. It can do no other job then.
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            self._child.kill()

        timer = threading.Timer(within, end)
        timer.daemon = True
        timer.start()
        try:
            return self._answer(job, *arguments)
        except CrashedError as error:
            if not late.is_set():
                raise
            raise LateError(
                f"the model's process had no answer within {within:g} s. The model is too large, or it holds a "
                "loop that does not end",
                error.details,
            ) from error
        finally:
            timer.cancel()

    def _answer(self, job: str, *arguments: Any) -> Any:
        try:
            orders = self._pipe(self._child.stdin)
            stream.write(orders, [job, *arguments])
            orders.flush()
        except OSError:
            raise self._crashed() from None
        answer = self._receive()
        if answer.problems:
            raise ConfigError([shown(problem) for problem in answer.problems])
        if answer.error:
            raise ConvertError(with_log(shown(answer.error), answer.details), answer.details)
        return answer.result

    def close(self) -> None:
        """End the child."""
        self._end()

    def _receive(self) -> Answer:
        try:
            return stream.read(self._pipe(self._child.stdout), Answer, LARGEST)
        except EOFError:
            raise self._crashed() from None
        except UnreadableError as error:
            raise ConvertError(f"the answer of the model's process: {error}") from error

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe

    def _crashed(self) -> CrashedError:
        self._child.kill()
        status = self._child.wait()
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - 4096))
        said = self._said.read().decode(errors="replace")
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        text = f"the process that opened the model ended ({how}): {last_line(said) or 'it said nothing'}"
        return CrashedError(with_log(text, said), said, how)

    @staticmethod
    def _warn(in_force: Any) -> None:
        """Print on stderr, once each, which parts of the sandbox this system lacks."""
        names = [str(name) for name in in_force] if isinstance(in_force, list) else []
        for border, harm in _BORDERS.items():
            if border not in _warned and not any(name.startswith(border) for name in names):
                _warned.add(border)
                sys.stderr.write(
                    f"limpet-convert: warning: this system has no {border}. If the model holds code, {harm}. "
                    "Convert models of others on a system that has it.\n"
                )


def _end(child: subprocess.Popen[bytes], scratch: tempfile.TemporaryDirectory[str], said: IO[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout, said):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
    scratch.cleanup()


def _environment(scratch: str) -> dict[str, str]:
    """Return what the child sees: no secrets, and every folder for temporary files is its own."""
    kept = {k: v for k, v in os.environ.items() if k in _ENVIRONMENT or k.startswith(_PREFIXES)}
    own = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), scratch)
    return kept | own | {"PYTHONPATH": os.pathsep.join(_module_paths()), "CUDA_VISIBLE_DEVICES": ""}


def _module_paths() -> list[str]:
    """Return where this process finds modules, without the current folder, which may hold secrets."""
    here = Path(__file__).resolve().parents[1]
    paths = [Path(path).resolve() for path in sys.path if path]
    return [str(path) for path in paths if path == here or path != Path.cwd()]
