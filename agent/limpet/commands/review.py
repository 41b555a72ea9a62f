"""``limpet review``: a person looks at captures and says what they show."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from limpet.audit.local_user import local_user
from limpet.captures import ring
from limpet.commands._captures_folder import add_folder, add_key, each, key_of, root_of
from limpet.commands._review_screen import Screen, screen_or_lines
from limpet.contracts.captures import Truth
from limpet.device import state_files
from limpet.errors import LimpetError, UnreadableError
from limpet.option_values import positive
from limpet.recordings.folder import label_problem
from limpet.review import answers, session
from limpet.review.session import Queue, Said
from limpet.untrusted import printable, read_linked_file

if TYPE_CHECKING:
    import argparse

    from limpet.captures.ring import Entry

HELP = "Look at captured windows, and say what they show"
GROUP = "look"
EXAMPLES = (
    ("sudo limpet review", "Label the captures of the daemon. It counts them as feedback."),
    ("limpet review captures --labels idle,walking", "Label captures that were fetched."),
    ("limpet review captures --answers answers.jsonl", "Take the answers of a script."),
)


class _Wanted(NamedTuple):
    """How answers are kept. ``tolerance``: how far the model's number may be off. ``by``: who answers."""

    tolerance: float | None
    by: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_folder(parser)
    add_key(parser)
    add = parser.add_argument
    add("--labels", metavar="A,B", default="", help="Labels to offer first. Default: those of the captures.")
    add("--all", action="store_true", help="Show captures that have an answer, too. Default: only those without.")
    add(
        "--tolerance",
        type=positive,
        metavar="X",
        help="How far the model's number may be from the truth. Needed if the model answers with numbers.",
    )
    add(
        "--by",
        metavar="NAME",
        default="",
        help="Name to keep with the answers. Default: this user.",
    )
    add(
        "--answers",
        metavar="FILE",
        help='JSON lines with answers, such as {"capture": "motion/42", "truth": "idle"}. "-" is standard input.',
    )


def main(arguments: argparse.Namespace) -> int:
    """Review. Exit status 1 if an answer or a capture of it could not be used."""
    root, key = root_of(arguments), key_of(arguments.key)
    script = None if arguments.answers is None else _script(arguments.answers)
    wanted = _Wanted(arguments.tolerance, (arguments.by or local_user())[:200])
    labels = _labels(arguments.labels)
    state_files.become_owner(root)
    problems: list[str] = []
    entries = list(each(root, arguments.pipeline, problems))
    try:
        if script is not None:
            done = _take_script(script, arguments.answers, entries, wanted, problems)
        else:
            waiting = [one for one in entries if arguments.all or one.truth is None]
            done = _ask(Queue(waiting, labels), screen_or_lines(key), wanted, problems)
    except BrokenPipeError:  # the program that reads this has ended
        raise
    except OSError as error:
        where = error.filename or root
        raise LimpetError(f"{where}: {error.strerror}. Run this as root or as the user of the service") from error
    print(f"{done} answers kept in {root}")
    for problem in problems:
        print(printable(problem), file=sys.stderr)
    return 1 if problems else 0


def _labels(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if problem := label_problem(name):
            raise LimpetError(f"--labels: {problem}")
    return names


def _script(name: str) -> bytes:
    if name == "-":
        data = sys.stdin.buffer.read(answers.LARGEST + 1)
        if len(data) > answers.LARGEST:
            raise UnreadableError(f"standard input has more than {answers.LARGEST} bytes")
        return data
    try:
        return read_linked_file(Path(name), answers.LARGEST)
    except OSError as error:
        raise LimpetError(f"--answers: {name}: {error.strerror}") from error


def _take_script(data: bytes, name: str, entries: list[Entry], wanted: _Wanted, problems: list[str]) -> int:
    """Keep the answers of a script. Nothing is kept if a line of it cannot be read."""
    done = 0
    for place, one, said in list(answers.read(data, "standard input" if name == "-" else name)):
        found = [
            entry
            for entry in entries
            if entry.capture.name == one.capture and one.device in {"", entry.capture.device}
        ]
        if len(found) != 1:
            what = f"several devices have the capture {one.capture}; add device" if found else f"no {one.capture}"
            problems.append(f"{place}: {what}")
            continue
        try:
            _keep(found[0], session.checked(said, found[0].capture.answer), wanted)
        except LimpetError as error:
            problems.append(f"{place}: {error}")
        else:
            done += 1
    return done


def _ask(queue: Queue, screen: Screen, wanted: _Wanted, problems: list[str]) -> int:
    """Show capture after capture, and keep each answer at once. Return how many captures have one."""
    with screen:
        while (entry := queue.current) is not None:
            place = queue.at
            step = screen.ask(queue)
            if isinstance(step, Said):
                try:
                    entry.truth = _keep(entry, step, wanted)
                except FileNotFoundError:
                    problems.append(f"{entry.capture.name} is gone: the daemon or a person deleted it")
                except LimpetError as error:
                    screen.say(str(error))
                    continue
                else:
                    queue.said[place] = step
            queue.take(step)
    return len(queue.said)


def _keep(entry: Entry, said: Said, wanted: _Wanted) -> Truth:
    """Write an answer beside its capture. ``LimpetError`` if it cannot be used. ``OSError``."""
    needs = isinstance(said.truth, float)
    if needs and wanted.tolerance is None:
        raise LimpetError("a truth that is a number needs --tolerance: how far the model's number may be off")
    truth = Truth(
        truth=said.truth,
        tolerance=wanted.tolerance if needs else None,
        unsure=said.unsure,
        by=wanted.by,
        time=datetime.now(timezone.utc),
    )
    entry.path.stat()  # a truth of a capture that is gone would belong to nothing
    ring.write_truth(entry.path, truth)
    return truth
