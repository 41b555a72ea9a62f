"""Models that nobody here made: what they reach for is found before a library opens them, in a sandboxed child."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.errors import UnreadableError
from limpet.models.protobuf import ProtobufMessage
from limpet_convert import foreign, sources
from limpet_convert.converters import _onnx2tf
from limpet_convert.errors import ConvertError
from limpet_convert.jail import Jail
from support import models
from support.kernel import has_landlock
from support.protobuf import message, onnx, saved_model, tf_node

SAVE, RESTORE = "__inference__traced_save_1", "__inference__traced_restore_2"


def folder(path: Path, data: bytes) -> Path:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(data)
    return path


def test_a_saved_model_as_tensorflow_writes_it_passes(tmp_path: Path) -> None:
    data = saved_model(
        tf_node("saver_filename", "Placeholder"),
        tf_node("restore", "StatefulPartitionedCall", "saver_filename", calls=RESTORE),
        tf_node("end", "Identity", "restore"),
        functions={RESTORE: [tf_node("r", "RestoreV2")], "serve": [tf_node("m", "MatMul")]},
        restore="restore",
    )
    assert foreign.refuse(folder(tmp_path / "m", data)) == (tmp_path / "m",)


@pytest.mark.parametrize(
    "data",
    [
        saved_model(tf_node("a", "WriteFile")),
        saved_model(tf_node("a", "SaveV2")),
        saved_model(functions={"serve": [tf_node("a", "ReadFile")]}),
        saved_model(functions={"serve": [tf_node("a", "EagerPyFunc")]}),
        saved_model(functions={"serve": [tf_node("a", "TFRecordDatasetV2")]}),
        saved_model(functions={"serve": [tf_node("save/x", "SaveV2")]}),
        saved_model(functions={"serve": [tf_node("a", "PartitionedCall", calls=SAVE)], SAVE: []}),
        saved_model(functions={"serve": [tf_node("a", SAVE)], SAVE: []}),
        saved_model(
            tf_node("other", "PartitionedCall", calls=RESTORE), functions={RESTORE: []}, restore="restore"
        ),
        saved_model(tf_node("restore", "PartitionedCall"), tf_node("b", "Add", "restore:0"), restore="restore"),
    ],
)
def test_a_saved_model_that_reaches_outside_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ConvertError, match="reads or writes outside the model, or runs Python"):
        sources.convert(folder(tmp_path / "m", data), "", {}, tmp_path)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader_of_messages(data: bytes) -> None:
    try:
        found = ProtobufMessage(data)
        assert all(isinstance(n, int) for number in range(1, 20) for n in found.numbers(number))
        assert all(isinstance(one, ProtobufMessage) for number in range(1, 20) for one in found.messages(number))
    except UnreadableError:
        return


def test_messages_nested_without_end_are_unreadable_and_no_crash(tmp_path: Path) -> None:
    attribute, data = b"", message((4, "If"))
    for _ in range(3000):
        attribute = message((5, message((6, message((1, data))))))
        data = attribute
    (tmp_path / "m.onnx").write_bytes(message((7, message((1, data)))))
    with pytest.raises(ConvertError, match="could not be read"):
        foreign.refuse(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "sub/../../secret", "link", "gone", "folder", "sub/link", ""]
)
def test_data_of_an_onnx_model_lie_beside_it(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(8))
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    (home / "link").symlink_to("/etc/passwd")
    (home / "sub").symlink_to("/etc")
    (home / "m.onnx").write_bytes(onnx(location=location or "\0"))
    with pytest.raises(ConvertError, match=r"outside its folder|no plain file"):
        sources.convert(home / "m.onnx", "", {}, tmp_path)


def test_data_beside_an_onnx_model_are_let_through(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(8))
    (tmp_path / "m.onnx").write_bytes(onnx(location="weights.bin"))
    assert foreign.refuse(tmp_path / "m.onnx") == (tmp_path / "m.onnx", tmp_path / "weights.bin")


def test_ops_of_a_library_that_is_not_here_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx(op="Shell", domain="evil.ops"))
    with pytest.raises(ConvertError, match=r"evil\.ops\.Shell"):
        foreign.refuse(tmp_path / "m.onnx")


@pytest.mark.parametrize("kind", ["file", "folder", "fifo"])
def test_a_folder_with_anything_but_files_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.mlpackage"
    (path / "Data").mkdir(parents=True)
    if kind == "fifo":
        os.mkfifo(path / "Data" / "weight.bin")
    else:
        (path / "Data" / "weight.bin").symlink_to("/etc/passwd" if kind == "file" else "/etc")
    with pytest.raises(ConvertError, match="a link or a special file"):
        foreign.refuse(path)


def test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w", b"abc")
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02") + 24  # its size in the directory
    path.write_bytes(data[:at] + struct.pack("<I", (1 << 32) - 2) + data[at + 4 :])
    with pytest.raises(ConvertError, match="that unpack to"):
        sources.convert(path, "", {}, tmp_path)


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock")
def test_the_child_reads_the_model_that_it_was_given_and_no_other(tmp_path: Path) -> None:
    one, other = (models.dense(tmp_path / f"{name}.tflite", int8=False) for name in ("one", "other"))
    jail = Jail([one])
    assert jail.call("convert", str(one), "", {}, "/") == one.read_bytes()
    with pytest.raises(ConvertError, match=r"cannot be read|no such file"):
        jail.call("convert", str(other), "", {}, "/")
    jail.close()


def test_a_child_that_does_not_survive_a_model_is_an_error_in_one_line(tmp_path: Path) -> None:
    jail = Jail([tmp_path])
    os.kill(jail.pid, signal.SIGKILL)
    with pytest.raises(ConvertError, match=r"the process that opened the model ended \(signal 9\)"):
        jail.call("convert", "x.tflite", "", {}, "/")
    jail.close()
    assert not jail.scratch.exists()


def test_a_child_sees_no_secrets_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    jail = Jail([tmp_path])
    assert b"hunter2" not in Path(f"/proc/{jail.pid}/environ").read_bytes()
    jail.close()


def test_onnx2tf_runs_in_the_sandbox_with_a_python_that_has_the_standard_library_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a key")
    work = tmp_path / "work"
    work.mkdir()
    (work / "onnx2tf.py").write_text(
        "import sys\nopen('out', 'w').write(sys.argv[1])\ntry:\n    print(open('../secret').read())\n"
        "except PermissionError:\n    print('refused')\n"
    )
    command = [sys.executable, "-S", "-c", _onnx2tf.IN_SANDBOX, _onnx2tf.AGENT, work, "-i"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=True, timeout=60)
    assert (work / "out").read_text() == "-i"
    assert done.stdout == ("refused\n" if has_landlock() else "a key\n")
