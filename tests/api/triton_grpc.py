"""Runs in .venv-triton: Triton's gRPC client, unchanged, against a server at the address that is its argument.

The second argument is a file with the description of Limpet's messages, which must be Triton's.
"""

from __future__ import annotations

import queue
import sys
from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, service_pb2
from tritonclient.utils import InferenceServerException, shared_memory

BATCH = np.array([[1, -2, 0.5]], np.float32)


def main(address: str, description: Path) -> None:
    compare(description)
    with InferenceServerClient(address) as client:
        name = describe(client)
        expected = infer(client, name)
        typed(address, name, expected)
        stream(client, name, expected)
        shared(client, name, expected)
        refused(client, name)


def compare(description: Path) -> None:
    """Our messages have Triton's names, numbers, types and labels, as far as they go."""
    file = descriptor_pb2.FileDescriptorProto.FromString(description.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    compared: set[str] = set()
    for method in service.methods:
        for theirs in (method.input_type, method.output_type):
            try:
                ours = pool.FindMessageTypeByName(f"inference.{theirs.name}")
            except KeyError:
                continue
            compare_messages(ours, theirs, compared)
    assert {"ModelInferRequest", "InferTensorContents", "ModelConfig", "StatisticDuration"} <= compared, compared


def compare_messages(ours, theirs, compared: set[str]) -> None:  # noqa: ANN001 - protobuf has no types
    if theirs.name in compared:
        return
    compared.add(theirs.name)
    for field in ours.fields:
        other = theirs.fields_by_number[field.number]
        assert field.name == other.name, (theirs.name, field.name, other.name)
        assert (field.is_repeated, field.has_presence) == (other.is_repeated, other.has_presence), other.full_name
        if other.message_type is not None:
            compare_messages(field.message_type, other.message_type, compared)
        elif other.enum_type is None:
            assert field.type == other.type, other.full_name
        else:
            assert field.type == field.TYPE_INT32, other.full_name


def describe(client: InferenceServerClient) -> str:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata().name == "limpet"
    (model,) = client.get_model_repository_index().models
    assert model.state == "READY"
    assert client.is_model_ready(model.name)
    assert client.is_model_ready(model.name, model.version)
    assert not client.is_model_ready("nothing")
    metadata = client.get_model_metadata(model.name)
    assert [list(one.shape) for one in metadata.inputs] == [[1, 3]], metadata
    config = client.get_model_config(model.name).config
    assert [one.data_type for one in config.input] == [6], config  # TYPE_INT8
    return str(model.name)


def input_of(client: InferenceServerClient, name: str) -> InferInput:
    found = InferInput(client.get_model_metadata(name).inputs[0].name, [1, 3], "FP32")
    found.set_data_from_numpy(BATCH)
    return found


def infer(client: InferenceServerClient, name: str) -> np.ndarray:
    output = client.get_model_metadata(name).outputs[0].name
    answer = client.infer(name, [input_of(client, name)], request_id="one", client_timeout=20)
    assert answer.get_response().id == "one"
    found = answer.as_numpy(output)
    assert (found.shape, found.dtype) == ((1, 3), np.int8)
    real = client.infer(name, [input_of(client, name)], parameters={"real": True}).as_numpy(output)
    assert real.dtype == np.float32
    own = InferInput(client.get_model_metadata(name).inputs[0].name, [1, 3], "INT8")
    own.set_data_from_numpy(np.array([[1, 2, 3]], np.int8))
    assert client.infer(name, [own]).as_numpy(output).dtype == np.int8
    other = BATCH * 2
    doubled = input_of(client, name)
    doubled.set_data_from_numpy(other)
    assert not np.array_equal(client.infer(name, [doubled]).as_numpy(output), found)
    statistics = client.get_inference_statistics(name).model_stats[0]
    assert statistics.inference_stats.success.count == 4, statistics
    return found


def typed(address: str, name: str, expected: np.ndarray) -> None:
    """Numbers in ``contents`` and not as raw bytes, as other clients send them."""
    import grpc
    from tritonclient.grpc import service_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        metadata = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=name))
        request = service_pb2.ModelInferRequest(model_name=name)
        one = request.inputs.add(name=metadata.inputs[0].name, datatype="FP32", shape=[1, 3])
        one.contents.fp32_contents.extend(BATCH.reshape(-1).tolist())
        answer = stub.ModelInfer(request)
        np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], np.int8), expected[0])


def stream(client: InferenceServerClient, name: str, expected: np.ndarray) -> None:
    answers: queue.Queue = queue.Queue()
    output = client.get_model_metadata(name).outputs[0].name
    client.start_stream(lambda result, error: answers.put((result, error)))
    for _ in range(5):
        client.async_stream_infer(name, [input_of(client, name)])
    client.async_stream_infer("nothing", [input_of(client, name)])
    for _ in range(5):
        result, error = answers.get(timeout=20)
        assert error is None, error
        np.testing.assert_array_equal(result.as_numpy(output), expected)
    result, error = answers.get(timeout=20)
    assert "nothing" in str(error), error
    client.stop_stream()


def shared(client: InferenceServerClient, name: str, expected: np.ndarray) -> None:
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    size = BATCH.nbytes
    region = shared_memory.create_shared_memory_region("both", "/limpet-test-grpc", 2 * size)
    try:
        shared_memory.set_shared_memory_region(region, [BATCH])
        client.register_system_shared_memory("both", "/limpet-test-grpc", 2 * size)
        status = client.get_system_shared_memory_status()
        assert status.regions["both"].byte_size == 2 * size, status
        metadata = client.get_model_metadata(name)
        given = InferInput(metadata.inputs[0].name, [1, 3], "FP32")
        given.set_shared_memory("both", size)
        wanted = InferRequestedOutput(metadata.outputs[0].name)
        wanted.set_shared_memory("both", 3, size)
        client.infer(name, [given], outputs=[wanted])
        found = shared_memory.get_contents_as_numpy(region, np.int8, [1, 3], size)
        np.testing.assert_array_equal(found, expected)
        client.unregister_system_shared_memory("both")
        assert not client.get_system_shared_memory_status().regions
    finally:
        shared_memory.destroy_shared_memory_region(region)


def refused(client: InferenceServerClient, name: str) -> None:
    wrong = InferInput("wrong", [1, 3], "FP32")
    wrong.set_data_from_numpy(BATCH)
    for call, status in (
        (lambda: client.infer("nothing", [input_of(client, name)]), "NOT_FOUND"),
        (lambda: client.infer(name, [wrong]), "INVALID_ARGUMENT"),
        (lambda: client.load_model("other"), "PERMISSION_DENIED"),
        (lambda: client.register_system_shared_memory("x", "../etc/passwd", 10), "INVALID_ARGUMENT"),
    ):
        found = "no error"
        try:
            call()
        except InferenceServerException as error:
            found = f"{error.status()}: {error}"
        assert status in found, (status, found)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
