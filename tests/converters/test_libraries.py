"""The guard of calls into libraries, with real prints, real file descriptors and a real runtime."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet_convert import libraries
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph, Tracer
from limpet_convert.jail import Jail
from limpet_convert.libraries import called, need, reason, shown, uncoloured
from support import models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    libraries.keep_log(tmp_path)
    yield tmp_path / libraries.LOG
    libraries.keep_log(None)


def loud(error: BaseException | None = None) -> None:
    """Print by all ways there are, then fail."""
    sys.stdout.write("by python\n")
    sys.stderr.write("by python on stderr\n")
    os.write(1, b"by a descriptor\n")
    os.write(2, b"\r 10%|###   |\r 99%|######|\n")
    subprocess.run(["echo", "by a child"], check=True)
    warnings.warn("by a warning", stacklevel=2)
    if error:
        raise error


def failed(error: BaseException, said: str = "") -> str:
    """Return the guard's text for a library that prints and raises."""
    with pytest.raises(ConvertError) as caught, called("lib", "reading x"):
        fail(error, said)
    return str(caught.value)


def fail(error: BaseException, said: str) -> None:
    os.write(2, said.encode())
    raise error


def test_nothing_that_a_library_prints_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write("before\n")
    with called("lib", "working"), called("inner", "working inside"):
        loud()
    sys.stdout.write("after\n")
    assert capfd.readouterr() == ("before\nafter\n", "")


def test_an_error_is_one_line_and_the_rest_is_in_the_log(log: Path) -> None:
    error = RuntimeError("\x1b[31mloc(callsite(x)):\x1b[0m\nerror: no such op: Foo\nmore\n")
    with pytest.raises(ConvertError) as caught, called("lib", "converting dense.onnx"):
        loud(error)
    assert str(caught.value) == f"converting dense.onnx: lib: no such op: Foo. Details: {log}"
    text = log.read_text()
    for part in ("by python", "by python on stderr", "by a descriptor", "99%|######|", "by a child", "Traceback"):
        assert part in text
    assert "\x1b" not in text
    assert " 10%" not in text
    libraries.keep_log(log.parent)
    assert not log.exists()  # It would be of another run.


def test_what_was_printed_is_the_reason_where_the_error_has_none() -> None:
    said = "I0000 00:00 somewhere\nthe file ends at byte 3.\nINFO: Created a delegate\n"
    assert failed(RuntimeError(), said) == "reading x: lib: the file ends at byte 3"


def test_errors_of_limpet_pass_as_they_are() -> None:
    error = ConvertError("say shape")
    with pytest.raises(ConvertError) as caught, called("lib", "reading"):
        raise error
    assert caught.value is error


def test_a_library_that_ends_the_process_is_an_error_and_an_interrupt_passes() -> None:
    assert failed(SystemExit(3)) == "reading x: lib: 3"
    with pytest.raises(KeyboardInterrupt), called("lib", "converting"):
        raise KeyboardInterrupt


def test_the_layer_that_the_text_tells() -> None:
    with (
        pytest.raises(ConvertError, match=re.escape("running, in layer head: lib: bad")),
        called("lib", "running", layers=lambda text: "head" if "bad" in text else ""),
    ):
        raise ValueError("bad")


@pytest.mark.parametrize(
    ("plain", "expected"), [("TFLite has no op for", "TFLite has no op for"), ("", "running: lib: Erf")]
)
def test_a_converter_may_explain_an_error_itself(plain: str, expected: str) -> None:
    with pytest.raises(ConvertError) as caught, called("lib", "running", explain=lambda _, said: said.strip()):
        fail(ValueError("Erf"), plain)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            RuntimeError("tensorflow/lite/kernels/conv.cc:390 zero_point != 0 (3 != 0)\n"),
            "zero_point != 0 (3 != 0)",
        ),
        (KeyError("head"), "KeyError: 'head'"),
        (
            RuntimeError("Graph execution error:\n\nDetected at node x\n<stack traces unavailable>\nno file"),
            "no file",
        ),
        (RuntimeError("no file:"), "no file"),
        (AssertionError(), "AssertionError without a reason"),
        (MemoryError("std::bad_alloc"), "there is not enough memory"),
        (ValueError("x" * 500), "x" * 400 + " ..."),
        (ValueError("a\x07b"), "a\N{REPLACEMENT CHARACTER}b"),
        (ValueError('Traceback (most recent call last):\n  File "x.py", line 3, in f\nodd'), "odd"),
    ],
)
def test_reasons(error: Exception, expected: str) -> None:
    assert reason(error) == expected


def test_the_last_form_of_a_line_that_is_written_again_and_no_colours() -> None:
    assert uncoloured("\r 1%\r 2%\r\n\x1b[1;31mred\x1b[0m\x1b]0;title\x07") == " 2%\nred"


def test_foreign_text_is_one_that_a_terminal_can_show() -> None:
    assert shown("\x1b[2J" + "x" * 3000) == "\N{REPLACEMENT CHARACTER}[2J" + "x" * 1996


def test_a_library_that_is_missing() -> None:
    with pytest.raises(ConvertError, match=re.escape("pip install 'limpet[convert-onnx]'")):
        need("no_such_library.part", "convert-onnx")
    with pytest.raises(ConvertError, match=re.escape("pip install 'limpet[updates]'")):
        need("tuf.no_such_part")


def test_a_runtime_that_fails_names_the_layer(tmp_path: Path) -> None:
    model = Graph(models.dense(tmp_path / "float.tflite", 8, 4, int8=False, layers=2).read_bytes())
    weights = model.subgraph.tensors[model.ops[1].inputs[1]]
    weights.shape = np.array([2, 8], np.int32)  # As many as before, for more inputs than it has.
    with pytest.raises(ConvertError, match=r"^loading the model, in layer \w+ \(FULLY_CONNECTED\): LiteRT: "):
        Tracer(model.pack())


def test_what_went_wrong_in_a_jailed_child_is_in_the_log_of_its_parent(log: Path) -> None:
    jail = Jail([])
    with pytest.raises(ConvertError, match=f"^the model could not be read: its library: .*Details: {log}$"):
        jail.call("coreml", 1)
    assert "Traceback" in log.read_text()
    jail.close()
