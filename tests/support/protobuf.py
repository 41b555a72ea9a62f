"""Writes protobuf messages for tests: models of TensorFlow and ONNX that no library of theirs would write."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Value: TypeAlias = "int | str | bytes"


def message(*fields: tuple[int, Value]) -> bytes:
    """Return a message of fields, each a number and a value."""
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def tf_node(name: str, op: str, *inputs: str, calls: str = "") -> bytes:
    """Return a ``NodeDef``; ``calls`` names a function that it runs."""
    function = message((10, message((1, calls))))
    attribute = [(5, message((1, "f"), (2, function)))] if calls else []
    return message((1, name), (2, op), *((3, one) for one in inputs), *attribute)


def saved_model(*nodes: bytes, functions: dict[str, list[bytes]] | None = None, restore: str = "") -> bytes:
    """Return a ``SavedModel`` of these nodes and functions. ``restore`` names the node that restores variables."""
    library = [
        (1, message((1, message((1, name))), *((3, node) for node in body)))
        for name, body in (functions or {}).items()
    ]
    graph = message(*((1, node) for node in nodes), (2, message(*library)))
    saver = message((1, "saver_filename:0"), (3, restore))
    return message((1, 1), (2, message((2, graph), (3, saver))))


def onnx_value(name: str, *shape: int, dtype: int = 1) -> bytes:
    """Return a ``ValueInfoProto``."""
    sizes = message(*((1, message((1, size))) for size in shape))
    return message((1, name), (2, message((1, message((1, dtype), (2, sizes))))))


def onnx(
    *, location: str = "", op: str = "Relu", domain: str = "", shape: Sequence[int] = (1, 2), dtype: int = 1
) -> bytes:
    """Return an ONNX model of one op. With ``location``, its constant lies in another file."""
    external = [(13, message((1, "location"), (2, location))), (14, 1)] if location else [(9, bytes(8))]
    constant = message((1, 2), (2, 1), (8, "weights"), *external)
    node = message((1, "x"), (2, "y"), (3, "node"), (4, op), (7, domain))
    values = [(11, onnx_value("x", *shape, dtype=dtype)), (12, onnx_value("y", *shape, dtype=dtype))]
    graph = message((1, node), (2, "g"), (5, constant), *values)
    return message((1, 8), (2, "test"), (7, graph), (8, message((1, ""), (2, 17))))
