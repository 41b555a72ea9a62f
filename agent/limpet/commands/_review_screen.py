"""How ``limpet review`` asks a person: by keys on a terminal, else by lines of standard input."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING

from limpet import terminal
from limpet.captures import copying, form
from limpet.errors import LimpetError, UnreadableError
from limpet.keyboard import Keyboard
from limpet.review import display
from limpet.review.session import END, NOTHING, PLAY, WORDS, understood
from limpet.untrusted import printable

if TYPE_CHECKING:
    from typing_extensions import Self

    from limpet.captures.ring import Entry
    from limpet.captures.sealing import PrivateKey
    from limpet.contracts.captures import Contents
    from limpet.review.session import Queue, Step

_PLAYERS = (("pw-play",), ("paplay",), ("aplay", "-q"), ("afplay",))
_LONGEST_SOUND = 60.0
_KEYS = {"left": "b", "right": "s", " ": "s", "enter": "s"}


class Screen:
    """Shows captures and takes what a person says. Keys work if standard input and output are a terminal."""

    def __init__(self, key: PrivateKey | None, *, keys: bool) -> None:
        self._key = key
        self._keys = keys
        self._keyboard = Keyboard()
        self._open = ExitStack()
        self._note = ""
        self._waiting: deque[str] = deque()
        """Keys that were pressed and not looked at yet."""

    def __enter__(self) -> Self:
        if self._keys:
            self._open.enter_context(self._keyboard)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def say(self, text: str) -> None:
        """Show a text above the next question."""
        self._note = text

    def ask(self, queue: Queue) -> Step:
        """Show the current capture, and return what the person wants. The end of the input ends the review."""
        entry = queue.entries[queue.at]
        contents = self._show(entry, queue)
        while True:
            if self._note:
                print(printable(self._note), flush=True)
                self._note = ""
            text = self._pressed(entry) if self._keys else _line()
            if text is None:
                return END
            try:
                step = understood(text, entry.capture.answer, queue.labels)
                if step != PLAY:
                    return step
                self._play(entry, contents)
            except LimpetError as error:
                self._note = str(error)

    def _show(self, entry: Entry, queue: Queue) -> Contents | None:
        if self._keys and terminal.can_draw(sys.stdout):
            sys.stdout.write("\x1b[2J\x1b[H")
        columns, lines = shutil.get_terminal_size()
        for text in display.heading(entry, f"{queue.at + 1}/{len(queue.entries)}"):
            print(text)
        contents = None
        try:
            contents = form.contents(entry.capture, copying.clear(entry.path, self._key)[1], str(entry.path))
            size = columns - 1, max(6, lines - 9)
            colour = terminal.takes_colour(sys.stdout)
            for text in display.window(entry.capture, contents, size, colour=colour):
                print(text)
        except FileNotFoundError:
            print(printable(f"{entry.capture.name} is gone: the daemon or a person deleted it"))
        except UnreadableError as error:
            print(printable(f"the window cannot be shown: {error}"))
        print(display.keys(queue, entry.capture.answer), flush=True)
        return contents

    def _pressed(self, entry: Entry) -> str | None:
        """Return what the next key means, as a line. Numbers and other labels are typed until Enter."""
        number = isinstance(entry.capture.answer, float)
        while (pressed := self._key_pressed()) is not None:
            key = _KEYS.get(pressed, pressed)
            if number and (key.isdecimal() or key in {"-", "."}):
                return self._typed(key)
            if key == "=":
                return self._typed("=")
            if key in WORDS or key == NOTHING or key.isdecimal():
                return key
        return None

    def _key_pressed(self) -> str | None:
        """Wait for the next key. Return ``None`` if the terminal is gone."""
        while not self._waiting and self._keyboard.present:
            self._waiting.extend(self._keyboard.read(1.0))
        return self._waiting.popleft() if self._waiting else None

    def _typed(self, text: str) -> str | None:
        """Return a line that is typed, shown as it grows. Escape takes it back."""
        while True:
            sys.stdout.write(f"\r\x1b[K> {printable(text.removeprefix('='))}")
            sys.stdout.flush()
            key = self._key_pressed()
            if key is None:
                return None
            if key == "enter":
                sys.stdout.write("\n")
                return text
            if key == "escape":
                sys.stdout.write("\r\x1b[K")
                raise LimpetError("nothing is kept")
            if key == "backspace":
                text = text[:-1] if text != "=" else text
            elif len(key) == 1:
                text += key

    def _play(self, entry: Entry, contents: Contents | None) -> None:
        """Play a sound. ``LimpetError`` if there is none, or nothing to play it with."""
        if contents is None:
            raise LimpetError("the window cannot be read")
        sound = display.wave(entry.capture, contents)
        player = next((one for one in _PLAYERS if shutil.which(one[0])), None)
        if player is None:
            raise LimpetError(f"no player is installed: {', '.join(one[0] for one in _PLAYERS)}")
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            file.write(sound)
            file.flush()
            try:
                subprocess.run([*player, file.name], check=True, capture_output=True, timeout=_LONGEST_SOUND)
            except (OSError, subprocess.SubprocessError) as error:
                raise LimpetError(f"{player[0]}: {error}") from error


def _line() -> str | None:
    line = sys.stdin.readline(1 << 12)
    return line or None


def screen_or_lines(key: PrivateKey | None) -> Screen:
    """Return a screen with keys if this is a terminal, else one that reads lines."""
    return Screen(key, keys=terminal.is_terminal(sys.stdin) and terminal.is_terminal(sys.stdout))
