"""Requests and answers of inference, for REST and gRPC. Tensors are little-endian bytes, row by row."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from limpet.gateway.channels.model_channel import PATIENCE

Bytes: TypeAlias = bytes | bytearray | memoryview


class Region(NamedTuple):
    """A part of shared memory that a client registered, in bytes."""

    name: str
    offset: int
    size: int


class Input(NamedTuple):
    """An input of a request. ``content`` has its numbers, or says where they are."""

    name: str
    datatype: str
    shape: list[int]
    content: Bytes | Region


class Wanted(NamedTuple):
    """An output that a client wants, and the shared memory that it goes to, if any."""

    name: str
    region: Region | None = None


class InferRequest(NamedTuple):
    """One request. ``version``: empty for the one that runs. ``outputs``: empty for all.

    ``real``: quantized outputs are wanted as ``FP32``. ``uid``: of the client, if the kernel says so; regions
    are those of this user. ``patience``: seconds to wait for the model.
    """

    model: str
    version: str
    id: str
    inputs: list[Input]
    outputs: list[Wanted]
    real: bool = False
    uid: int | None = None
    patience: float = PATIENCE


class Output(NamedTuple):
    """An output of a model. ``content``: ``None`` if it went to ``region``, of which it took ``region.size``."""

    name: str
    datatype: str
    shape: list[int]
    content: bytes | None
    region: Region | None = None


class InferAnswer(NamedTuple):
    """The answer to one request. ``outputs``: as wanted, or in the model's order."""

    model: str
    version: str
    id: str
    outputs: list[Output]
