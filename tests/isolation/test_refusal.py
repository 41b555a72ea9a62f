"""What is said to the author of a plugin whom the sandbox refuses something."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from limpet.isolation.permissions import Permissions
from limpet.isolation.refusal import explain

if TYPE_CHECKING:
    from pathlib import Path

DECLARE = "a plugin declares all that it opens in its function needs(config)"


def refused(path: Path | str | None = None, code: int = errno.EACCES) -> OSError:
    text = os.strerror(code)
    return OSError(code, text) if path is None else OSError(code, text, str(path))


def test_an_undeclared_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    for name in ("there", "new"):
        text = explain(refused(tmp_path / name), Permissions())
        assert text == f"the sandbox refuses {tmp_path / name}: {DECLARE}"


def test_the_error_that_led_to_another_counts(tmp_path: Path) -> None:
    def fails() -> None:
        try:
            raise refused(tmp_path)
        except OSError as error:
            raise ValueError("no port") from error

    with pytest.raises(ValueError, match="no port") as raised:
        fails()
    assert str(tmp_path) in explain(raised.value, Permissions())


def test_what_has_no_path_may_be_the_sandbox() -> None:
    assert explain(refused(code=errno.EPERM), Permissions()) == f"the sandbox may have refused it: {DECLARE}"


def test_other_reasons_are_not_the_sandboxs(tmp_path: Path) -> None:
    declared = Permissions(read=frozenset({tmp_path}))
    assert explain(refused(tmp_path / "file"), declared) == ""
    assert explain(refused(tmp_path / "away" / "file"), Permissions()) == ""  # nobody may make it there
    assert explain(refused(tmp_path, errno.ENOENT), Permissions()) == ""
    assert explain(ValueError("x"), Permissions()) == ""


def test_errors_that_lead_to_each_other_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert explain(one, Permissions()) == ""


def test_a_declared_device_came_back() -> None:
    allowed = Permissions(devices=frozenset({"/dev/null"}))
    text = explain(refused("/dev/null"), allowed)
    assert text == "/dev/null came back as another device node, which this worker cannot open"


def test_a_file_that_is_declared_as_a_device_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    allowed = Permissions(devices=frozenset({str(tmp_path / "file")}))
    assert explain(refused(tmp_path / "file"), allowed) == f"{tmp_path / 'file'} is no device"
