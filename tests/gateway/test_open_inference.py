"""The Open Inference Protocol over HTTP, from a client to the model of a real daemon's pipeline."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from limpet.gateway.open_inference.shared_memory import FOLDER
from support.api_daemon import api_daemon
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api_daemon import ApiDaemon, Response

INPUT = {"name": "input", "shape": [1, 3], "datatype": "INT8"}
INFER = "/v2/models/dense/infer"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    with api_daemon(tmp_path_factory.mktemp("served"), api="request_bytes = 100_000") as running:
        wait_until(lambda: running.request("/v2/models/dense/ready").status == 200)
        yield running


def post(served: ApiDaemon, path: str, body: dict[str, Any], *, unix: bool = False) -> Response:
    return served.request(path, "POST", json.dumps(body).encode(), unix=unix)


def test_a_model_runs_on_what_a_client_sends(served: ApiDaemon) -> None:
    found = post(served, INFER, {"id": "7", "inputs": [{**INPUT, "data": [[5, -7, 100]]}]})
    assert found.status == 200
    assert found.json == {
        "model_name": "dense",
        "model_version": "0",
        "id": "7",
        "outputs": [{"name": "output", "datatype": "INT8", "shape": [1, 3], "data": [5, -7, 100]}],
    }


def test_real_values_come_and_go_for_a_quantized_model(served: ApiDaemon) -> None:
    sent = {**INPUT, "datatype": "FP32", "data": [5.0, -7.0, 1.0]}
    found = post(served, INFER, {"inputs": [sent], "parameters": {"real": True}}).json["outputs"][0]
    assert found["datatype"] == "FP32"
    assert found["data"] == pytest.approx([5, -7, 1], abs=1 / 16)


def test_a_body_counts_with_the_size_that_it_has_decompressed(served: ApiDaemon) -> None:
    sent = {"inputs": [{**INPUT, "data": [1, 2, 3]}]}
    gzipped = {"Content-Encoding": "gzip"}
    small, large = (gzip.compress(json.dumps({"x": "y" * size, **sent}).encode()) for size in (1000, 90_000))
    assert served.request(INFER, "POST", large, gzipped).status == 200
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port))).sendall(head)
        wait_until(lambda: served.request(INFER, "POST", large, gzipped).status == 503)
        assert served.request(INFER, "POST", small, gzipped).status == 200


def test_a_body_without_json_is_the_only_input(served: ApiDaemon) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    found = served.request(INFER, "POST", bytes([1, 2, 3]), headers)
    assert found.body[int(found.headers["inference-header-content-length"]) :] == bytes([1, 2, 3])
    wrong = served.request(INFER, "POST", bytes([1, 2]), headers)
    assert (wrong.status, "has 2 values" in wrong.json["error"]) == (400, True)


def test_half_a_value_is_refused(served: ApiDaemon) -> None:
    sent = {"inputs": [{**INPUT, "datatype": "FP32", "parameters": {"binary_data_size": 7}}]}
    head = json.dumps(sent).encode()
    wrong = served.request(INFER, "POST", head + bytes(7), {"Inference-Header-Content-Length": str(len(head))})
    assert (wrong.status, "has 7 bytes for values of 4 bytes" in wrong.json["error"]) == (400, True)


def test_tensors_go_through_shared_memory(served: ApiDaemon) -> None:
    key = f"limpet-test-{uuid4().hex}"
    path = FOLDER / key
    path.write_bytes(bytes([1, 2, 3, 0, 0, 0]))
    region = {"shared_memory_region": key, "shared_memory_byte_size": 3}
    body = {
        "inputs": [{**INPUT, "parameters": region}],
        "outputs": [{"name": "output", "parameters": {**region, "shared_memory_offset": 3}}],
    }
    try:
        for unix in (False, True):
            place = f"/v2/systemsharedmemory/region/{key}"
            assert post(served, f"{place}/register", {"key": key, "byte_size": 6}, unix=unix).status == 200
            assert served.request(f"{place}/status", unix=unix).json == [
                {"name": key, "key": key, "offset": 0, "byte_size": 6}
            ]
            found = post(served, INFER, body, unix=unix)
            assert found.status == 200, found.body
            assert "data" not in found.json["outputs"][0]
            assert path.read_bytes() == bytes([1, 2, 3, 1, 2, 3])
            assert post(served, f"{place}/unregister", {}, unix=unix).status == 200
            assert post(served, INFER, body, unix=unix).status == 404
    finally:
        path.unlink()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")
def test_shared_memory_of_another_user_is_refused_over_http(served: ApiDaemon) -> None:
    path = FOLDER / f"limpet-test-{uuid4().hex}"
    path.write_bytes(b"secret")
    os.chown(path, 65534, 65534)
    try:
        for unix in (False, True):
            register = "/v2/systemsharedmemory/region/r/register"
            found = post(served, register, {"key": path.name, "byte_size": 6}, unix=unix)
            assert (found.status, "another user" in found.json["error"]) == (403, True)
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v2/models/absent/infer", {"inputs": []}, 404, "does not exist"),
        ("/v2/models/dense/versions/9/infer", {"inputs": []}, 404, "version 9"),
        ("/v2/models/dense/versions/x/infer", {"inputs": []}, 404, "whole number"),
        (INFER, {"inputs": []}, 400, 'the model has "input"'),
        (INFER, {"inputs": [{**INPUT, "data": [1, 2]}]}, 400, "has 2 values; INT8 of shape [1, 3] has 3"),
        (INFER, {"inputs": [{**INPUT, "shape": [3], "data": [1, 2, 3]}]}, 400, "shape"),
        (INFER, {"inputs": [{**INPUT, "datatype": "INT32", "data": [1, 2, 3]}]}, 400, "INT8 or FP32"),
        (INFER, {"inputs": [{**INPUT, "data": [1, 2, 300]}]}, 400, "not INT8"),
        (INFER, {"inputs": [{**INPUT, "data": [1, 2, 3]}], "outputs": [{"name": "z"}]}, 400, 'it has "output"'),
        (INFER, {"inputs": [{**INPUT, "data": [0] * 60_000}]}, 413, "100000"),
        ("/v2/repository/models/dense/load", {}, 403, "token"),
        ("/v2/systemsharedmemory/region/r/unregister", {}, 404, "no region"),
        ("/v2/systemsharedmemory/region/r/register", {"key": "../x", "byte_size": 1}, 400, "key"),
    ],
)
def test_wrong_requests_are_refused_with_a_reason(
    served: ApiDaemon, path: str, body: dict[str, Any], status: int, text: str
) -> None:
    found = post(served, path, body)
    assert (found.status, list(found.json)) == (status, ["error"])
    assert text in found.json["error"]


def test_a_body_that_grows_when_it_is_decompressed_is_refused(served: ApiDaemon) -> None:
    import zlib

    bomb = zlib.compress(b" " * 10_000_000)
    found = served.request(INFER, "POST", bomb, {"Content-Encoding": "deflate"})
    assert (found.status, "100000 bytes" in found.json["error"]) == (413, True)


def test_statistics_count_requests(served: ApiDaemon) -> None:
    def counts() -> tuple[int, int]:
        found = served.request("/v2/models/dense/stats").json["model_stats"]
        times = found[0]["inference_stats"]
        return times["success"]["count"], times["fail"]["count"]

    post(served, INFER, {"inputs": [{**INPUT, "data": [1, 2, 3]}]})
    good, bad = counts()
    post(served, INFER, {"inputs": [{**INPUT, "data": [1, 2, 3]}]})
    post(served, INFER, {"inputs": [{**INPUT, "data": [1, 2]}]})
    assert counts() == (good + 1, bad + 1)


def test_a_model_that_died_with_its_worker_is_found_again(served: ApiDaemon) -> None:
    body = {"inputs": [{**INPUT, "data": [1, 2, 3]}]}
    assert post(served, INFER, body).status == 200
    os.kill(served.daemon.pid_of("imu"), 9)
    seen: list[int] = []

    def works() -> bool:
        seen.append(post(served, INFER, body).status)
        return len(seen) > 1 and seen[-1] == 200

    wait_until(works)
    assert set(seen) <= {200, 503}
