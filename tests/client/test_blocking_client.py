from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from limpet.client import Client, DeviceHealth, PipelineHealth, RefusedError, UnavailableError
from support.api_daemon import api_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.api_daemon import ApiDaemon


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    with api_daemon(tmp_path_factory.mktemp("client")) as running:
        yield running


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
