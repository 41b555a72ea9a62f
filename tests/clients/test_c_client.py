"""The reference client in C reads state and streams of a real daemon, and believes no answer about sizes."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import c_client
from support.api_daemon import ApiDaemon, api_daemon
from support.c_client import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED, REFUSED, INVALID = -1, -2, -3
SHARED = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is on Linux


class Answer(NamedTuple):
    """What a call returned, with what the client says about it."""

    code: int
    body: bytes | None
    error: str
    status: int


class Client:
    """One connection of the client."""

    def __init__(self, library: ctypes.CDLL, path: Path) -> None:
        self._library = library
        self.handle = library.limpet_open(str(path).encode())

    @property
    def error(self) -> str:
        return (self._library.limpet_error(self.handle) or b"").decode()

    def get(self, path: str) -> Answer:
        return self.request("GET", path, None)

    def request(self, method: str, path: str, body: bytes | None) -> Answer:
        text = ctypes.c_char_p()
        code = self._library.limpet_request(self.handle, method.encode(), path.encode(), body, ctypes.byref(text))
        return Answer(code, text.value, self.error, self._library.limpet_status(self.handle))

    def share(self, size: int) -> int:
        memory: int | None = self._library.limpet_share(self.handle, size)
        assert memory, self.error
        return memory

    def infer(self, model: str, inputs: list[Tensor], outputs: list[Tensor]) -> Answer:
        ins, outs = (Tensor * len(inputs))(*inputs), (Tensor * len(outputs))(*outputs)
        code = self._library.limpet_infer(self.handle, model.encode(), ins, len(inputs), outs, len(outputs))
        outputs[:] = list(outs)
        return Answer(code, None, self.error, self._library.limpet_status(self.handle))

    def stream(self, query: str) -> Answer:
        code = self._library.limpet_stream(self.handle, query.encode())
        return Answer(code, None, self.error, self._library.limpet_status(self.handle))

    def next(self, milliseconds: int = 20_000) -> Answer:
        text = ctypes.c_char_p()
        code = self._library.limpet_next(self.handle, milliseconds, ctypes.byref(text))
        return Answer(code, text.value, self.error, 0)

    def close(self) -> None:
        self._library.limpet_close(self.handle)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return c_client.library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with sanitizers."""
    return c_client.example(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="module")
def running() -> Iterator[ApiDaemon]:
    with tempfile.TemporaryDirectory() as folder, api_daemon(Path(folder), rate=20) as started:  # a short path
        yield started


@pytest.fixture
def client(library: ctypes.CDLL, running: ApiDaemon) -> Iterator[Client]:
    made = Client(library, running.socket)
    yield made
    made.close()


def test_a_connection_serves_many_requests(client: Client) -> None:
    for _ in range(3):
        answer = client.get("/api/pipelines")
        assert (answer.code, answer.status, answer.error) == (0, 200, "")
        assert [each["health"]["pipeline"] for each in json.loads(answer.body or b"")] == ["motion"]


def test_an_error_of_limpet_is_passed_on_and_the_connection_goes_on(client: Client) -> None:
    answer = client.get("/api/pipelines/other")
    assert (answer.code, answer.status, answer.body) == (REFUSED, 404, None)
    assert answer.error.startswith("Limpet answered 404: ")
    assert answer.error.endswith("the pipelines are: motion")
    assert client.stream("pipeline=other").error.endswith("the pipelines are: motion")
    assert client.get("/v2/models/other").error.startswith('Limpet answered 404: model "other" does not exist')
    assert client.get("/api/device").code == 0


def test_a_path_cannot_smuggle_a_second_request(client: Client) -> None:
    answer = client.get("/api/device HTTP/1.1\r\nHost: x\r\n\r\nGET /")
    assert (answer.code, answer.body) == (INVALID, None)


def test_results_come_as_a_stream(client: Client) -> None:
    assert client.stream("kind=result&pipeline=motion").code == 0
    messages = [json.loads(client.next().body or b"") for _ in range(5)]
    sequences = [message["message"]["sequence"] for message in messages]
    assert sequences == list(range(sequences[0], sequences[0] + 5))
    assert client.get("/api/device").code == INVALID


def test_a_stream_without_a_message_says_so(client: Client) -> None:
    assert client.stream("kind=event&pipeline=motion").code == 0
    while client.next(200).code == 1:  # events of the start
        continue
    assert client.next(0).code == 0


def test_a_stream_that_is_refused_says_why(client: Client) -> None:
    answer = client.stream("pipeline=other")
    assert (answer.code, answer.status) == (REFUSED, 404)


def tensor(name: str, address: int, size: int, shape: tuple[int, ...] = ()) -> Tensor:
    made = Tensor(name.encode(), b"INT8", dimensions=len(shape), data=address, size=size)
    made.shape[: len(shape)] = shape
    return made


def expected(running: ApiDaemon, values: list[int]) -> list[int]:
    """Return what the model makes of values, as JSON over HTTP has it."""
    body = {"inputs": [{"name": "input", "datatype": "INT8", "shape": [1, 3], "data": values}]}
    answer = running.request("/v2/models/dense/infer", "POST", json.dumps(body).encode(), unix=True)
    found: list[int] = answer.json["outputs"][0]["data"]
    return found


@pytest.mark.parametrize("shared", [False, True])
def test_a_model_runs_on_tensors_of_the_request_and_in_shared_memory(
    client: Client, running: ApiDaemon, *, shared: bool
) -> None:
    own = ctypes.create_string_buffer(64)
    memory = client.share(64) if shared else ctypes.addressof(own)
    for values in ([1, 2, 3], [-128, 0, 127]):
        ctypes.memmove(memory, bytes(value % 256 for value in values), 3)
        outputs = [tensor("output", memory + 8, 16)]
        answer = client.infer("dense", [tensor("input", memory, 3, (1, 3))], outputs)
        assert answer.code == 0, answer.error
        (output,) = outputs
        assert (output.datatype, list(output.shape[: output.dimensions]), output.size) == (b"INT8", [1, 3], 3)
        found = [value - 256 if value > 127 else value for value in ctypes.string_at(memory + 8, 3)]
        assert found == expected(running, values)


def test_an_inference_that_is_refused_says_why_and_the_connection_goes_on(client: Client) -> None:
    buffer = ctypes.create_string_buffer(64)
    memory = ctypes.addressof(buffer)
    right, output = tensor("input", memory, 3, (1, 3)), tensor("output", memory + 8, 16)
    wrong = client.infer("dense", [tensor("other", memory, 3, (1, 3))], [output])
    assert (wrong.code, wrong.status) == (REFUSED, 400)
    assert "input" in wrong.error
    assert client.infer("nothing", [right], [output]).code == REFUSED
    small = client.infer("dense", [right], [tensor("output", memory + 8, 2)])
    assert (small.code, small.error) == (INVALID, '"output" needs 3 bytes, not 2')
    assert client.infer("dense", [right], []).code == INVALID
    assert client.infer("dense", [right], [output]).code == 0


def test_shared_memory_has_no_name_that_a_crash_could_leave_and_ends_with_its_connection(
    library: ctypes.CDLL, running: ApiDaemon
) -> None:
    def regions() -> dict[str, int]:
        answer = running.request("/v2/systemsharedmemory/status", unix=True)
        return {region["key"]: region["byte_size"] for region in answer.json}

    before = regions()
    client = Client(library, running.socket)
    client.share(4096)
    ((key, size),) = regions().items() - before.items()
    assert size == 4096
    assert not (SHARED / key.strip("/")).exists()
    client.close()
    assert regions() == before


def test_the_example_runs_a_model_and_reads_results_without_an_error_of_memory(
    running: ApiDaemon, program: Path
) -> None:
    arguments = [running.socket, "dense", "input", "3", "output", "motion", "3"]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    model, *results = done.stdout.splitlines()
    assert model.startswith("output INT8:")
    assert len(model.split()) == 5
    sequences = [int(line.removeprefix("result ")) for line in results]
    assert sequences == list(range(sequences[0], sequences[0] + 3))


@contextmanager
def server(*answers: bytes) -> Iterator[Path]:
    """Answer requests with these bytes, and close the connection."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "s"
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            listener.close()  # the client is not to connect again
            with connection:
                for answer in answers:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join()


def answered(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers])
    return head.encode() + b"\r\n\r\n" + body


def described(**parts: Any) -> bytes:
    output = {"name": "output", "datatype": "INT8", "shape": [1, 3], "parameters": {"binary_data_size": 3}} | parts
    return json.dumps({"outputs": [output]}).encode()


_RIGHT = described(parameters={"shared_memory_region": "r", "shared_memory_byte_size": 3})


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (answered(_RIGHT), 0, "output INT8"),
        (answered(described(shape=[1] * 99)), 1, "wrong shape"),
        (answered(described(parameters={"shared_memory_byte_size": 2**63})), 0, "output INT8"),
        (answered(_RIGHT, "Inference-Header-Content-Length: 99999999"), 0, "output INT8"),
        (answered(described(datatype="X" * 300)), 1, "describes no tensor"),
        (answered(described(datatype=7)), 1, "describes no tensor"),
        (answered(described(shape="no")), 1, "wrong shape"),
        (answered(described(shape=[[[]]])), 1, "wrong shape"),
        (answered(described(shape=None)), 1, "wrong shape"),
        (answered(b'{"outputs": []}'), 1, "lacks"),
        (answered(b'{"outputs": [{"shape": ['), 1, "no tensor"),
        (answered(b'{"outputs": [{"datatype": "INT8", "shape": ['), 1, "wrong shape"),
        (answered(b"\0" * 100), 1, "lacks"),
        (answered(b'"' + b"\\" * 99), 1, "lacks"),
        (answered(b"[" * 100_000), 1, "lacks"),
        (answered(b""), 1, "lacks"),
    ],
)
def test_an_answer_to_an_inference_is_believed_about_no_size(
    program: Path, answer: bytes, status: int, words: str
) -> None:
    with server(answered(b""), answer) as path:
        arguments = [program, path, "dense", "input", "3", "output", "motion", "0"]
        environment = os.environ | {"ASAN_OPTIONS": "exitcode=99", "UBSAN_OPTIONS": "exitcode=99"}
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == status, done.stderr
    assert words in (done.stderr if status else done.stdout)


def test_without_a_daemon_the_error_says_what_to_do(library: ctypes.CDLL, tmp_path: Path) -> None:
    for path in (Path("/nothing/here.sock"), tmp_path / ("x" * 120)):
        client = Client(library, path)
        assert client.error
        assert client.get("/api/device").code == FAILED
        client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 40_000,
        b"\0" * 40_000,
    ],
)
def test_an_answer_that_is_wrong_fails_the_request(library: ctypes.CDLL, answer: bytes) -> None:
    with server(answer) as path:
        client = Client(library, path)
        assert client.get("/api/device").code == FAILED
        assert client.error
        client.close()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 0),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", REFUSED),
    ],
)
def test_both_forms_of_a_body_are_read(library: ctypes.CDLL, answer: bytes, code: int) -> None:
    with server(answer) as path:
        client = Client(library, path)
        assert client.get("/api/device")[:2] == (code, None if code else b"{}")
        client.close()


_KEYS = st.text("abcxyz_", min_size=1, max_size=4)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=20,
)


def paths(value: Any) -> list[tuple[str, Any]]:
    """Return all paths below a value, with what is there."""
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    if isinstance(value, list):
        inner = [(str(at), each) for at, each in enumerate(value)]
    return inner + [(f"{key}.{rest}", found) for key, each in inner for rest, found in paths(each)]


@settings(max_examples=50)
@given(_JSON, st.sampled_from([None, 1]), st.sampled_from([None, (",", ":")]))
def test_each_value_in_json_is_found_by_its_path(
    library: ctypes.CDLL, value: Any, indent: int | None, separators: tuple[str, str] | None
) -> None:
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=separators is None).encode()
    buffer = ctypes.create_string_buffer(text)
    for path, wanted in paths(value):
        at = library.limpet_json(buffer, path.encode())
        assert at, path
        found, _ = json.JSONDecoder().raw_decode(ctypes.string_at(at).decode())
        assert found == wanted
    assert not library.limpet_json(buffer, b"missing.1")


@given(st.text('{}[]",:\\ 1ab.', max_size=30), st.text("ab1.", max_size=6))
def test_text_that_is_no_json_is_no_harm(library: ctypes.CDLL, text: str, path: str) -> None:
    buffer = ctypes.create_string_buffer(text.encode())
    at = library.limpet_json(buffer, path.encode())
    assert at is None or ctypes.addressof(buffer) <= at < ctypes.addressof(buffer) + len(text)
