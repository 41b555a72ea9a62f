"""The one guard for calls into runtimes and converter libraries.

Such a library raises anything, prints on the terminal from Python and from C++, and draws bars. In ``called`` all
of that becomes one ``ConvertError``. What it printed is kept, and written to ``converter.log`` if the call fails.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import sys
import tempfile
import traceback
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from typing import IO, TYPE_CHECKING, Any

from limpet.errors import LimpetError
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOG = "converter.log"
_SIGNING = frozenset({"tuf", "securesystemslib", "cryptography"})
"""Packages that the small extra ``updates`` has, too."""
_UNSHOWN = "\N{REPLACEMENT CHARACTER}"
_LONGEST = 2000
"""Characters of any text of foreign origin."""
_LONGEST_REASON = 400
_C = ctypes.CDLL(None)
_KEPT = 1 << 20
"""Bytes of what a library printed that are kept at most, the last ones."""
_COLOURS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-_])")
_NOISE = re.compile(
    r"""\s*( Traceback\ \(most\ recent | File\ ".*",\ line\ \d | [\^~]+\s*$ | loc\( | note:\ | [-=*_#]{3,}\s*$
    | [IW]\d{4}\ | (INFO|WARNING): | .*:\s*$ | Detected\ at\ node | <stack\ traces )
    | .*\ ( see\ current\ operation | [IW]\ (tensorflow|external)/ )""",
    re.VERBOSE,
)
"""Lines that say where a library was, not what is wrong."""
_PREFIX = re.compile(r"^(?:(?:ERROR:|error:|loc\([^)]*\):|<unknown>:\d+:|\S+\.(?:cc|cpp|h|py):\d+:?)\s*)+")


class _State:
    """``file``: where libraries print to, and ``folder``: where their log is kept. ``depth`` of calls now."""

    file: IO[bytes] | None = None
    folder: Path | None = None
    depth = 0


def need(module: str, extra: str = "convert") -> Any:
    """Import a heavy package when it is first used. ``ConvertError`` names its extra."""
    if (there := sys.modules.get(module)) is not None:
        return there
    try:
        with _hidden():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name not in {package, module}:
            raise
        extra = "updates" if package in _SIGNING else extra
        raise ConvertError(f"{module} is not installed; it comes with: pip install 'limpet[{extra}]'") from error


@contextmanager
def called(
    library: str,
    doing: str,
    layers: Callable[[str], str] | None = None,
    explain: Callable[[Exception, str], str] | None = None,
) -> Iterator[None]:
    """Guard a call into ``library``: what it raises becomes ``ConvertError``, what it prints is not shown.

    The text is ``DOING, in layer LAYER: LIBRARY: REASON``. ``layers`` returns the layer's name for the library's
    text, empty if unknown. ``explain`` returns the whole text in plain words, from what was raised and printed,
    or an empty one to leave it to this guard. Limpet's own errors pass as they are.
    """
    with _hidden() as printed:
        try:
            yield
        except LimpetError:
            raise
        except (Exception, SystemExit) as error:
            said = printed()
            text = f"{error}\n{said}"
            plain = explain(error, said) if explain and isinstance(error, Exception) else ""
            if not plain:
                layer = layers(text) if layers else ""
                plain = f"{doing}{f', in layer {layer}' if layer else ''}: {library}: {reason(error, said)}"
            details = f"{said}\n{''.join(traceback.format_exception(error))}"
            raise ConvertError(with_log(shown(plain), details), details) from error


def reason(error: BaseException, said: str = "", *, last: bool = False) -> str:
    """Return in one line why a library failed: the first useful line of its error, else the last one it printed.

    Without colours, places in source files, and characters that a terminal cannot show. ``last``: take the last
    line of the error.
    """
    lines = _telling(str(error)) or _telling(said)[-1:]
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    kind = type(error).__name__
    if not lines:
        return f"{kind} without a reason"
    line = lines[-1 if last else 0]
    text = f"{kind}: {line}" if isinstance(error, LookupError) else line
    return shown(text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} ...")


def last_line(said: str) -> str:
    """Return the last useful line of what a library printed, empty if there is none."""
    return shown(next(reversed(_telling(said)), "")[:_LONGEST_REASON])


def _telling(text: str) -> list[str]:
    whole = [line for line in uncoloured(text).splitlines() if line.strip(" .:")]
    useful = [line for line in whole if not _NOISE.match(line)] or whole[:1]
    return [line.rstrip(" .:") for line in (_PREFIX.sub("", line.strip()) for line in useful) if line]


def uncoloured(text: str) -> str:
    """Return text without the codes that colour it or move the cursor; of a line written again the last form."""
    lines = _COLOURS.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def shown(text: str) -> str:
    """Return text of foreign origin as a terminal can show it."""
    return "".join(letter if letter.isprintable() else _UNSHOWN for letter in text[:_LONGEST])


def keep_log(folder: Path | None) -> None:
    """Write a library's report of a failure to ``converter.log`` in this folder from now on, or nowhere."""
    _State.folder = folder
    if folder:
        (folder / LOG).unlink(missing_ok=True)


def with_log(text: str, details: str) -> str:
    """Write the details of a failure to the log, if there is one, and return the text with the log's path."""
    if _State.folder is None or not details.strip():
        return text
    path = _State.folder / LOG
    with suppress(OSError):
        path.write_text(uncoloured(details), encoding="utf-8", errors="replace")
        return f"{text}. Details: {path}"
    return text


def print_to(file: IO[bytes]) -> None:
    """Let libraries print to this file, which is open to read and write, such as a jailed child's stderr."""
    _State.file = file


@cache
def terminal() -> IO[str]:
    """Return a stream to what stderr was at the first call. What is written there is shown during calls too."""
    return os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)


@contextmanager
def _hidden() -> Iterator[Callable[[], str]]:
    """Send what is printed to a file, C++ included. What it yields returns what was printed since."""
    if _State.file is None:
        _State.file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
    file = _State.file
    begin = os.lseek(file.fileno(), 0, os.SEEK_END)

    def printed() -> str:
        _flush()
        end = os.lseek(file.fileno(), 0, os.SEEK_END)
        return os.pread(file.fileno(), min(end - begin, _KEPT), max(begin, end - _KEPT)).decode(errors="replace")

    if _State.depth:
        yield printed
        return
    _State.depth += 1
    _flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        with _text(file) as text, redirect_stdout(text), redirect_stderr(text), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield printed
    finally:
        _State.depth -= 1
        _flush()
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _flush() -> None:
    """Write out what Python and C have in their buffers."""
    _C.fflush(None)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # Its reader may have ended.
            stream.flush()


@contextmanager
def _text(file: IO[bytes]) -> Iterator[IO[str]]:
    """Open the file as one for text, which leaves it open."""
    text = open(file.fileno(), "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
    try:
        yield text
    finally:
        text.close()
