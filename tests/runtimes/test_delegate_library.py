"""Loading delegates: the real interface, a real library, and libraries that are missing or something else."""

from __future__ import annotations

import gc
import subprocess
from typing import TYPE_CHECKING

import pytest
from test_fault_delegate import Interpreter

from limpet.accelerators.delegate_kinds import resolve
from limpet.accelerators.delegate_library import load
from limpet.contracts.assignment import DelegateTable
from limpet.errors import ModelError
from support import models
from support.delegate import Control, build, ops

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.delegate import Choice


def choice(library: Path | str, options: dict[str, str] | None = None) -> Choice:
    table = DelegateTable(kind="external", library=str(library), options={**(options or {})})
    return resolve("board", {"board": table})


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("delegate"))


def test_an_interpreter_takes_it(library: Path, tmp_path: Path) -> None:
    delegate = load(choice(library, Control(tmp_path / "faults").options()))
    interpreter = Interpreter(str(models.dense(tmp_path / "model.tflite")), experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    interpreter.invoke()
    assert [op["op_name"] for op in ops(interpreter)] == ["FULLY_CONNECTED", "DELEGATE"]


def test_the_librarys_reason_is_passed_on(library: Path) -> None:
    with pytest.raises(ModelError, match=r"delegate 'board': .*libfault_delegate.so cannot be used: .*no device"):
        load(choice(library, {"fault": "create"}))
    with pytest.raises(ModelError, match="the options are fault and control"):
        load(choice(library, {"speed": "fast"}))


def compiled(path: Path, source: str) -> Path:
    flags = ["-x", "c", "-", "-shared", "-fPIC", "-o", path]
    subprocess.run(["cc", *flags], input=source.encode(), check=True, timeout=60)
    return path


def test_a_library_that_gives_no_reason_is_explained(tmp_path: Path) -> None:
    mute = compiled(
        tmp_path / "libmute.so",
        "void *tflite_plugin_create_delegate(void) { return 0; } void tflite_plugin_destroy_delegate(void *d) { }",
    )
    with pytest.raises(ModelError, match=r"it gives no reason\. Check that its device is there"):
        load(choice(mute))
    with pytest.raises(ModelError, match="join the group external-users"):
        load(choice(mute), lambda kind: f"join the group {kind}-users")


def test_destroys_what_it_created_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    counting = compiled(
        tmp_path / "libcounting.so",
        f"""
        #include <stdio.h>
        static void *note(char c) {{ FILE *f = fopen("{log}", "a"); fputc(c, f); fclose(f); return f; }}
        void *tflite_plugin_create_delegate(void) {{ return note('+'); }}
        void tflite_plugin_destroy_delegate(void *delegate) {{ note('-'); }}
        """,
    )
    delegate = load(choice(counting))
    assert log.read_text() == "+"
    del delegate
    gc.collect()
    assert log.read_text() == "+-"


def test_a_missing_library_says_what_to_install() -> None:
    with pytest.raises(ModelError, match=r"delegate 'edgetpu': libedgetpu.so.1: .*; install libedgetpu1-std"):
        load(resolve("edgetpu", {}))


def test_the_second_name_of_a_library_is_tried(library: Path, tmp_path: Path) -> None:
    table = DelegateTable(kind="vx", library=str(library))
    vx = resolve("vx", {"vx": table})
    both = type(vx)(vx.name, vx.kind, ("libvx_delegate_absent.so", str(library)), {})
    interpreter = Interpreter(str(models.dense(tmp_path / "model.tflite")), experimental_delegates=[load(both)])
    assert "DELEGATE" in [op["op_name"] for op in ops(interpreter)]


def test_refuses_what_is_no_delegate(tmp_path: Path) -> None:
    other = compiled(tmp_path / "libother.so", "int other(void) { return 1; }")
    with pytest.raises(ModelError, match=r"libother\.so is no TFLite delegate"):
        load(choice(other))
    text = tmp_path / "libtext.so"
    text.write_text("not a library")
    with pytest.raises(ModelError, match=r"libtext.so: .*; install it, or correct its path"):
        load(choice(text))
