"""Checks the house style: ``python tools/prose.py [PATH ...]``. Default: all prose of the repository.

Sentences have at most 25 words, words are those of the field (``words.toml``), and ``proselint`` finds clichés,
archaisms and doubled words. Prints ``FILE:LINE: message``; exit status 1 if there is a finding.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from proselint.checks import __register__
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

from prose_text import count_words, sentences, texts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prose_text import Text

ROOT = Path(__file__).parent.parent
LONGEST = 25
"""Words of a sentence, at most."""
PROSE = (
    "*.md",
    "agent/**/*.md",
    "agent/**/*.py",
    "converters/**/*.md",
    "converters/**/*.py",
    "docs/**/*.md",
    "firmware-configs/**/*.md",
    "firmware-configs/**/*.toml",
    "packaging/**/*.md",
    "packaging/**/*.sh",
    "systemd/*",
    "tools/*.py",
    "tools/*.sh",
    "Makefile",
)
STRICT = ("page", "docstring", "message")
"""What sentences have a largest length."""
OFF = (
    "typography",
    "lexical_illusions",
    "annotations",
    "dates_times",
    "misc",
    "hedging",
    "industrial_language",
    "spelling",
    "terms",
    "weasel_words",
    "needless_variants",
    "uncomparables",
)
"""Checks of proselint that are off: they report code, units and British spelling, or take longer than the rest."""
_DOUBLED = re.compile(r"(?<![\w-])([A-Za-z][a-z]*) (?i:\1)\b(?<![A-Z])")


class Finding(NamedTuple):
    """A place that breaks the house style."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}:{self.line}: {self.message}"


def words() -> list[tuple[re.Pattern[str], str]]:
    """Return the words that the house style does not use, each with what it uses."""
    table = msgspec.toml.decode((ROOT / "tools" / "words.toml").read_bytes())["words"]
    return [(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), use) for pattern, use in table.items()]


def _any_of(avoided: Iterable[tuple[re.Pattern[str], str]]) -> re.Pattern[str]:
    """Return one pattern for all: most texts have none of the words, and one search is quick."""
    return re.compile("|".join(pattern.pattern for pattern, _ in avoided), re.IGNORECASE)


def findings(texts: Sequence[Text]) -> Iterator[Finding]:
    """Yield what breaks the house style in texts."""
    avoided = words()
    any_of = _any_of(avoided)
    for text in texts:
        for pattern, use in avoided if any_of.search(text.text) else ():
            for match in pattern.finditer(text.text):
                yield Finding(text.path, text.line, f'"{match[0]}": use {use}')
        for match in _DOUBLED.finditer(text.text) if text.kind in STRICT else ():
            yield Finding(text.path, text.line, f'"{match[0]}": a repeated word')
        for sentence in sentences(text.text) if text.kind in STRICT else ():
            if (count := count_words(sentence)) > LONGEST:
                start = " ".join(sentence.split()[:8])
                yield Finding(text.path, text.line, f'{count} words, at most {LONGEST}: "{start} ..."')
    yield from _of_proselint(texts)


def _of_proselint(texts: Sequence[Text]) -> Iterator[Finding]:
    """Yield what proselint finds. It gets all texts at once, as each call takes long."""
    joined = [f"{' '.join(text.text.split())}\n\n" for text in texts]
    begins = [0, *accumulate(map(len, joined))]
    if not texts:
        return
    for result in LintFile("texts", "".join(joined)).lint(_settings()):
        found = result.check_result
        text = texts[min(bisect_right(begins, max(found.span[0] - 1, 0)), len(texts)) - 1]
        yield Finding(text.path, text.line, f"{found.check_path}: {found.message}")


def _settings() -> Config:
    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many(__register__)
    return Config(max_errors=1000, checks={**DEFAULT["checks"], **dict.fromkeys(OFF, False)})


def files(paths: Iterable[Path]) -> list[Path]:
    """Return the files to check: those named, or all of the repository."""
    named = list(paths)
    found = named or [path for pattern in PROSE for path in ROOT.glob(pattern)]
    return sorted({path.resolve() for path in found if path.is_file()})


def main() -> int:
    """Print all findings."""
    found = [*findings([text for path in files(map(Path, sys.argv[1:])) for text in texts_of(path)])]
    for finding in sorted(found):
        print(finding)
    if found:
        print(f"{len(found)} findings. CONTRIBUTING.md has the house style.", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
