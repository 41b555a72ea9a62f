"""Models run on a device by ssh: a real sshd on the loopback, the agent's own command at its other end."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given as given_by_hypothesis
from hypothesis import settings
from hypothesis import strategies as st

from limpet.contracts.messages import Tensor
from limpet.errors import LimpetError, ModelError, TransportError, UnreadableError
from limpet.inference import infer_request, tensor_stream
from limpet.inference.tensor_stream import MAGIC, Chunk, Order
from limpet.wire import stream
from limpet_convert.devices import DeviceError, Login, gather, open_device, ssh
from support import delegate, models
from support.answers import inferred
from support.sshd import Sshd, sshd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import FloatArray

LIMPET = str(Path(sys.executable).parent / "limpet")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.dense(tmp_path / "model.tflite", 4, 4)


def windows(count: int, *shape: int) -> FloatArray:
    found: FloatArray = np.random.default_rng(0).uniform(-6, 6, (count, *shape)).astype(np.float32)
    return found


def test_a_device_gives_outputs_times_and_what_ran_them(server: Sshd, model: Path, tmp_path: Path) -> None:
    kept = Path(tempfile.gettempdir())
    before = set(kept.glob("limpet-tensors-*"))
    ran = open_device(server.url(limpet=LIMPET), Login()).run(model, windows(300, 4))
    np.testing.assert_allclose(ran.values[0], windows(300, 4), atol=0.04)
    assert (len(ran.run_us), min(ran.run_us) > 0) == (300, True)
    assert (ran.answer.delegate, ran.answer.delegate_share, ran.answer.placement) == ("cpu", 1.0, None)
    assert ran.answer.runtime.startswith(("ai-edge-litert ", "tflite-runtime "))
    assert set(kept.glob("limpet-tensors-*")) <= before
    assert list(tmp_path.iterdir()) == [model]


def test_windows_of_many_frames_and_several_outputs_come_whole(server: Sshd, tmp_path: Path) -> None:
    path = models.conv(tmp_path / "conv.tflite", size=96, channels=3)
    images = windows(30, 96, 96, 3) / 3
    ran = open_device(server.url(limpet=LIMPET), Login()).run(path, images)
    assert ran.values[0].shape == (30, 96, 96, 3)
    np.testing.assert_allclose(ran.values[0][..., 0], images[..., 0], atol=0.07)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limpet": "/nowhere/limpet"}, "there is no program '/nowhere/limpet'; name it, as ssh://"),
        ({"limpet": "/etc/passwd"}, "cannot be started there"),
        ({"limpet": "echo"}, "it printed 'tensors"),
        ({"limpet": "true"}, "before all was answered"),
        ({"limpet": "head"}, "cannot open 'tensors'"),
        ({"limpet": LIMPET, "delegate": "gpuu"}, "did you mean 'gpu'"),
        ({"limpet": LIMPET, "delegate": "edgetpu"}, "edgetpu"),
    ],
)
def test_a_device_that_cannot_run_it_is_reported(
    server: Sshd, model: Path, options: dict[str, str], says: str
) -> None:
    with pytest.raises(DeviceError) as caught:
        open_device(server.url(**options), Login()).run(model, windows(2, 4))
    assert says in str(caught.value)


def test_a_delegate_is_proven_there(server: Sshd, model: Path, tmp_path: Path) -> None:
    library = delegate.build(tmp_path)
    ran = open_device(server.url(limpet=LIMPET), Login(delegate=f"external:{library}")).run(model, windows(5, 4))
    np.testing.assert_allclose(ran.values[0], windows(5, 4), atol=0.04)
    assert ran.answer.placement is not None
    assert (ran.answer.delegate, ran.answer.placement.op_share) == (f"external:{library}", 1.0)


def test_a_delegate_that_crashes_is_reported_and_leaves_nothing(server: Sshd, model: Path, tmp_path: Path) -> None:
    source, library = tmp_path / "crash.c", tmp_path / "libcrash.so"
    source.write_text(
        "#include <stdlib.h>\n"
        "void *tflite_plugin_create_delegate(void) { abort(); }\n"
        "void tflite_plugin_destroy_delegate(void *delegate) { free(delegate); }\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    before = set(Path(tempfile.gettempdir()).glob("limpet-tensors-*"))
    with pytest.raises(DeviceError, match="did not survive this model: killed by SIGABRT"):
        open_device(server.url(limpet=LIMPET), Login(delegate=f"external:{library}")).run(model, windows(5, 4))
    assert set(Path(tempfile.gettempdir()).glob("limpet-tensors-*")) <= before


def test_what_the_model_cannot_take_is_reported(server: Sshd, model: Path, tmp_path: Path) -> None:
    device = open_device(server.url(limpet=LIMPET), Login())
    with pytest.raises(DeviceError, match=r"has shape \[1, 4\]"):
        device.run(model, windows(2, 5))
    with pytest.raises(DeviceError, match=r"only \.tflite models"):
        device.run(tmp_path / "model.onnx", windows(2, 4))
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(model.read_bytes()[:200])
    with pytest.raises(DeviceError, match="tflite"):
        device.run(damaged, windows(2, 4))


def test_a_device_that_cannot_be_reached_is_reported(server: Sshd, model: Path) -> None:
    with pytest.raises(DeviceError, match="Connection refused; nothing listens there"):
        open_device("ssh://127.0.0.1:1", Login()).run(model, windows(1, 4))
    with pytest.raises(DeviceError, match=r"Could not resolve.*is the name right"):
        open_device("ssh://no-such-host.invalid", Login()).run(model, windows(1, 4))
    url = server.url().partition("?")[0] + "?config=/dev/null"
    with pytest.raises(DeviceError, match="Host key verification failed"):
        open_device(url, Login()).run(model, windows(1, 4))


@pytest.mark.parametrize(
    "url",
    [
        "ssh://-oProxyCommand=touch",
        "ssh://-l@host",
        "ssh://pi:secret@host",
        "ssh://host/path",
        "ssh://host:port",
        "ssh://host?shell=sh",
        "ssh://",
        "host",
    ],
)
def test_urls_that_name_no_host(url: str) -> None:
    with pytest.raises(DeviceError):
        open_device(url, Login())


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (2, "limpet: no command 'tensors'. Run: limpet --help", "too old"),
        (255, "pi@host: Permission denied (publickey).", "ssh-copy-id pi@host"),
        (255, "", "may have crashed there"),
        (139, "", "ended with status 139"),
        (None, "", "does not end"),
        (1, "noise\nlimpet: one thing\nlimpet: another", "pi@host: one thing; another"),
    ],
)
def test_why_there_is_no_answer(status: int | None, said: str, words: str) -> None:
    assert words in ssh.explain("pi@host", "limpet", status, said)


def order(model: Path, values: FloatArray) -> bytes:
    file = io.BytesIO()
    ssh.ask(file, model.read_bytes(), values, "cpu")
    return file.getvalue()


def answered(asked: bytes) -> tuple[int, bytes, str]:
    done = subprocess.run([LIMPET, "tensors"], input=asked, capture_output=True, check=False, timeout=30)
    return done.returncode, done.stdout, done.stderr.decode()


def test_a_stream_that_ends_too_early_or_is_damaged_is_one_line(model: Path) -> None:
    whole = order(model, windows(5, 4))
    assert answered(whole)[0] == 0
    for asked, says in (
        (b"", "ended too early"),
        (whole[:100], "ended too early"),
        (whole[:-1], "ended too early"),
        (b"GET / HTTP/1.1\r\n\r\n", "not from a limpet-convert"),
        (whole.replace(b"TFL3", b"TFL4"), "its SHA-256 is another"),
        (MAGIC + struct.pack("<I", 1 << 31), "the limit is"),
        (MAGIC + struct.pack("<I", 3) + b"\xff\xff\xff", "could not be read"),
    ):
        status, _, said = answered(asked)
        assert (status, said.count("limpet: "), "Traceback" in said) == (1, 1, False)
        assert says in said


@settings(max_examples=60)
@given_by_hypothesis(st.data())
def test_no_bytes_crash_who_serves_them(data: st.DataObject) -> None:
    frames = [
        msgspec.msgpack.encode(Order(4, "0" * 64, [data.draw(st.integers(-2, 5))], 2)),
        msgspec.msgpack.encode(Chunk(data.draw(st.binary(max_size=6)))),
        msgspec.msgpack.encode(Tensor(shape=data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))),
        data.draw(st.binary(max_size=40)),
    ]
    stream = MAGIC + b"".join(struct.pack("<I", len(f)) + f for f in data.draw(st.permutations(frames)))
    with TemporaryDirectory() as folder, pytest.raises((LimpetError, EOFError)):
        tensor_stream.serve(io.BytesIO(stream), io.BytesIO(), Path(folder))


@given_by_hypothesis(
    st.lists(st.integers(1, (1 << 31) - 1), min_size=1, max_size=8),
    st.sampled_from(["float32", "uint8"]),
    st.binary(max_size=64),
    st.lists(st.floats(), max_size=8),
)
def test_tensors_from_outside_are_windows_or_refused(
    shape: list[int], dtype: str, data: bytes, values: list[float]
) -> None:
    made = msgspec.convert({"shape": shape, "dtype": dtype, "data": data, "values": values}, Tensor, strict=False)
    try:
        found = infer_request.windows(made)
    except ModelError:
        return
    assert (found.dtype, list(found.shape)) == (np.float32, shape)


@given_by_hypothesis(st.binary(max_size=200))
def test_no_answer_crashes_who_asked(data: bytes) -> None:
    for whole in (data, MAGIC + data):
        with pytest.raises((LimpetError, EOFError)):
            ssh.answers(io.BytesIO(whole), 3)


def answer(**changes: Any) -> dict[str, Any]:
    """An honest answer to one window of two numbers, as it lies in the stream, but for ``changes``."""
    output = Tensor(shape=[1, 2], data=np.zeros(2, "<f4").tobytes())
    made = inferred(outputs=[output], run_us=[1.0])
    return {**msgspec.to_builtins(made, builtin_types=(bytes,)), **changes}


def nested(depth: int) -> Any:
    """Lists in lists, deeper than a decoder may follow."""
    return msgspec.Raw(b"\x91" * depth + b"\x00")


OUTPUT = {"shape": [1, 2], "data": bytes(8)}


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": []},
        {"outputs": [], "run_us": []},
        {"run_us": [1.0, 2.0, 3.0]},
        {"run_us": [float("nan")]},
        {"run_us": [-1.0]},
        {"outputs": [OUTPUT | {"shape": [2]}]},
        {"outputs": [OUTPUT | {"shape": [(1 << 31) - 1] * 8}]},
        {"outputs": [OUTPUT | {"shape": [-1, 2]}]},
        {"outputs": [OUTPUT | {"data": bytes(7)}]},
        {"outputs": [OUTPUT, {"shape": [2, 2], "data": bytes(16)}]},
        {"runtime": 3},
        {"more": nested(100_000)},
    ],
)
def test_an_answer_that_lies_ends_as_an_error_of_the_device(changes: dict[str, Any]) -> None:
    data = msgspec.msgpack.encode(answer(**changes))
    stream = io.BytesIO(MAGIC + struct.pack("<I", len(data)) + data)
    with pytest.raises((TransportError, UnreadableError, DeviceError, EOFError)):
        gather(ssh.answers(stream, 1))


def test_an_honest_answer_is_read_and_its_texts_can_be_shown() -> None:
    file = io.BytesIO(MAGIC)
    file.seek(len(MAGIC))
    stream.write(file, answer(runtime="litert\x1b]0;pwned\x07"))
    file.seek(0)
    ran = gather(ssh.answers(file, 1))
    assert ran.answer.runtime == "litert\N{REPLACEMENT CHARACTER}]0;pwned\N{REPLACEMENT CHARACTER}"
    assert (ran.values[0].shape, ran.run_us) == ((1, 2), [1.0])


def test_what_a_device_prints_cannot_steer_the_terminal(server: Sshd, model: Path, tmp_path: Path) -> None:
    program = tmp_path / "limpet"
    program.write_text("#!/bin/sh\nprintf 'limpet: gone \\033[2J\\n' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(DeviceError, match=r"gone \N{REPLACEMENT CHARACTER}\[2J$"):
        open_device(server.url(limpet=str(program)), Login()).run(model, windows(1, 4))
