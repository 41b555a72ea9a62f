import os
from pathlib import Path

import pytest

from limpet.errors import ModelError, UnreadableError
from limpet.untrusted import read_file, reading


@pytest.mark.parametrize(
    "error",
    [
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        RecursionError("too deep"),
        MemoryError(),
        OverflowError("x"),
        KeyError("y"),
    ],
)
def test_whatever_decoding_raises_is_unreadable(error: Exception) -> None:
    with pytest.raises(UnreadableError, match="the command could not be read"), reading("the command"):
        raise error


def test_an_error_that_already_says_what_is_wrong_passes() -> None:
    with pytest.raises(ModelError), reading("the model"):
        raise ModelError("no such op")


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "boot.json"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(UnreadableError, match="larger than 4 bytes"):
        read_file(path, 4)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(UnreadableError, match="symbolic link"):
        read_file(tmp_path / "link", 5)


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UnreadableError, match="not a regular file"):
        read_file(tmp_path / "fifo", 5)


def test_a_missing_file_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "absent", 5)
