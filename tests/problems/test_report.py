"""Problems as they are printed: with their line, printable, bounded, in colour only where it is wanted."""

from __future__ import annotations

import io
import os
import pty
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import config
from limpet.errors import ConfigError, ConfigFileError, Problem
from limpet.problems.locate import in_file, locate
from limpet.problems.report import MOST_EXCERPTS, MOST_SHOWN, report, sentence
from limpet.terminal import is_terminal, styled, takes_colour

if TYPE_CHECKING:
    from pathlib import Path


def printed(text: str, *sentences: str, colour: bool = False) -> str:
    return report("limpet", ConfigFileError(locate("limpet.toml", text, sentences)), colour=colour)


MQTT = '[mqtt]\nurl = "mqtt://b"\nqos = 3 # at most once\n'


def test_the_sentence_the_line_and_carets() -> None:
    assert printed(MQTT, "mqtt.qos is 3; use 0 or 1") == (
        "limpet.toml:3:7: mqtt.qos is 3; use 0 or 1.\n    3 | qos = 3 # at most once\n      |       ^"
    )


@pytest.mark.parametrize(
    ("text", "sentence", "place", "marked"),
    [
        (MQTT, "mqtt.qos: unknown key", (3, 1), "qos"),
        (MQTT, "mqtt.client_id is missing; use text", (1, 2), "mqtt"),
        (MQTT, "mqtt: nothing fits", (1, 2), "mqtt"),
        (MQTT, "mqtt.url, ca_file and key_file do not fit", (2, 7), '"mqtt://b"'),
        (MQTT, "no reporter: add one", (1, 1), ""),
        (MQTT, "sources is missing", (1, 1), ""),
        ("a = [\n  1,\n  { b = [3, 4] },\n]\n", "a[1].b[1] is 4", (3, 13), "4"),
        ("a = [\n  1,\n]\n", "a is a list of 1", (1, 5), "["),
        ("a = [1]\n", "a[7].b is missing", (1, 1), "a"),
        ('[x."a.b"]\ny = 1\n[x.a]\nz = 2\n', "x.a.b.y is 1", (2, 5), "1"),
        ('[x."a: b"]\ny = 1\n', "x.a: b.y is 1", (2, 5), "1"),
        ("[[a]]\nx = 1\n[[a]]\nx = 2\n", "a[1].x is 2", (4, 5), "2"),
        ("a.b.c = true\n", "a.b: is a table", (1, 3), "b"),
    ],
)
def test_a_sentence_leads_to_its_place(text: str, sentence: str, place: tuple[int, int], marked: str) -> None:
    (problem,) = locate("f", text, [sentence])
    assert (problem.line, problem.column) == place
    assert problem.excerpt[problem.column - 1 :][: problem.length] == marked


def test_problems_come_in_the_order_of_the_file_and_once() -> None:
    text = "[device]\nid = 1\n[mqtt]\nqos = 3\n"
    found = locate("f", text, ["mqtt.qos is 3", "device.id is 1", "no reporter", "mqtt.qos is 3"])
    assert [problem.message for problem in found] == ["no reporter", "device.id is 1", "mqtt.qos is 3"]


@pytest.mark.parametrize(
    "line",
    [
        'password = "hunter2"',
        'pasword = "hunter2"',
        'x = { token = "hunter2" }',
        "url = 'mqtt://me:hunter2@broker'",
        '"secret" = """hunter2"""',
    ],
)
def test_passwords_are_not_shown(line: str) -> None:
    key = line.split(" ", maxsplit=1)[0].strip('"')
    text = f"[mqtt]\n{line}\n"
    for said in (f"mqtt.{key}: unknown key", f"mqtt.{key}: holds no credentials"):
        if "pasword" not in line or "unknown" in said:
            assert "hunter2" not in printed(text, said)
    (tmp,) = locate("f", text, [f"mqtt.{key}: unknown key"])
    assert "hunter2" not in repr(tmp)


def test_a_long_line_is_cut_around_the_place() -> None:
    text = f'a = {{ b = "{"x" * 50_000}", c = 3, d = "{"y" * 50_000}" }}\n'
    (sentence, line, carets) = printed(text.replace("x" * 50_000, "x" * 500), "a.c is 3").splitlines()
    assert sentence == "limpet.toml:1:519: a.c is 3."
    assert len(line) < 130
    assert line[carets.index("^")] == "3"
    assert len(printed(text, "a.c is 3")) < 400


def test_tabs_and_wide_characters_keep_the_carets_below_the_value() -> None:
    *_, line, carets = printed('\ta = ["\u65e5\u672c", 3]\n', "a[1] is 3").splitlines()
    shown = line.replace("\u65e5\u672c", "####")  # as a terminal shows it
    assert shown[carets.index("^")] == "3"


@given(st.text(max_size=300), st.text(max_size=300))
def test_nothing_in_a_file_is_an_order_for_the_terminal(text: str, sentence: str) -> None:
    shown = printed(f"[a]\nb = 1 # {text}\n", f"a.b is {sentence}")
    assert all(line.isprintable() for line in shown.split("\n"))


def test_thousands_of_problems_are_counted() -> None:
    text = "".join(f"k{number} = 1\n" for number in range(5000))
    shown = printed(text, *(f"k{number}: unknown key" for number in range(5000)))
    assert shown.count("unknown key") == MOST_SHOWN
    assert shown.count("^") == sum(len(f"k{number}") for number in range(MOST_EXCERPTS))
    assert shown.endswith(f"\n{5000 - MOST_SHOWN} more problems are not shown.")
    assert len(printed("a = 1\n", f"a is {'x' * 100_000}")) < 3000


def test_without_a_file_each_problem_is_a_line() -> None:
    assert report("limpet", ConfigError(["--rate is -1", "--hop: x"])) == "limpet: --rate is -1\nlimpet: --hop: x"


def test_a_problem_in_text_is_one_line() -> None:
    assert str(Problem("f", "a is 3", ("a",), 2, 5, 1, "a = 3")) == "f:2:5: a is 3"
    assert str(Problem("f", "No such file")) == "f: No such file"


def test_what_is_found_later_gets_its_place(tmp_path: Path) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(MQTT)
    with pytest.raises(ConfigFileError, match=r"limpet.toml:3:7: mqtt.qos is 3"), in_file(path):
        raise ConfigError(["mqtt.qos is 3"])
    with pytest.raises(ConfigFileError, match=r"gone.toml: mqtt.qos is 3"), in_file(tmp_path / "gone.toml"):
        raise ConfigError(["mqtt.qos is 3"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[device\n", "limpet.toml:1:8: not TOML: Expected ']' at the end of a table declaration"),
        (b"a = 1\n\nb = [1,\n", "limpet.toml:3:8: not TOML: "),
        (b'a = "x\n', "limpet.toml:1:7: not TOML: "),
        (b"a = 1\nb = \n", "limpet.toml:2:5: not TOML: "),
        (b"a = 1\n  a = 2\n", "limpet.toml:2:3: not TOML: the key a appears twice; write it once"),
        (b"[b]\nc = 1\n[ b ] # d\n", "limpet.toml:3:3: not TOML: the table [b] appears twice; write it once"),
        (b"a = 1\n[a]\n", "limpet.toml:2:2: not TOML: the table [a] appears twice; write it once"),
        (b'a = 1\na = [\n"b=c"]\n', "limpet.toml:3:7: not TOML: Cannot overwrite a value"),
        (b"a = 1\n[[a]]\n", "limpet.toml:2:4: not TOML: Cannot overwrite a value"),
        (b"[[pipelines]]\n", "limpet.toml:1:3: pipelines: must be a table, as [pipelines]"),
        (b"\xef\xbb\xbfa = 1\r\n[b\r\n", "limpet.toml:2:3: not TOML: "),
        (b'a = 1\nb = "\xc3\xa4\xff"\n', "limpet.toml:2:7: not TOML: byte 0xff is not UTF-8; save it as UTF-8"),
        (b"x = " + b"[" * 5000, "limpet.toml:1:1: not TOML: "),
        (b"a = 1\nb = -" + b"9" * 5000, "limpet.toml:2:6: not TOML: a number has thousands of digits"),
    ],
)
def test_what_is_not_toml_has_a_place(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "limpet.toml").write_bytes(content)
    with pytest.raises(ConfigFileError) as caught:
        config.read(tmp_path / "limpet.toml")
    assert f"{tmp_path}/{said}" in str(caught.value)


def test_a_number_that_python_refuses_to_write_has_a_place(tmp_path: Path) -> None:
    (tmp_path / "limpet.toml").write_text(f'[pipelines.p]\nmodel = "m"\nleast_speed = 0x{"f" * 5000}\n')
    with pytest.raises(ConfigFileError, match=r"3:15: pipelines.p.least_speed is a number of more than 60 digits"):
        config.read(tmp_path / "limpet.toml")


@pytest.mark.parametrize(
    ("variables", "colour"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_a_terminal_takes_colour_unless_the_user_says_no(
    variables: dict[str, str], *, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream, os.fdopen(leader, "rb"):
        assert is_terminal(stream)
        assert takes_colour(stream) is colour
    assert not is_terminal(stream)
    assert not takes_colour(io.StringIO())


def test_a_pipe_takes_colour_only_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert takes_colour(io.StringIO())
    plain, coloured = (printed(MQTT, "mqtt.qos is 3", colour=colour) for colour in (False, True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert styled("x", "red", colour=True) == "\x1b[1;31mx\x1b[0m"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("there is no file. Run: limpet init", "there is no file. Run: limpet init"),
        ("to write one, run: limpet init --output a.toml", "to write one, run: limpet init --output a.toml"),
        ("run: this first. Then that", "run: this first. Then that."),
        ("mqtt.qos is 3; use 0 or 1", "mqtt.qos is 3; use 0 or 1."),
    ],
)
def test_a_command_at_the_end_has_no_full_stop(message: str, shown: str) -> None:
    assert sentence(message) == shown
