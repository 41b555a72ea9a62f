"""Runs in .venv-triton: Triton's HTTP client, unchanged, against a server at the address that is its argument."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "dense"
SENT = np.array([[5, -7, 100]], np.int8)
"""What the model, an identity, returns as it is."""


def main(address: str) -> None:
    with InferenceServerClient(address, concurrency=4) as client:
        describe(client)
        infer(client)
        infer_compressed(client)
        infer_at_once(client)
        infer_real(client)
        infer_in_shared_memory(client)
        refuse(client)
        count(client)


def describe(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "limpet"
    assert "system_shared_memory" in client.get_server_metadata()["extensions"]
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "0")
    assert not client.is_model_ready("absent")
    found = client.get_model_metadata(MODEL)
    assert found["inputs"] == [{"name": "input", "datatype": "INT8", "shape": [1, 3]}], found
    assert found["outputs"] == [{"name": "output", "datatype": "INT8", "shape": [1, 3]}], found
    assert found["versions"] == ["0"]
    assert client.get_model_config(MODEL)["input"][0]["data_type"] == "TYPE_INT8"
    index = client.get_model_repository_index()
    assert {"name": MODEL, "version": "0", "state": "READY", "reason": ""} in index, index


def tensor(values: np.ndarray, *, binary: bool = True) -> InferInput:
    datatype = {"int8": "INT8", "float32": "FP32"}[values.dtype.name]
    return InferInput("input", list(values.shape), datatype).set_data_from_numpy(values, binary_data=binary)


def infer(client: InferenceServerClient) -> None:
    for binary_in in (True, False):
        for binary_out in (True, False):
            outputs = [InferRequestedOutput("output", binary_data=binary_out)]
            result = client.infer(MODEL, [tensor(SENT, binary=binary_in)], outputs=outputs, request_id="7")
            np.testing.assert_array_equal(result.as_numpy("output"), SENT)
            assert result.as_numpy("output").dtype == np.int8
            assert result.get_response()["id"] == "7"
            assert result.get_response()["model_version"] == "0"
    result = client.infer(MODEL, [tensor(SENT)], model_version="0")
    np.testing.assert_array_equal(result.as_numpy("output"), SENT)


def infer_compressed(client: InferenceServerClient) -> None:
    for algorithm in ("gzip", "deflate"):
        result = client.infer(
            MODEL,
            [tensor(SENT)],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        np.testing.assert_array_equal(result.as_numpy("output"), SENT)


def infer_at_once(client: InferenceServerClient) -> None:
    sent = [np.array([[n, -n, 1]], np.int8) for n in range(40)]
    running = [client.async_infer(MODEL, [tensor(values)]) for values in sent]
    for values, one in zip(sent, running, strict=True):
        np.testing.assert_array_equal(one.get_result().as_numpy("output"), values)


def infer_real(client: InferenceServerClient) -> None:
    """A quantized model takes real values, and gives them if they are wanted."""
    values = np.array([[5.0, -7.0, 1.0]], np.float32)  # scale 1/16, zero point 3
    quantized = client.infer(MODEL, [tensor(values)]).as_numpy("output")
    real = client.infer(MODEL, [tensor(values)], parameters={"real": True}).as_numpy("output")
    assert quantized.dtype == np.int8
    assert real.dtype == np.float32
    np.testing.assert_allclose(real, values, atol=1 / 16)
    np.testing.assert_allclose((quantized - 3.0) / 16, values, atol=1 / 16)


def infer_in_shared_memory(client: InferenceServerClient) -> None:
    with region("limpet_in", 64) as source, region("limpet_out", 64) as target:
        shm.set_shared_memory_region(source, [SENT], offset=8)
        client.register_system_shared_memory("source", "limpet_in", 64)
        client.register_system_shared_memory("target", "limpet_out", 48, offset=16)
        names = {one["name"] for one in client.get_system_shared_memory_status()}
        assert names == {"source", "target"}, names
        sent = InferInput("input", [1, 3], "INT8")
        sent.set_shared_memory("source", 3, offset=8)
        wanted = InferRequestedOutput("output")
        wanted.set_shared_memory("target", 8, offset=4)
        result = client.infer(MODEL, [sent], outputs=[wanted])
        parameters = result.get_output("output")["parameters"]
        assert parameters["shared_memory_byte_size"] == 3, parameters
        found = shm.get_contents_as_numpy(target, np.int8, [1, 3], offset=20)
        np.testing.assert_array_equal(found, SENT)
        client.unregister_system_shared_memory("source")
        client.unregister_system_shared_memory()
        assert client.get_system_shared_memory_status() == []
        fails("no region", lambda: client.infer(MODEL, [sent]))
        fails("64 bytes", lambda: client.register_system_shared_memory("large", "limpet_in", 65))
    fails("no shared memory", lambda: client.register_system_shared_memory("gone", "limpet_in", 64))


@contextmanager
def region(key: str, size: int) -> Iterator[shm.SharedMemoryRegion]:
    handle = shm.create_shared_memory_region(key, key, size)
    try:
        yield handle
    finally:
        shm.destroy_shared_memory_region(handle)


def refuse(client: InferenceServerClient) -> None:
    fails("absent", lambda: client.infer("absent", [tensor(SENT)]))
    fails("version 9", lambda: client.infer(MODEL, [tensor(SENT)], model_version="9"))
    fails("shape", lambda: client.infer(MODEL, [tensor(SENT[:, :2])]))
    fails("no output", lambda: client.infer(MODEL, [tensor(SENT)], outputs=[InferRequestedOutput("other")]))
    fails("sequences", lambda: client.infer(MODEL, [tensor(SENT)], sequence_id=3, sequence_start=True))
    wrong = InferInput("other", [1, 3], "INT8").set_data_from_numpy(SENT)
    fails('"input"', lambda: client.infer(MODEL, [wrong]))
    fails("classification", lambda: client.infer(MODEL, [tensor(SENT)], outputs=[classified()]))
    fails("token", lambda: client.load_model("absent"))
    fails("CUDA", lambda: client.register_cuda_shared_memory("cuda", b"handle", 0, 64))


def classified() -> InferRequestedOutput:
    return InferRequestedOutput("output", class_count=2)


def fails(text: str, call: object) -> None:
    message = "no error"
    try:
        call()  # type: ignore[operator]
    except InferenceServerException as error:
        message = error.message()
    assert text in message, message


def count(client: InferenceServerClient) -> None:
    counted = client.get_inference_statistics(MODEL)["model_stats"][0]
    assert counted["name"] == MODEL
    assert counted["inference_stats"]["success"]["count"] == counted["inference_count"] > 40, counted
    assert counted["inference_stats"]["fail"]["count"] >= 4, counted


if __name__ == "__main__":
    main(sys.argv[1])
