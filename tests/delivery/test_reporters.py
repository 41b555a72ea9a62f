"""Reporters that hang, fail to open or fail to close cost nobody else a message, and what they miss is counted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from limpet import config
from limpet.delivery.bus import Bus
from limpet.delivery.deliveries import DeliveryInbox
from limpet.delivery.reporters import Reporters
from limpet.errors import ConfigError
from support import reports
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STUBBORN = '''
"""A reporter of a third party that reads nothing, and does what its options say."""

import contextlib
import pathlib
import threading

import msgspec


class Config(msgspec.Struct):
    opens_while: str
    fails_to_close: bool = False
    hangs_to_close: bool = False


class Stubborn:
    def health(self):
        return {"mood": "stubborn"}


@contextlib.contextmanager
def open(config, context):
    if not pathlib.Path(config.opens_while).exists():
        raise OSError(f"{config.opens_while} is not there")
    yield Stubborn()
    if config.fails_to_close:
        raise RuntimeError("it cannot end")
    if config.hangs_to_close:
        threading.Event().wait()
'''


class Bench:
    """Reporters on a small bus, as a supervisor has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = Bus(most_messages=10)
        self.reporters = Reporters(
            reports.ORIGIN, folder / "state", self.bus, None, DeliveryInbox(lambda: None), patience=0.5
        )

    def adopt(self, **tables: dict[str, Any]) -> None:
        whole = {
            "device": {"id": "d"},
            "sources": {"s": {"kind": "replay"}},
            "pipelines": {"p": {"source": "s", "model": "m"}},
            "reporters": tables,
        }
        self.reporters.adopt(config.build(whole, self.folder))

    def report(self, *sequences: int) -> None:
        for sequence in sequences:
            self.bus.append(reports.result(sequence))
            wait_until(lambda: "file" not in self.reporters.health() or not self.health("file")["waiting"])

    def health(self, name: str) -> dict[str, Any]:
        return self.reporters.health()[name]

    def written(self, name: str = "out") -> list[int]:
        path = self.folder / name
        return [json.loads(line)["sequence"] for line in path.read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    site = tmp_path / "site"
    (site / "stubborn-1.dist-info").mkdir(parents=True)
    (site / "stubborn.py").write_text(STUBBORN)
    (site / "stubborn-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: stubborn\nVersion: 1\n")
    points = "[limpet.reporters]\nstubborn = stubborn\n"
    (site / "stubborn-1.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(site)
    (tmp_path / "there").touch()
    made = Bench(tmp_path)
    yield made
    made.reporters.close()


FILE = {"kind": "jsonl", "path": "out", "flush_age": 0}


def stubborn(opens_while: str, **options: Any) -> dict[str, Any]:
    return {"kind": "stubborn", "opens_while": opens_while, **options}


def test_one_that_hangs_misses_the_oldest_and_the_others_get_everything(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench.adopt(file=FILE, hangs=stubborn(str(tmp_path / "there")))
    bench.report(*range(25))
    assert bench.written() == list(range(25))
    assert bench.health("hangs") == {"kind": "stubborn", "mood": "stubborn", "waiting": 10, "missed": 15}
    assert (bench.health("file")["waiting"], bench.health("file")["missed"]) == (0, 0)
    assert caplog.text.count("'hangs' is too slow: the oldest messages are dropped before it reads them") == 1
    bench.adopt(file=FILE)
    assert "10 messages for the reporter 'hangs' are lost" in caplog.text


def test_an_error_leaves_all_as_it_was(bench: Bench) -> None:
    bench.adopt(file=FILE)
    bench.report(1)
    with pytest.raises(OSError, match="nowhere is not there"):
        bench.adopt(file={**FILE, "path": "other"}, new=stubborn("nowhere"))
    bench.report(2)
    assert bench.written() == [1, 2]
    assert list(bench.reporters.health()) == ["file"]


def test_the_cursor_of_one_that_cannot_be_opened_again_waits_until_it_can(bench: Bench, tmp_path: Path) -> None:
    there = tmp_path / "there"
    bench.adopt(file=FILE, other=stubborn(str(there)))
    there.unlink()
    with pytest.raises(OSError, match="there is not there"):
        bench.adopt(file=FILE, other=stubborn(str(there), fails_to_close=True))
    assert not bench.reporters.connected()
    bench.report(1, 2, 3)
    assert bench.health("other") == {
        "kind": "stubborn", "last_error": f"{there} is not there", "waiting": 3, "missed": 0,
    }  # fmt: skip
    there.touch()
    bench.adopt(file=FILE, other=stubborn(str(there)))
    assert bench.reporters.connected()
    assert bench.health("other")["waiting"] == 3
    assert bench.written() == [1, 2, 3]


def test_one_that_fails_while_it_is_closed_is_logged_and_the_others_are_closed(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench.adopt(file=FILE, fails=stubborn(str(tmp_path / "there"), fails_to_close=True))
    bench.report(1)
    bench.reporters.close()
    assert "the reporter 'fails' failed while it was closed" in caplog.text
    assert bench.written() == [1]
    assert bench.reporters.health() == {}


def test_one_that_does_not_close_is_left_behind(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench.adopt(file=FILE, hangs=stubborn(str(tmp_path / "there"), hangs_to_close=True))
    bench.report(1)
    bench.adopt(file=FILE)
    assert "the reporter 'hangs' does not close; going on without it" in caplog.text
    bench.report(2)
    bench.reporters.close()
    assert bench.written() == [1, 2]


def test_a_problem_names_the_table_and_the_key(bench: Bench) -> None:
    with pytest.raises(ConfigError) as caught:
        bench.adopt(a={"kind": "mqqt"}, b={"kind": "jsonl", "pth": "x"}, c={"kind": "mqtt", "url": "nothing"})
    problems = "\n".join(caught.value.problems)
    for said in ("reporters.a.kind: 'mqqt' is not one of the reporters (did you mean 'mqtt'?)",
                 "reporters.b.pth: unknown key (did you mean 'path'?)", "reporters.c.url: "):  # fmt: skip
        assert said in problems
    with pytest.raises(ConfigError, match=r"^reporters.d.path: .*absent/x: No such file"):
        bench.adopt(d={"kind": "jsonl", "path": "absent/x"})


def test_two_of_a_kind_have_folders_and_client_ids_of_their_own(bench: Bench, tmp_path: Path) -> None:
    away = {"kind": "mqtt", "url": "mqtt://127.0.0.1:9", "outbox": {"min_free_bytes": 0}}
    bench.adopt(mqtt=away, cloud=away | {"topic": "cloud"})
    bench.report(1)
    folders = [tmp_path / "state/reporters" / name for name in ("mqtt", "cloud")]
    wait_until(lambda: all((folder / "outbox.db").exists() for folder in folders))
    assert bench.health("mqtt")["kind"] == bench.health("cloud")["kind"] == "mqtt"


def test_two_reporters_cannot_have_one_file_one_client_id_or_one_topic(bench: Bench) -> None:
    broker = {"kind": "mqtt", "url": "mqtt://127.0.0.1:1"}
    with pytest.raises(ConfigError) as refused:
        bench.adopt(
            file=FILE,
            copy={"kind": "jsonl", "path": "out", "max_bytes": 5000},
            mqtt=broker,
            again=broker | {"client_id": "limpet-d", "topic": "again"},
            also=broker,
        )
    assert list(refused.value.problems) == [
        f"reporters.copy: the file {bench.folder / 'out'} is used by [reporters.file] already",
        "reporters.again: the client id 'limpet-d' at 127.0.0.1:1 is used by [reporters.mqtt] already",
        "reporters.also: the topic 'limpet/d' at 127.0.0.1:1 is used by [reporters.mqtt] already",
    ]
    assert bench.reporters.health() == {}
    pair = {"mqtt": broker, "also": broker | {"topic": "also"}, "cloud": broker | {"url": "mqtt://127.0.0.1:2"}}
    bench.adopt(file=FILE, copy=FILE | {"path": "copy"}, **pair)
    assert bench.reporters.health().keys() == {"file", "copy", *pair}
