"""Runs in .venv-triton: Triton's HTTP client loads and runs models of the store. Arguments: address, token."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

if TYPE_CHECKING:
    from collections.abc import Callable


def main(address: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    with InferenceServerClient(address) as client:
        refused(client.get_model_repository_index, "token")
        assert client.is_server_live()

        index = client.get_model_repository_index(headers=dict(headers))
        states = {(one["name"], one["version"]): one["state"] for one in index}
        assert states["open", "2"] == states["product", "1"] == "UNAVAILABLE", states
        assert not client.is_model_ready("open", headers=dict(headers))
        refused(lambda: infer(client, headers, "open", x=rows(1)), "open")

        client.load_model("open", headers=dict(headers))
        assert client.is_model_ready("open", headers=dict(headers))
        batches(address, client, headers)

        client.load_model("product", headers=dict(headers))
        several_inputs(client, headers)

        refused(lambda: client.load_model("missing", headers=dict(headers)), "missing")
        refused(lambda: client.load_model("open", config="{}", headers=dict(headers)), "config")
        crash(client, headers)

        client.unload_model("open", headers=dict(headers))
        assert not client.is_model_ready("open", headers=dict(headers))
        refused(lambda: infer(client, headers, "open", x=rows(1)), "open")
        assert infer(client, headers, "dense", input=np.ones([1, 3], np.int8)).size == 3


def infer(client: InferenceServerClient, headers: dict[str, str], model: str, **values: np.ndarray) -> np.ndarray:
    """Run a model on inputs by name, and return its first output."""
    found = client.get_model_metadata(model, headers=dict(headers))
    inputs = []
    for one in found["inputs"]:
        value = values.get(one["name"], next(iter(values.values())))
        tensor = InferInput(one["name"], list(value.shape), np_to_triton_dtype(value.dtype))
        inputs.append(tensor.set_data_from_numpy(value))
    return client.infer(model, inputs, headers=dict(headers)).as_numpy(found["outputs"][0]["name"])


def rows(count: int, first: int = 0) -> np.ndarray:
    return (np.arange(count * 3).reshape(count, 3) % 5 + first).astype(np.float32)


def batches(address: str, client: InferenceServerClient, headers: dict[str, str]) -> None:
    """A model with an open batch takes several windows, in one request or in several at once."""
    shape = client.get_model_metadata("open", headers=dict(headers))["inputs"][0]["shape"]
    assert shape == [-1, 3], shape
    assert client.get_model_config("open", headers=dict(headers))["max_batch_size"] > 1
    np.testing.assert_allclose(infer(client, headers, "open", x=rows(7)), rows(7))
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda number: apart(address, headers, number), range(64))
    for number, output in enumerate(found):
        np.testing.assert_allclose(output, rows(1, number))


def apart(address: str, headers: dict[str, str], number: int) -> np.ndarray:
    with InferenceServerClient(address) as client:
        return infer(client, headers, "open", x=rows(1, number))


def several_inputs(client: InferenceServerClient, headers: dict[str, str]) -> None:
    found = infer(client, headers, "product", x=np.array([[2, 3]], np.float32), factor=np.array(5, np.float32))
    np.testing.assert_allclose(found.ravel(), [10, 15])


def crash(client: InferenceServerClient, headers: dict[str, str]) -> None:
    """A model that kills its process is not loaded, and no other model fails."""
    refused(lambda: client.load_model("crash", headers=dict(headers)), "its process ended")
    assert not client.is_model_ready("crash", headers=dict(headers))
    assert infer(client, headers, "open", x=rows(2)).shape == (2, 3)


def refused(call: Callable[[], object], text: str) -> None:
    message = "no error"
    try:
        call()
    except InferenceServerException as error:
        message = error.message()
    assert text in message, message


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
