"""The checker of the house style finds what it should, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("proselint", reason="proselint is a tool of developers; other environments have none")

from prose import findings
from prose_text import count_words, sentences, texts_of

if TYPE_CHECKING:
    from pathlib import Path

LONG = "one two three four five six seven eight nine ten " * 2 + "eleven twelve thirteen fourteen fifteen sixteen"


def found(path: Path, text: str) -> list[str]:
    path.write_text(text, encoding="utf-8")
    return [f"{one.line}: {one.message}" for one in findings(texts_of(path))]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("# A page\n\nLimpet mends it.\n", ['3: "mends": use fix, repair']),
        ("Whoever reads it.\n", ['1: "Whoever": use a person who, each client that']),
        (f"{LONG}.\n", ['1: 26 words, at most 25: "one two three four five six seven eight ..."']),
        ("| a | b |\n| --- | --- |\n| it is is | c |\n", ['3: "is is": a repeated word']),
        ("```sh\nmend it it\n```\n", []),
        (f"`{LONG}` is one word, and so is https://x.example/mend.\n", []),
        ("A first sentence. And a second.\n\nA third one!\n", []),
        ("Run limpet-convert convert, with a file FILE.\n", []),
        (
            "It runs in a small process of its own.\n",
            ['1: "a small process of its own": use its own X, or a separate X'],
        ),
    ],
)
def test_pages(tmp_path: Path, text: str, wrong: list[str]) -> None:
    assert found(tmp_path / "page.md", text) == wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('"""It mends."""\n', ['1: "mends": use fix, repair']),
        ("x = 1  # nobody knows why this is here\n", ['1: "nobody": use no user, none, anonymous']),
        ('raise ValueError(f"{x}: the guilty layer is {y}")\n', ['1: "guilty": use that causes the error']),
        ('x = "nobody"\n', []),
        (f'"""X.\n\n    Such::\n\n        {LONG}\n"""\n', []),
        ("x = 1  # noqa: S101 - nobody\n", []),
        (f'x = "{LONG}".split()\n', []),
        (f'x = re.compile(r"{LONG}")\n', []),
        (f'x = "import sys\\n{" + ".join(LONG.split()).replace(" + ", "; ")}"\n', []),
        (f'x = "run() {{ {LONG} }}"\n', []),
        (f'"""X.\n\n``one``  {LONG[:60]}\n``two``  {LONG[:60]}\n"""\n', []),
    ],
)
def test_code(tmp_path: Path, text: str, wrong: list[str]) -> None:
    assert found(tmp_path / "code.py", text) == wrong


def test_comments_of_other_files(tmp_path: Path) -> None:
    assert found(tmp_path / "limpet.service", "# it starts anew\n[Unit]\nDescription=anew\n") == [
        '1: "anew": use again'
    ]


def test_sentences_and_words() -> None:
    assert sentences("One. Two `x.y`? 3 is three: no end; here. \n\n* four\n* five") == [
        "One.",
        "Two `x.y`?",
        "3 is three: no end; here.",
        "* four",
        "* five",
    ]
    assert count_words("The user's word-for-word file, 3.5 MB") == 6
