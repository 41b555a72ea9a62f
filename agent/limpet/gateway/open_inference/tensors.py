"""Datatypes of the protocol, and tensors as numbers or bytes. Pure, without numpy."""

from __future__ import annotations

import math
import struct
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from limpet.gateway.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.gateway.open_inference.messages import Bytes

TEXT = "BYTES"


class Form(NamedTuple):
    """How an element is in memory: the letter of ``struct``, bytes, and what numpy calls it."""

    letter: str
    size: int
    dtype: str


FORMS = {
    "BOOL": Form("?", 1, "|b1"),
    "UINT8": Form("B", 1, "|u1"),
    "UINT16": Form("H", 2, "<u2"),
    "UINT32": Form("I", 4, "<u4"),
    "UINT64": Form("Q", 8, "<u8"),
    "INT8": Form("b", 1, "|i1"),
    "INT16": Form("h", 2, "<i2"),
    "INT32": Form("i", 4, "<i4"),
    "INT64": Form("q", 8, "<i8"),
    "FP16": Form("e", 2, "<f2"),
    "FP32": Form("f", 4, "<f4"),
    "FP64": Form("d", 8, "<f8"),
}
"""By datatype. ``BYTES`` and ``BF16`` are not among them: no runtime of Limpet has such tensors."""
DATATYPES = {form.dtype: name for name, form in FORMS.items()}
_FLOATS = {"FP16", "FP32", "FP64"}


def form_of(datatype: str, tensor: str) -> Form:
    """Return the form of a datatype. ``RequestError`` if it is none that a model can have."""
    try:
        return FORMS[datatype]
    except KeyError:
        known = ", ".join(FORMS)
        raise RequestError("invalid", f'"{tensor}" has datatype "{datatype}"; use one of {known}') from None


def pack(datatype: str, values: Sequence[Any], tensor: str) -> bytes:
    """Return numbers, flat or in nested lists, as bytes. ``RequestError`` if they are not of the datatype."""
    form = form_of(datatype, tensor)
    flat = _flat(values, tensor)
    if datatype == "BOOL":
        _refuse_others(flat, tensor)
    try:
        return struct.pack(f"<{len(flat)}{form.letter}", *flat)
    except (struct.error, OverflowError, TypeError, ValueError) as error:
        raise RequestError("invalid", f'"{tensor}" has data that is not {datatype}: {error}') from None


def _flat(values: Sequence[Any], tensor: str) -> Sequence[Any]:
    while values and isinstance(values[0], list):
        if set(map(type, values)) != {list}:
            raise RequestError("invalid", f'"{tensor}" has data with lists and numbers side by side')
        values = list(chain.from_iterable(values))
    return values


def _refuse_others(flat: Sequence[Any], tensor: str) -> None:
    for value in flat:
        if value is not True and value is not False and value not in (0, 1):
            raise RequestError("invalid", f'"{tensor}" has data that is not BOOL: use true and false')


def unpack(datatype: str, content: Bytes, tensor: str) -> list[Any]:
    """Return bytes as numbers. ``RequestError`` if JSON cannot carry them."""
    form = FORMS[datatype]
    values = list(struct.unpack(f"<{len(content) // form.size}{form.letter}", content))
    if datatype in _FLOATS and not all(map(math.isfinite, values)):
        raise RequestError(
            "failed", f'output "{tensor}" has a NaN or an infinity, which JSON cannot carry; ask for binary data'
        )
    return values
