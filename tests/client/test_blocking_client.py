from __future__ import annotations

import collections
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.client import Client, ClientError, DeviceHealth, PipelineHealth, RefusedError, UnavailableError
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api_daemon import ApiDaemon


SIDE = 512
"""Of the model ``mobilenet``, see ``served``."""


@pytest.fixture
def client(served: ApiDaemon) -> Iterator[Client]:
    with Client(served.socket) as one:
        yield one


def test_the_device_and_its_pipelines_are_structs(client: Client) -> None:
    device = client.device()
    assert device.device == "press-07"
    assert set(device.pipelines) == {"motion"}
    (listed,) = client.pipelines()
    assert listed.health.pipeline == "motion"
    assert client.pipeline("motion").health.device == "press-07"


def test_a_pipeline_that_is_not_there_is_refused_with_the_reason(client: Client) -> None:
    with pytest.raises(RefusedError, match="nothing") as caught:
        client.pipeline("nothing")
    assert caught.value.status == 404
    assert not caught.value.busy


def test_results_come_as_a_stream_of_structs(client: Client) -> None:
    with client.results("motion") as results:
        first, second = next(results), next(results)
        assert results.missed == 0
    assert (first.pipeline, second.sequence) == ("motion", first.sequence + 1)
    assert len(first.output["values"]) == 3
    assert first.sequence in [each.sequence for each in client.last_results("motion", 100)]


def test_events_begin_with_the_last_ones_and_health_with_the_state(client: Client) -> None:
    with client.events() as events:
        assert next(events).device == "press-07"
    with client.health() as health:
        states = [next(health) for _ in range(2)]
    assert {type(each) for each in states} == {DeviceHealth, PipelineHealth}


def test_a_stream_of_a_pipeline_that_is_not_there_is_refused(client: Client) -> None:
    with pytest.raises(RefusedError) as caught, client.results("nothing"):
        pass
    assert caught.value.status == 404


def test_commands_give_their_result_or_the_reason(client: Client) -> None:
    assert client.command("ping")["boot"]
    with pytest.raises(RefusedError, match="nothing"):
        client.command("threshold", pipeline="nothing", value=0.5)


def test_a_quantized_model_takes_and_returns_real_values_or_its_own_integers(client: Client) -> None:
    (output,) = client.infer("dense", np.array([[1.0, -0.5, 0.25]])).values()
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, [[1.0, -0.5, 0.25]], atol=0.02)
    (integers,) = client.infer("dense", {"input": [[10, -20, 30]]}).values()
    assert integers.dtype == np.int8
    np.testing.assert_allclose(integers, [[10, -20, 30]], atol=1)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"other": [1]}, "has the inputs input, and not other"),
        ([["a", "b", "c"]], "give numbers"),
        ([[1, 2, 300]], "INT8"),
        ([[1.0, 2.0], [3.0]], "no array"),
    ],
)
def test_arrays_that_do_not_fit_are_errors_before_anything_is_sent(
    client: Client, inputs: Any, reason: str
) -> None:
    with pytest.raises(ClientError, match=reason):
        client.infer("dense", inputs)


def test_a_shape_that_the_model_does_not_take_is_refused_and_the_next_call_works(client: Client) -> None:
    with pytest.raises(RefusedError, match="shape"):
        client.infer("dense", [[0.5]])
    assert client.infer("dense", [[0.5, 0.5, 0.5]])


def test_large_tensors_go_through_shared_memory_that_no_file_is_left_of(client: Client, served: ApiDaemon) -> None:
    assert [one.state for one in client.models() if one.name == "mobilenet"] != ["READY"]
    client.load("mobilenet")
    picture = np.random.default_rng(1).random((1, SIDE, SIDE), np.float32)
    for factor in (1.0, 2.0):
        (output,) = client.infer("mobilenet", picture * np.float32(factor)).values()
        np.testing.assert_array_equal(output, picture * np.float32(factor))
    regions = served.request("/v2/systemsharedmemory/status", unix=True).json
    assert [one["name"].startswith("limpet-client-") for one in regions] == [True]
    assert not list(Path("/dev/shm").glob("limpet-client-*"))  # noqa: S108 - where it would be
    client.close()
    assert served.request("/v2/systemsharedmemory/status", unix=True).json == []
    client.unload("mobilenet")


def test_what_a_program_that_crashed_left_registered_is_given_back(served: ApiDaemon) -> None:
    program = (
        "import numpy, os; from limpet.client import Client\n"
        f"client = Client({str(served.socket)!r}); client.load('mobilenet')\n"
        f"client.infer('mobilenet', numpy.zeros((1, {SIDE}, {SIDE}), numpy.float32)); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    (left,) = served.request("/v2/systemsharedmemory/status", unix=True).json
    with Client(served.socket) as client:
        client.infer("mobilenet", np.zeros((1, SIDE, SIDE), np.float32))
        (own,) = served.request("/v2/systemsharedmemory/status", unix=True).json
        assert own["name"] != left["name"]
        client.unload("mobilenet")


def test_a_stream_ends_with_its_server_and_the_client_goes_on_with_the_next(
    client: Client, served: ApiDaemon
) -> None:
    picture = np.zeros((1, SIDE, SIDE), np.float32)
    client.load("mobilenet")
    assert client.infer("mobilenet", picture)
    with client.results("motion") as results:
        next(results)
        os.kill(served.gateway_pid, signal.SIGKILL)
        with pytest.raises(UnavailableError, match=r"closed|broke"):
            collections.deque(results, maxlen=0)

    def answers() -> bool:
        with contextlib.suppress(UnavailableError):
            return client.device().device == "press-07"
        return False

    wait_until(answers)
    assert client.infer("mobilenet", picture)  # its shared memory is not known any more
    assert client.infer("mobilenet", picture)
    client.unload("mobilenet")


def test_a_request_that_is_too_large_is_refused_with_the_reason(client: Client) -> None:
    with pytest.raises(RefusedError, match="too large") as caught:
        client.command("ping", text="x" * 20_000_000)
    assert caught.value.status == 413
    assert client.device()


def test_a_daemon_that_does_not_answer_is_not_waited_for_longer_than_the_timeout(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "api.sock"))
        silent.listen()
        with (
            Client(tmp_path / "api.sock", timeout=0.05) as client,
            pytest.raises(UnavailableError, match="did not answer in time"),
        ):
            client.device()


def test_no_daemon_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    with Client(tmp_path / "api.sock") as client, pytest.raises(UnavailableError, match=r"api\.sock"):
        client.device()


def test_a_program_has_neither_numpy_nor_asyncio_nor_parts_of_the_daemon_in_memory(served: ApiDaemon) -> None:
    program = (
        "import sys; from limpet.client import Client\n"
        f"with Client({str(served.socket)!r}) as client: print(client.device().device)\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    device, modules = done.stdout.splitlines()
    assert device == "press-07"
    loaded = set(modules.split())
    assert loaded.isdisjoint({"numpy", "asyncio", "serial", "paho", "starlette", "uvicorn"})
    folders = {name.split(".")[1] for name in loaded if name.startswith("limpet.")}
    assert folders == {"client", "contracts", "device", "errors", "untrusted"}
