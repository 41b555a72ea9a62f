"""``limpet doctor`` on what Limpet has written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from limpet.delivery.outbox.database import Database
from limpet.delivery.outbox.schema import FORMAT
from limpet.doctor import usage
from support.patients import only, patient, table

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def test_nothing_is_written_yet(tmp_path: Path) -> None:
    assert only(usage.usage, patient(tmp_path, config=table(tmp_path))).result == "skip"
    assert only(usage.usage, patient(tmp_path)).result == "skip"


def test_each_thing_that_grows(tmp_path: Path) -> None:
    write(tmp_path / "state/models/m-1.limpet", 3_000_000)
    write(tmp_path / "state/cache/x.tflite", 2_000_000)
    write(tmp_path / "out.jsonl", 1_000_000)
    write(tmp_path / "out.jsonl.1", 4_000_000)
    finding = only(usage.usage, patient(tmp_path, config=table(tmp_path, jsonl={"path": "out.jsonl"})))
    assert finding.result == "ok"
    assert finding.what == "reporters 0.0 MB, cache 2.0 MB, models 3.0 MB, out.jsonl 5.0 MB"


def test_what_was_learned_counts_with_the_orders_that_wait(tmp_path: Path) -> None:
    write(tmp_path / "state/learned/motion/a.json", 600_000)
    write(tmp_path / "state/learning.json", 200_000)
    write(tmp_path / "state/undo/motion.json", 100_000)
    finding = only(usage.usage, patient(tmp_path, config=table(tmp_path)))
    assert finding.what == "reporters 0.0 MB, cache 0.0 MB, models 0.0 MB, learned 0.9 MB"


def test_a_store_beyond_its_bound(tmp_path: Path) -> None:
    write(tmp_path / "state/models/m-1.limpet", 3_000_000)
    device = {"id": "d", "state": str(tmp_path / "state"), "models_bytes": 2_000_000}
    finding = only(usage.usage, patient(tmp_path, config=table(tmp_path, device=device)))
    assert (finding.result, finding.why) == ("warn", "models may take 2.0 MB, device.models_bytes")
    assert "limpet housekeeping" in finding.fix
    device["models"] = str(tmp_path / "state/models")  # its owner's, whoever that is
    assert only(usage.usage, patient(tmp_path, config=table(tmp_path, device=device))).result == "ok"


def test_core_dumps(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    files = {"var/lib/systemd/coredump/core.limpet.990.zst": "x" * 200_000}
    _, finding = usage.usage(patient(tmp_path, files, config=table(tmp_path)))
    assert (finding.result, finding.what) == ("warn", "core dumps: 0.2 MB")


def test_an_outbox_of_a_later_version(tmp_path: Path) -> None:
    path = tmp_path / "state/reporters/mqtt/outbox.db"
    Database(path).close()
    who = patient(tmp_path, config=table(tmp_path))
    assert only(usage.usage, who).result == "ok"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={FORMAT + 1}")
    _, finding = usage.usage(who)
    assert finding.result == "bad"
    assert "install the later version again" in finding.fix
    path.write_bytes(b"short")
    assert only(usage.usage, who).result == "ok"
