"""The protobuf messages of the Open Inference Protocol over gRPC, as far as Limpet reads and writes them.

Names, field numbers and types are those of Triton's ``grpc_service.proto`` and ``model_config.proto``. Fields that
are left out have no meaning here; protobuf skips them. The messages are described at run time, in their own pool,
so another description in the same process does no harm.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
_PACKAGE = "inference"
_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}
DATA_TYPES = (
    *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "STRING", "BF16"),
)
"""The numbers of the enumeration ``DataType`` are the places in this list. It crosses the wire as an ``int32``."""

_NAMED = "name=1:string version=2:string"
_MODEL_NAME = "repository_name=1:string model_name=2:string parameters=3:{ModelRepositoryParameter}"
_TIMES = "StatisticDuration"
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live=1:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready=1:bool",
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": "ready=1:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name=1:string version=2:string extensions=3:[string]",
    "ModelMetadataRequest": _NAMED,
    "TensorMetadata": "name=1:string datatype=2:string shape=3:[int64]",
    "ModelMetadataResponse": (
        "name=1:string versions=2:[string] platform=3:string inputs=4:[TensorMetadata] outputs=5:[TensorMetadata]"
    ),
    "InferParameter": (
        "bool_param=1:|bool int64_param=2:|int64 string_param=3:|string double_param=4:|double "
        "uint64_param=5:|uint64"
    ),
    "InferTensorContents": (
        "bool_contents=1:[bool] int_contents=2:[int32] int64_contents=3:[int64] uint_contents=4:[uint32] "
        "uint64_contents=5:[uint64] fp32_contents=6:[float] fp64_contents=7:[double] bytes_contents=8:[bytes]"
    ),
    "InferInputTensor": (
        "name=1:string datatype=2:string shape=3:[int64] parameters=4:{InferParameter} "
        "contents=5:InferTensorContents"
    ),
    "InferRequestedOutputTensor": "name=1:string parameters=2:{InferParameter}",
    "ModelInferRequest": (
        "model_name=1:string model_version=2:string id=3:string parameters=4:{InferParameter} "
        "inputs=5:[InferInputTensor] outputs=6:[InferRequestedOutputTensor] raw_input_contents=7:[bytes]"
    ),
    "InferOutputTensor": (
        "name=1:string datatype=2:string shape=3:[int64] parameters=4:{InferParameter} "
        "contents=5:InferTensorContents"
    ),
    "ModelInferResponse": (
        "model_name=1:string model_version=2:string id=3:string parameters=4:{InferParameter} "
        "outputs=5:[InferOutputTensor] raw_output_contents=6:[bytes]"
    ),
    "ModelStreamInferResponse": "error_message=1:string infer_response=2:ModelInferResponse",
    "ModelConfigRequest": _NAMED,
    "ModelInput": "name=1:string data_type=2:int32 dims=4:[int64]",
    "ModelOutput": "name=1:string data_type=2:int32 dims=3:[int64]",
    "ModelConfig": (
        "name=1:string platform=2:string max_batch_size=4:int32 input=5:[ModelInput] output=6:[ModelOutput] "
        "backend=17:string"
    ),
    "ModelConfigResponse": "config=1:ModelConfig",
    "ModelStatisticsRequest": _NAMED,
    _TIMES: "count=1:uint64 ns=2:uint64",
    "InferStatistics": (
        f"success=1:{_TIMES} fail=2:{_TIMES} queue=3:{_TIMES} compute_input=4:{_TIMES} compute_infer=5:{_TIMES} "
        f"compute_output=6:{_TIMES} cache_hit=7:{_TIMES} cache_miss=8:{_TIMES}"
    ),
    "ModelStatistics": (
        "name=1:string version=2:string last_inference=3:uint64 inference_count=4:uint64 execution_count=5:uint64 "
        "inference_stats=6:InferStatistics"
    ),
    "ModelStatisticsResponse": "model_stats=1:[ModelStatistics]",
    "ModelRepositoryParameter": (
        "bool_param=1:|bool int64_param=2:|int64 string_param=3:|string bytes_param=4:|bytes"
    ),
    "RepositoryIndexRequest": "repository_name=1:string ready=2:bool",
    "ModelIndex": "name=1:string version=2:string state=3:string reason=4:string",
    "RepositoryIndexResponse": "models=1:[ModelIndex]",
    "RepositoryModelLoadRequest": _MODEL_NAME,
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": _MODEL_NAME,
    "RepositoryModelUnloadResponse": "",
    "SystemSharedMemoryStatusRequest": "name=1:string",
    "SystemRegion": "name=1:string key=2:string offset=3:uint64 byte_size=4:uint64",
    "SystemSharedMemoryStatusResponse": "regions=1:{SystemRegion}",
    "SystemSharedMemoryRegisterRequest": "name=1:string key=2:string offset=3:uint64 byte_size=4:uint64",
    "SystemSharedMemoryRegisterResponse": "",
    "SystemSharedMemoryUnregisterRequest": "name=1:string",
    "SystemSharedMemoryUnregisterResponse": "",
    "CudaSharedMemoryStatusRequest": "name=1:string",
    "CudaSharedMemoryStatusResponse": "",
    "CudaSharedMemoryUnregisterRequest": "name=1:string",
    "CudaSharedMemoryUnregisterResponse": "",
}
"""Fields as ``NAME=NUMBER:KIND``. ``[KIND]``: a list. ``{KIND}``: a map. ``|KIND``: one of several."""


def file() -> Any:
    """Return the description of all messages, a ``FileDescriptorProto``."""
    described = descriptor_pb2.FileDescriptorProto(
        name="limpet/open_inference.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = described.message_type.add(name=name)
        for field in fields.split():
            _add(message, *field.replace("=", ":", 1).split(":"))
    return described


def _add(message: Any, name: str, number: str, kind: str) -> None:
    label = _Field.LABEL_REPEATED if kind[0] in "[{" else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=int(number), label=label)
    inner = kind.strip("[]{}|")
    if kind.startswith("{"):
        inner = _add_entry(message, name, inner)
    if inner in _KINDS:
        field.type = _KINDS[inner]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{inner}"
    if kind.startswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0


def _add_entry(message: Any, name: str, kind: str) -> str:
    """Describe the entries of a map. Return the name of their type."""
    entry = message.nested_type.add(name="".join(map(str.capitalize, name.split("_"))) + "Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
    value = entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_MESSAGE)
    value.type_name = f".{_PACKAGE}.{kind}"
    return f"{message.name}.{entry.name}"


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file())
    described = {name: pool.FindMessageTypeByName(f"{_PACKAGE}.{name}") for name in _MESSAGES}
    return {name: message_factory.GetMessageClass(one) for name, one in described.items()}


MESSAGES = _classes()
"""Classes of messages by name."""
