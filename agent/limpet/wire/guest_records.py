"""What the gateway and a process with a model say to each other, on their own socket. Tensors are in memory.

The process with the model begins with ``Serving``, or with ``Refused`` and the end of the socket. The gateway
answers with ``Attach`` and the memory. Then each ``Infer`` is answered by one ``Inferred``, in any order. The
gateway may have been taken over by a client: its offsets are checked, and inputs may change while they are read.
The memory is the gateway's. The process with the model may have been taken over, too.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from limpet.wire.records import DelegateName, ModelVersion, Text

LARGEST = 1 << 20
"""Bytes of a record, in both directions."""
MOST_TENSORS = 64
MOST_DIMENSIONS = 8
MOST_WAITING = 64
"""Requests that may wait for one model. More are answered at once, as busy."""
LARGEST_MEMORY = 1 << 28
"""Bytes of the memory that the two share."""
ALIGN = 64
"""Bytes on which tensors are aligned in the memory."""
REAL = "<f4"
"""How real values of a quantized tensor are stored."""
DType = Annotated[str, Meta(pattern=r"^[<|][biufS][0-9]{1,2}\Z")]
"""As numpy writes it, such as ``<f4``, ``|i1`` or ``|b1``."""
Dimension = Annotated[int, Meta(ge=-1, le=(1 << 31) - 1)]
Size = Annotated[int, Meta(ge=0, le=LARGEST_MEMORY)]


class TensorFacts(msgspec.Struct):
    """An input or an output as the model has it. -1 in ``shape``: any size.

    A quantized tensor has ``scale`` and ``zero_point``: real = scale * (quantized - zero_point). It is taken and
    given as it is, or as real values in ``REAL``.
    """

    name: Text
    dtype: DType
    shape: Annotated[list[Dimension], Meta(max_length=MOST_DIMENSIONS)]
    scale: float = 0.0
    zero_point: int = 0


class Serving(msgspec.Struct, tag=True):
    """The model is ready. ``batch``: how many windows one request may have in its first dimension."""

    model: Text
    version: ModelVersion
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    runtime: Text
    delegate: DelegateName
    inputs: Annotated[list[TensorFacts], Meta(max_length=MOST_TENSORS)]
    outputs: Annotated[list[TensorFacts], Meta(max_length=MOST_TENSORS)]
    batch: Annotated[int, Meta(ge=1, le=1 << 16)] = 1


class Refused(msgspec.Struct, tag=True):
    """The model cannot be used through this socket, for this reason. ``busy``: another try may help."""

    problem: Text
    busy: bool = False


class Attach(msgspec.Struct, tag=True):
    """The memory for tensors comes along, a sealed file whose size is fixed. It may be sent again, for more."""

    size: Size


class Placed(msgspec.Struct, array_like=True):
    """A tensor in the memory, row by row and little-endian."""

    dtype: DType
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]], Meta(max_length=MOST_DIMENSIONS)]
    offset: Size


class Infer(msgspec.Struct, tag=True):
    """Run the model on inputs, in its order. Put the outputs in ``size`` bytes at ``offset``.

    ``real``: quantized outputs are wanted as real values.
    """

    number: int
    inputs: Annotated[list[Placed], Meta(max_length=MOST_TENSORS)]
    offset: Size
    size: Size
    real: bool = False


class Inferred(msgspec.Struct, tag=True):
    """The outputs, in the model's order; or, if ``problem`` is not empty, why there are none.

    ``busy``: another try may help. ``queue_us`` and ``run_us``: how long it waited and ran, in µs.
    ``batched``: how many requests ran at once, with this one.
    """

    number: int
    outputs: Annotated[list[Placed], Meta(max_length=MOST_TENSORS)] = []
    problem: Text = ""
    busy: bool = False
    queue_us: float = 0.0
    run_us: float = 0.0
    batched: int = 1


ToGuest: TypeAlias = Attach | Infer
FromGuest: TypeAlias = Serving | Refused | Inferred

# --- between the supervisor and the process of a guest: a model that no pipeline runs


class Connect(msgspec.Struct, tag=True):
    """Serve the model on this socket, which comes along."""


class Loaded(msgspec.Struct, tag=True):
    """The model is loaded, on this delegate. ``sandbox``: what the process has given up."""

    delegate: DelegateName
    sandbox: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=32)] = []


class NotLoaded(msgspec.Struct, tag=True):
    """The model cannot be loaded, for this reason. The process ends."""

    problem: Text


FromGuestProcess: TypeAlias = Loaded | NotLoaded
