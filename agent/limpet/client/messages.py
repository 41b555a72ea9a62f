"""What the daemon answers, beside the messages that it also sends over MQTT."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from limpet.contracts.messages import DeviceHealth, PipelineHealth

Health: TypeAlias = DeviceHealth | PipelineHealth


class Model(msgspec.Struct):
    """A model that the daemon can run for clients. ``state`` is ``READY``, or ``reason`` says why it is not."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


class TensorFacts(msgspec.Struct):
    """An input or an output. ``datatype``: the Open Inference Protocol's, such as ``FP32``. -1: any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelFacts(msgspec.Struct):
    """What a model takes and returns. ``platform`` is its runtime."""

    name: str
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]
    versions: list[str] = []
    platform: str = ""
