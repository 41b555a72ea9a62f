"""Pickles that would run code are refused without being opened."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest

from limpet_convert.converters import _pickles
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from pathlib import Path


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_found_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "m.pt").write_bytes(pickle.dumps({"weights": [Evil(tmp_path / "ran")]}, protocol))
    with pytest.raises(ConvertError, match=r"posix\.mkdir.*not opened"):
        _pickles.refuse_code(tmp_path / "m.pt")
    assert not (tmp_path / "ran").exists()


def test_code_is_found_in_an_archive_and_in_an_archive_in_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "inner.pt", "w") as inner:
        inner.writestr("archive/data.pkl", pickle.dumps(Evil(tmp_path / "ran")))
    for name, content in (
        ("m/data.pkl", pickle.dumps(Evil(tmp_path))),
        ("m/in.pt", (tmp_path / "inner.pt").read_bytes()),
    ):
        with zipfile.ZipFile(tmp_path / "m.pt2", "w") as outer:
            outer.writestr("m/code.py", b"print()")
            outer.writestr(name, content)
        with pytest.raises(ConvertError, match=r"posix\.mkdir"):
            _pickles.refuse_code(tmp_path / "m.pt2")


def test_plain_values_pass_and_half_a_pickle_does_not(tmp_path: Path) -> None:
    whole = pickle.dumps(OrderedDict(weights=[1.0, 2.0]))
    (tmp_path / "m.pt").write_bytes(whole)
    _pickles.refuse_code(tmp_path / "m.pt")
    (tmp_path / "m.pt").write_bytes(whole[:-4])
    with pytest.raises(ConvertError, match="not a whole pickle"):
        _pickles.refuse_code(tmp_path / "m.pt")
