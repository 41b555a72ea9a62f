"""The vendor's compiler is called as its manual says; a stand-in program takes its place, as it cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limpet_convert.converters import edgetpu
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from pathlib import Path

WORKS = """#!/bin/sh
[ "$1" = -s ] && [ "$2" = -o ] || exit 2
(printf compiled; cat "$4") > "$3/$(basename "$4" .tflite)_edgetpu.tflite"
echo 'Number of operations that will run on Edge TPU: 12'
echo 'Number of operations that will run on CPU: 2'
"""
REFUSES = """#!/bin/sh
echo 'Model not quantized' >&2
exit 1
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "int8.tflite").write_bytes(b" model")
    return tmp_path / "int8.tflite"


def install(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / edgetpu.COMPILER
    program.parent.mkdir()
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_what_the_compiler_makes_and_says_is_returned(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, WORKS, monkeypatch)
    assert edgetpu.convert(model) == (b"compiled model", "12 of 14 operations")


def test_its_refusal_is_passed_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, REFUSES, monkeypatch)
    with pytest.raises(ConvertError, match=r"refuses int8\.tflite: Model not quantized"):
        edgetpu.convert(model)


def test_without_it_that_is_said(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConvertError, match="is not installed"):
        edgetpu.convert(model)
