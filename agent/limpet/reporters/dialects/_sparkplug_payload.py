"""The Sparkplug B payload: its protobuf messages, as far as Limpet writes and reads them.

Field numbers and data types are those of the Sparkplug 3.0 specification, section 6. The messages are described
here at run time, in their own pool so that another description in the same process does no harm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.reporters.dialects._fields import Kind, Value

REBIRTH = "Node Control/Rebirth"

INT64, DOUBLE, BOOLEAN, STRING = 4, 10, 11, 12
TYPES: dict[Kind, int] = {"number": DOUBLE, "flag": BOOLEAN, "text": STRING}
_VALUES = {INT64: "long_value", DOUBLE: "double_value", BOOLEAN: "boolean_value", STRING: "string_value"}

_Field = descriptor_pb2.FieldDescriptorProto
_MESSAGES: dict[str, list[tuple[int, str, Any]]] = {
    "Payload": [(1, "timestamp", _Field.TYPE_UINT64), (2, "metrics", "Metric"), (3, "seq", _Field.TYPE_UINT64)],
    "Metric": [
        (1, "name", _Field.TYPE_STRING),
        (2, "alias", _Field.TYPE_UINT64),
        (3, "timestamp", _Field.TYPE_UINT64),
        (4, "datatype", _Field.TYPE_UINT32),
        (5, "is_historical", _Field.TYPE_BOOL),
        (7, "is_null", _Field.TYPE_BOOL),
        (9, "properties", "PropertySet"),
        (11, "long_value", _Field.TYPE_UINT64),
        (13, "double_value", _Field.TYPE_DOUBLE),
        (14, "boolean_value", _Field.TYPE_BOOL),
        (15, "string_value", _Field.TYPE_STRING),
    ],
    "PropertySet": [(1, "keys", _Field.TYPE_STRING), (2, "values", "PropertyValue")],
    "PropertyValue": [(1, "type", _Field.TYPE_UINT32), (8, "string_value", _Field.TYPE_STRING)],
}
_REPEATED = {"metrics", "keys", "values"}


def _payload_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="limpet/sparkplug.proto", package="limpet", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            label = _Field.LABEL_REPEATED if field in _REPEATED else _Field.LABEL_OPTIONAL
            if isinstance(kind, str):
                message.field.add(
                    name=field, number=number, label=label, type=_Field.TYPE_MESSAGE, type_name=f".limpet.{kind}"
                )
            else:
                message.field.add(name=field, number=number, label=label, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("limpet.Payload"))


Payload = _payload_class()


class Metric(NamedTuple):
    """One value of one metric at a time, in milliseconds since 1970. In a birth it has name, type and unit."""

    value: Value
    type: int
    time: int
    alias: int | None = None
    name: str = ""
    unit: str = ""
    historical: bool = False


def encode(metrics: Iterable[Metric], time: int, seq: int | None = None) -> bytes:
    """Return a payload that is sent at ``time``; a death has no ``seq``."""
    payload = Payload(timestamp=time)
    if seq is not None:
        payload.seq = seq
    for metric in metrics:
        _write(payload.metrics.add(), metric)
    data: bytes = payload.SerializeToString()
    return data


def _write(target: Any, metric: Metric) -> None:
    target.timestamp = metric.time
    if metric.alias is not None:
        target.alias = metric.alias
    if metric.name:
        target.name = metric.name
        target.datatype = metric.type
    if metric.unit:
        target.properties.keys.append("engUnit")
        target.properties.values.add(type=STRING, string_value=metric.unit)
    if metric.historical:
        target.is_historical = True
    if metric.value is None:
        target.is_null = True
    else:
        setattr(target, _VALUES[metric.type], metric.value)


def wants_rebirth(payload: bytes) -> bool:
    """Whether a command to the node, which anyone may have sent, asks for a birth."""
    try:
        command = Payload.FromString(payload)
    except DecodeError:
        return False
    return any(metric.name == REBIRTH and metric.boolean_value for metric in command.metrics)
