"""Devices that a model is verified and measured on: a scheme of URLs is a module."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import numpy as np
from msgspec.structs import replace

from limpet.errors import ModelError, UnreadableError
from limpet.inference import infer_request
from limpet.untrusted import reading
from limpet_convert.errors import ConvertError
from limpet_convert.runners import flat

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import FloatArray
    from limpet.contracts.messages import Inferred


_LONGEST_TEXT = 1000
_UNSHOWN = "\N{REPLACEMENT CHARACTER}"


class DeviceError(ConvertError):
    """A device cannot be reached, or refuses. The text says what to do."""


@dataclass(frozen=True)
class Login:
    """What it takes to log in, besides the URL. All but ``delegate`` are for MQTT."""

    delegate: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True)
class Ran:
    """What a model made of windows on a device: each output ``(n, ...)``, and the time of each run there in µs.

    ``answer`` is the device's answer without outputs and times.
    """

    values: list[FloatArray]
    run_us: list[float]
    answer: Inferred


class Device(Protocol):
    """A device that runs models. ``any_model``: whether it runs other models than its own."""

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
    """Join what came in several answers. ``DeviceError`` if one of them does not fit itself or the others."""
    try:
        with reading("the device's answer"):
            return _join(answers)
    except (ModelError, UnreadableError) as error:
        raise DeviceError(shown(str(error))) from error


def _join(answers: list[Inferred]) -> Ran:
    parts = [[infer_request.windows(output) for output in answer.outputs] for answer in answers]
    for answer, outputs in zip(answers, parts, strict=True):
        refuse_times(answer, len(outputs[0]) if outputs else 0)
        if any(len(output) != len(outputs[0]) for output in outputs):
            raise UnreadableError("the outputs of the device's answer differ in their number of windows")
    joined = [np.concatenate(output) for output in zip(*parts, strict=True)]
    values = [np.stack([flat(one) for one in output]) for output in joined]
    answer = printable(replace(answers[0], outputs=[], run_us=[]))
    return Ran(values, [time for answer in answers for time in answer.run_us], answer)


def refuse_times(answer: Inferred, windows: int) -> None:
    """Raise ``UnreadableError`` unless an answer has a time for each of so many windows."""
    times = answer.run_us
    if len(times) != windows or not times or not all(isfinite(time) and time >= 0 for time in times):
        raise UnreadableError(f"the device's answer has no times of {windows} windows")


def shown(text: str) -> str:
    """Return what a device says as text that a terminal can show: no control characters, and not too long."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:_LONGEST_TEXT]
    )


def printable(answer: Inferred) -> Inferred:
    """Return an answer whose texts can be shown: they go to the terminal and into the report."""
    return replace(
        answer,
        model=shown(answer.model),
        sha256=shown(answer.sha256),
        limpet=shown(answer.limpet),
        runtime=shown(answer.runtime),
        delegate=shown(answer.delegate),
    )
