"""Commands on the pages of the documentation, and what a page says about running them.

A block of commands is fenced as ``console``. Each line that begins with ``$ `` is a command, the lines below it
are output. A comment on the line above the block says what the reader of the page does beside the terminal:

    <!-- test: stop: limpet run; first: mkdir models -->

* ``first: COMMAND`` is typed before. It makes what the page says that the reader has.
* ``with: configuration`` has a configuration and its model, ``with: recording`` one whose source is a recording.
* ``with: board`` has a board with nine channels at the port, ``with: daemon`` a running daemon, too.
* ``meanwhile: COMMAND`` is left running in another window.
* ``stop: TEXT`` presses Ctrl-C in the window whose command contains the text, and goes on there.
* ``status: N`` is the exit status of the last command. Default: 0.
* ``not run: REASON`` is for what cannot run on the machine that runs the tests. ``REASONS`` has the reasons. If
  the environment of the converters is there, tutorials run with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

REASONS = {
    "root": r"\bsudo |^(?:ln|install|mkdir) .*/(?:usr|etc)/|/opt/limpet",
    "a service": r"^(?:systemctl|journalctl|systemd-\w+) ",
    "a container": r"^podman |^packaging/",
    "another device": r"\w+://\w+@|mqtt://broker\.local",
    "a package": r"\blimpet[-_]0\.1\.0",
    "another processor": r"--delegate edgetpu|'\.\[coreml\]'",
    "the converters": r"limpet-convert (?!keygen|root|sign|desired|package parts)|\.venv-convert"
    r"|convert-(?:tensorflow|torch)|converters/examples",
    "a camera or a microphone": r"--camera /dev/|--microphone hw:",
    "a test of its own": r"^make \w+|^dtc ",
}
"""Why commands do not run here, and commands to which it applies without a comment on the page."""

_BLOCK = re.compile(
    r"(?:^ *<!-- test: (?P<notes>(?:(?!-->).)*?) -->\n)?^(?P<indent> *)```console\n(?P<body>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)

KEYS = ("first", "with", "meanwhile", "stop", "status", "not run")


class Command(NamedTuple):
    """A command as it stands on a page, and the lines of output that the page shows."""

    text: str
    output: list[str]


class Block(NamedTuple):
    """Commands that are typed one after the other. ``notes``: what the comment above says, in order."""

    page: Path
    line: int
    commands: list[Command]
    notes: list[tuple[str, str]]

    @property
    def place(self) -> str:
        """Return where the block stands."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def not_run(self) -> str:
        """Return the reason for which the block does not run here; empty if it does."""
        for key, value in self.notes:
            if key == "not run":
                return value
        texts = [command.text for command in self.commands]
        return next((reason for reason, sign in REASONS.items() if any(re.search(sign, t) for t in texts)), "")


def pages() -> list[Path]:
    """Return the pages with commands, in the order in which a person reads them."""
    kinds = ["README.md", "docs/tutorials/*.md", "docs/how-to/**/*.md", "docs/explanation/*.md"]
    kinds += ["docs/reference/*.md", "firmware-configs/*/README.md"]
    found = [page for kind in kinds for page in sorted(ROOT.glob(kind))]
    return [page for page in found if blocks(page)]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of commands of a page. ``ValueError`` for one that is written in another way."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("body"))
        body = re.sub(rf"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        block = Block(page, line, _commands(body.replace("\\\n", "")), _notes(match["notes"] or ""))
        if not block.commands:
            raise ValueError(f'{block.place}: no line begins with "$ "')
        found.append(block)
    return found


def _commands(body: str) -> list[Command]:
    found: list[Command] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        elif found and line.strip():
            found[-1].output.append(line)
    return found


def _notes(comment: str) -> list[tuple[str, str]]:
    notes = []
    for note in filter(None, map(str.strip, comment.split(";"))):
        key, _, value = note.partition(": ")
        notes.append((key, value))
        if key not in KEYS or not value or (key == "not run" and value not in REASONS):
            raise ValueError(f"{comment}: use {', '.join(KEYS)}; reasons: {', '.join(REASONS)}")
    return notes
