"""Devices that a model is verified and measured on: a scheme of URLs is a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import numpy as np
from msgspec.structs import replace

from limpet.errors import ModelError
from limpet.inference import given
from limpet_convert.errors import ConvertError
from limpet_convert.runners import flat

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.messages import Inferred
    from limpet.types import FloatArray


class DeviceError(ConvertError):
    """A device cannot be reached, or does not do what is asked; the text says what to do."""


@dataclass(frozen=True)
class Login:
    """What is needed to be let in, beside what the URL says. Those but ``delegate`` are for MQTT."""

    delegate: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True)
class Ran:
    """What a model made of windows on a device: each output ``(n, ...)``, and the time of each run there in µs.

    ``told`` is what the device says of itself, without outputs and times.
    """

    values: list[FloatArray]
    run_us: list[float]
    told: Inferred


class Device(Protocol):
    """A device that runs models. ``any_model``: not just the one that it has."""

    name: str
    any_model: bool

    def run(self, model: Path, windows: FloatArray) -> Ran:
        """Run a ``.tflite`` file on windows ``(n, *shape of one)``. ``DeviceError``."""


def open_device(url: str, login: Login) -> Device:
    """Return the device that a URL names; nothing is connected yet. ``DeviceError`` where it names none."""
    scheme = urlsplit(url).scheme
    if scheme == "ssh":
        from limpet_convert.devices import ssh

        return ssh.Ssh(url, login)
    if scheme in {"mqtt", "mqtts"}:
        from limpet_convert.devices import mqtt

        return mqtt.Pipeline(url, login)
    raise DeviceError(f"{url}: a device is ssh://[user@]host or mqtt[s]://[user@]broker/[prefix/]device/pipeline")


def read_model(path: Path) -> bytes:
    """Return the bytes of a model that a device can run. ``DeviceError`` where it is of another format."""
    if path.suffix != ".tflite":
        raise DeviceError(f"{path}: only .tflite models are run on a device")
    return path.read_bytes()


def gather(answers: list[Inferred]) -> Ran:
    """Put together what came in several answers. ``DeviceError`` where they do not fit together."""
    try:
        parts = [[given.windows(output) for output in answer.outputs] for answer in answers]
        joined = [np.concatenate(output) for output in zip(*parts, strict=True)]
    except (ModelError, ValueError) as error:
        raise DeviceError(f"what the device answered makes no sense: {error}") from error
    values = [np.stack([flat(one) for one in output]) for output in joined]
    told = replace(answers[0], outputs=[], run_us=[])
    return Ran(values, [time for answer in answers for time in answer.run_us], told)
