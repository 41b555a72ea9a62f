"""``limpet label``: cut and label recordings, on a terminal or by options."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from limpet import terminal
from limpet.errors import ConfigError, UnreadableError
from limpet.keyboard import Keyboard
from limpet.option_values import names
from limpet.recorder.editor import Editor
from limpet.recorder.editor_screen import frame
from limpet.recordings import folder as recordings_folder
from limpet.recordings.spans import seconds_of, with_span, without
from limpet.recordings.writing import running
from limpet.sources._recordings import load
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from limpet.contracts.data import Array
    from limpet.recordings.folder import Recording, Span

HELP = "Cut and label recordings"
GROUP = "start"
EXAMPLES = (
    ("limpet label recordings", "Label the recordings of a folder, with a plot and keys."),
    ("limpet label recordings --list", "List the recordings and their labels."),
    (
        "limpet label recordings 2026-11-28T13-40-00.csv --span walk 0 12.5",
        "Label the first 12.5 seconds, without a terminal.",
    ),
)
_END = "end"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="Folder of recordings, as `limpet record` writes it.")
    add("recording", metavar="RECORDING", nargs="?", help="File name of a recording. Default: the first one.")
    add("--list", action="store_true", help="List the recordings and their labels.")
    add("--labels", metavar="A,B", type=names, default=(), help="Labels for the keys 1 to 9.")
    add(
        "--span",
        nargs=3,
        action="append",
        default=[],
        metavar=("LABEL", "BEGIN", "END"),
        help="Set a label from BEGIN to END, in seconds; END can be `end`. Can be repeated.",
    )
    add(
        "--clear-span",
        nargs=2,
        action="append",
        default=[],
        metavar=("BEGIN", "END"),
        help="Remove the labels from BEGIN to END. Can be repeated.",
    )
    add("--clear", action="store_true", help="Remove all labels of the recording, before --span.")


def main(arguments: argparse.Namespace) -> int:
    """List, change by options, or open the editor."""
    with recordings_folder.in_words():
        return _label(arguments)


def _label(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    for label in arguments.labels:
        _check(label, "--labels")
    found = recordings_folder.read(folder)
    if not folder.is_dir():
        raise ConfigError([f"{folder}: there is no such folder"])
    if arguments.list:
        print("\n".join(_listed(folder, found.recordings)))
        return 0
    if not found.recordings:
        raise ConfigError([f"{folder}: there is no recording in it. Run: limpet record --output {folder}"])
    if arguments.span or arguments.clear or arguments.clear_span:
        return _change(arguments, folder)
    chosen = _find(found.recordings, arguments.recording, folder) if arguments.recording else found.recordings[0]
    if not (terminal.is_terminal(sys.stdin) and terminal.can_draw(sys.stdout)):
        raise ConfigError(["Not a terminal that can show the editor. Use --span, --clear or --list."])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may know no Braille
    _Labeller(folder, arguments.labels).run(chosen.file)
    return 0


def _listed(folder: Path, recordings: Sequence[Recording]) -> list[str]:
    """Return a line for each recording, and one for each label of the folder."""
    lines, totals = [], dict[str, float]()
    for one in recordings:
        seconds = seconds_of(one.spans)
        for label, part in seconds.items():
            totals[label] = totals.get(label, 0.0) + part
        labels = ", ".join(f"{label} {part:.1f} s" for label, part in seconds.items()) or "no label"
        cut = "" if one.complete else " (not complete)"
        lines.append(f"{one.file}  {one.seconds:.1f} s, {one.samples:,} samples{cut}: {labels}")
    lines += [f"{name}  is being recorded" for name in running(folder)]
    total = ", ".join(f"{label} {part:.1f} s" for label, part in sorted(totals.items())) or "no label"
    return [printable(line) for line in [*lines, f"all: {total}"]]


def _find(recordings: Sequence[Recording], name: str, folder: Path) -> Recording:
    """Return the recording of a file name, or of a path to it. ``ConfigError`` if there is none."""
    wanted = Path(name).name
    for one in recordings:
        if one.file == wanted:
            return one
    raise ConfigError([f"{folder}: there is no recording {wanted!r}. Run: limpet label {folder} --list"])


def _change(arguments: argparse.Namespace, folder: Path) -> int:
    """Change the labels of a recording as the options say, all or none of it."""
    with recordings_folder.changing(folder) as found:
        if not arguments.recording and len(found.recordings) > 1:
            raise ConfigError([f"RECORDING: missing; name one of {folder}. Run: limpet label {folder} --list"])
        one = _find(found.recordings, arguments.recording or found.recordings[0].file, folder)
        spans: list[Span] = [] if arguments.clear else one.spans
        for begin, end in arguments.clear_span:
            spans = without(spans, *_part(one, begin, end, "--clear-span"))
        for label, begin, end in arguments.span:
            _check(label, "--span")
            spans = with_span(spans, label, *_part(one, begin, end, "--span"))
        one.spans = spans
    print("\n".join(_listed(folder, [one])))
    return 0


def _part(one: Recording, begin: str, end: str, option: str) -> tuple[float, float]:
    try:
        first, last = float(begin), one.seconds if end == _END else float(end)
    except ValueError:
        raise ConfigError([f"{option}: {begin!r} and {end!r} are no seconds"]) from None
    if not 0 <= first < last <= one.seconds:
        limits = f"0 <= BEGIN < END <= {one.seconds:g}, the seconds of {one.file}"
        raise ConfigError([f"{option}: expected {limits}; got {begin} {end}"])
    return first, last


def _check(label: str, option: str) -> None:
    if problem := recordings_folder.label_problem(label):
        raise ConfigError([f"{option}: {problem}"])


class _Labeller:
    """The editor on a terminal: draws, reads keys, and saves."""

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        self._folder = folder
        self._labels = list(labels)

    def run(self, file: str) -> None:
        """Edit recordings until the person leaves. The terminal gets its own screen back, whatever happens."""
        with Keyboard(screen=True) as keyboard, _screen():
            while file:
                file = self._edit(file, keyboard)

    def _edit(self, file: str, keyboard: Keyboard) -> str:
        """Edit a recording; return the next one to edit, empty to leave."""
        known = recordings_folder.read(self._folder)
        files = [one.file for one in known.recordings]
        labels = [*self._labels, *sorted({span.label for one in known.recordings for span in one.spans})]
        one = _find(known.recordings, file, self._folder)
        editor, values = self._opened(one, labels)
        where = f"{file}  {files.index(file) + 1} of {len(files)}  {one.seconds:.1f} s"
        while True:
            _draw(frame(editor, values, where, shutil.get_terminal_size().lines))
            for key in keyboard.read(1.0):
                action = editor.press(key)
                if action == "save":
                    self._save(editor)
                elif action == "reload":
                    return file
                elif action == "quit":
                    return ""
                elif action:
                    self._labels = editor.labels
                    return files[(files.index(file) + (1 if action == "next" else -1)) % len(files)]
            if not keyboard.present:
                return ""

    def _opened(self, one: Recording, labels: Sequence[str]) -> tuple[Editor, Array]:
        recording = load(recordings_folder.path_of(self._folder, one), one.channels, None)
        if recording.seconds is None or recording.values.shape[1:] != (len(one.channels),):
            raise UnreadableError(
                f"{self._folder / one.file} has no times, or other channels than its description"
            )
        return Editor(one, recording.seconds, labels), recording.values

    def _save(self, editor: Editor) -> None:
        """Save the labels, unless another program has changed those of this recording."""
        try:
            with recordings_folder.changing(self._folder) as found:
                one = _find(found.recordings, editor.recording.file, self._folder)
                if one.spans != editor.recording.spans:
                    editor.recording.spans = list(one.spans)
                    editor.message = "Another program has changed these labels. s replaces them, r takes them."
                    return
                one.spans = list(editor.spans)
        except (OSError, UnreadableError, ConfigError) as error:
            editor.message = f"Not saved: {error}"
            return
        editor.recording.spans = list(editor.spans)
        editor.saved()


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Use the terminal's other screen, without its cursor, while the ``with`` block lasts."""
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def _draw(lines: Sequence[str]) -> None:
    sys.stdout.write("\x1b[H" + "".join(f"\x1b[K{line}\r\n" for line in lines[:-1]) + f"\x1b[K{lines[-1]}\x1b[J")
    sys.stdout.flush()
