"""Long lists of numbers in JSON, as bytes of a tensor. A list of objects takes three times as long.

Lists that are long are cut out of the JSON before it is decoded. A list of whole numbers is then read by numpy,
which is imported for it. What that does not read, or not exactly as JSON has it, is decoded as all else.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

LONG = 1 << 14
"""Bytes of a list that is cut out."""
_PART = 1 << 18
"""Bytes of a list that are read at once, so that what is made of them stays in the processor's cache."""
_BEGIN = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*\[')
_WHOLE = {"INT8": "i1", "UINT8": "u1", "INT16": "<i2", "UINT16": "<u2", "INT32": "<i4", "UINT32": "<u4"}
"""Datatypes whose numbers fit into 64 bits with room to spare, so that one that does not fit is seen."""


def cut(body: bytes | bytearray) -> tuple[bytes | bytearray, dict[str, memoryview]]:
    """Return JSON with each long list under ``data`` replaced by a string, and what is in the lists by these.

    Lists with texts or lists in them stay where they are.
    """
    found: dict[str, memoryview] = {}
    if len(body) < LONG:
        return body, found
    view = memoryview(body)
    kept: list[bytes | memoryview] = []
    at, key = 0, -1
    while (key := body.find(b'"data"', key + 1)) >= 0:
        match = _BEGIN.match(body, key)
        if match is None or (end := body.find(b"]", match.end())) < match.end() + LONG:
            continue
        if body.find(b"[", match.end(), end) < 0 and body.find(b'"', match.end(), end) < 0:
            name = str(len(found))
            found[name] = view[match.end() : end]
            kept += [view[at : match.end() - 1], b'"%b"' % name.encode()]
            at = key = end + 1
    return (b"".join([*kept, view[at:]]), found) if found else (body, found)


def packed(datatype: str, text: memoryview) -> bytes | None:
    """Return whole numbers as the bytes of a tensor. ``None`` if they are none, or not all of the datatype."""
    dtype = _WHOLE.get(datatype)
    if dtype is None:
        return None
    found, at = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of text that it does not read to the end
        while at <= len(text):
            part = bytes(text[at : at + _PART])
            if at + _PART < len(text):
                part = part[: max(part.rfind(b","), 0)]
            values = _packed(dtype, part)
            if values is None:
                return None
            found.append(values)
            at += len(part) + 1
    return b"".join(found)


def _packed(dtype: str, text: bytes) -> bytes | None:
    import numpy as np  # only clients that send large tensors in JSON need it

    try:
        values = np.fromstring(text, np.int64, sep=",")
    except ValueError:
        return None
    limits = np.iinfo(dtype)
    if not len(values) or values.min() < limits.min or values.max() > limits.max:
        return None
    found = values.astype(dtype)
    return found.tobytes() if _is_all(found, np.frombuffer(text, np.uint8)) else None


def _is_all(values: NDArray[Any], text: NDArray[Any]) -> bool:
    """Whether the values are all of the text: nothing else is in it, and no leading zero."""
    import numpy as np

    count = np.count_nonzero
    minus = text == ord("-")
    commas, signs = count(text == ord(",")), count(minus)
    if commas != len(values) - 1 or signs != count(values < 0):
        return False
    digits, power = len(values), 10
    while power <= np.iinfo(values.dtype).max:
        digits += int(count(values >= power)) + (int(count(values <= -power)) if signs else 0)
        power *= 10
    spaces = len(text) - digits - commas - signs
    for space in b" \t\r\n":
        spaces -= int(count(text == space)) if spaces else 0
    return not spaces and not count(minus[:-1] & (text[1:] < ord("0")))  # numpy reads "- 1"
