from __future__ import annotations

import logging
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.device import systemd_journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "journal"))
        end.settimeout(5)
        yield end


@pytest.fixture
def log(tmp_path: Path, listening: socket.socket) -> Iterator[logging.Logger]:
    del listening
    handler = systemd_journal.JournalHandler(str(tmp_path / "journal"))
    logger = logging.getLogger("limpet.test")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    handler.close()


def decode(data: bytes) -> dict[str, str]:
    """Read an entry as the journal does."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        key, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            (length,) = struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + length], rest[9 + length :]
        found[key.decode()] = value.decode()
    return found


def test_a_record_becomes_an_entry_with_fields(log: logging.Logger, listening: socket.socket) -> None:
    log.warning(
        "%s: crashed", "motion", extra={"limpet_pipeline": "motion", "limpet_event": "crashed", "other": 1}
    )
    entry = decode(listening.recv(65536))
    assert entry["MESSAGE"] == "motion: crashed"
    assert (entry["PRIORITY"], entry["LOGGER"], entry["SYSLOG_IDENTIFIER"]) == ("4", "limpet.test", "limpet")
    assert (entry["LIMPET_PIPELINE"], entry["LIMPET_EVENT"]) == ("motion", "crashed")
    assert "OTHER" not in entry
    assert entry["CODE_FILE"] == __file__


def test_a_traceback_is_one_entry(log: logging.Logger, listening: socket.socket) -> None:
    log.error("worker", exc_info=RuntimeError("first\nsecond"))
    entry = decode(listening.recv(65536))
    assert entry["MESSAGE"].startswith("worker\n")
    assert entry["MESSAGE"].endswith("RuntimeError: first\nsecond")
    assert entry["PRIORITY"] == "3"


def test_a_journal_that_is_away_stops_nothing(
    log: logging.Logger, listening: socket.socket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "journal").unlink()
    log.info("lost to the journal")
    assert "lost to the journal" in capsys.readouterr().err
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as back:
        back.bind(str(tmp_path / "journal"))
        log.info("heard again")
        assert decode(back.recv(65536))["MESSAGE"] == "heard again"
    del listening


@given(st.dictionaries(st.text("ABC_", min_size=1), st.text(), max_size=5))
def test_whatever_is_said_comes_back(entry: dict[str, str]) -> None:
    text = {key: value.encode("utf-8", "replace").decode() for key, value in entry.items()}
    assert decode(systemd_journal.encode(entry)) == text
