"""``limpet init --anomaly``: listens to a board, and makes a bundle that learns on the device what is normal."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from limpet.commands import _channels, _sensors
from limpet.contracts.fields import TensorInfo, WindowSpec
from limpet.errors import ConfigError, SourceError
from limpet.models import bundle, manifest
from limpet.models.manifest import Manifest, Member
from limpet.runtimes import mahalanobis
from limpet.sha256 import sha256

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from limpet.commands._channels import Found, WindowChoice
    from limpet.runtimes.mahalanobis import Options

NAME = "machine"
"""Name of the model and its pipeline, unless a person gives another one."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MODEL = "model.json"
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s?(s|m|min|h|d)")
_ENOUGH = 1 << 18
"""Bytes that are read at most."""
_BACKLOG = 0.25
"""Seconds in which what the system has buffered may come. That says nothing about the rate."""


class Heard(NamedTuple):
    """What came from a port. ``rate``: rows a second, ``None`` if too few came to see that."""

    baud: int
    found: Found
    rate: float | None


class Starter(NamedTuple):
    """A bundle and what is known of its source. ``framing`` is as the configuration has it."""

    baud: int
    framing: str | dict[str, Any]
    channels: tuple[str, ...]
    file: str
    content: bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    group = parser.add_argument_group("a model that learns what is normal")
    group.add_argument(
        "--anomaly", action="store_true", help="Make a model that learns on this device, and use it."
    )
    group.add_argument(
        "--learn",
        default="1h",
        metavar="TIME",
        help="With --anomaly: how long it learns: 30s, 10m, 1h or 2d, or a number of windows. Default: 1h.",
    )
    group.add_argument(
        "--name",
        default=NAME,
        help=f"With --anomaly: name of the model and its pipeline. Default: {NAME}.",
    )
    group.add_argument(
        "--window",
        type=int,
        metavar="SAMPLES",
        help="With --anomaly: samples of a window. Default: 1 for slow sensors, 1 to 2 s of fast ones.",
    )


def learning_time(text: str) -> dict[str, Any]:
    """Return the keys of a model's file for a duration or a number of windows. ``ConfigError``."""
    if text.isascii() and text.isdecimal() and 0 < int(text) <= 1 << 31:
        return {"windows": int(text)}
    match = _DURATION.fullmatch(text)
    if match is None or not 0 < (seconds := float(match[1]) * _UNITS[match[2]]) <= 1e9:
        raise ConfigError([f"--learn: {text!r} is no time. Use 30s, 10m, 1h or 2d, or a number of windows"])
    return {"seconds": seconds}


def prepare(arguments: argparse.Namespace, port: str, bauds: Sequence[int]) -> Starter:
    """Listen to a port and make a starter.

    ``SourceError`` says what came if that cannot be used, ``ConfigError`` which option is wrong.
    """
    learn = learning_time(arguments.learn)
    if arguments.window is not None and not 1 <= arguments.window <= 1 << 16:
        raise ConfigError([f"--window: {arguments.window} is not between 1 and {1 << 16} samples"])
    if not _NAME.fullmatch(arguments.name):
        raise ConfigError([f"--name: {arguments.name!r}: use up to 64 of a-z, 0-9, ., _ and -"])
    heard = listen(port, bauds, arguments.listen, arguments.channels or ())
    found = heard.found
    if len(found.channels) > _channels.MOST:
        raise ConfigError([f"{port} sends {len(found.channels)} values; a starter takes {_channels.MOST}"])
    choice = _channels.window(heard.rate, len(found.channels), arguments.window)
    rate = "at an unknown rate" if heard.rate is None else f"about {heard.rate:.3g} times a second"
    print(f"{port}: {', '.join(found.channels)} as {found.framing} at {heard.baud} baud, {rate}")
    if found.left_out:
        print(f"left out, as they count or are a clock: {', '.join(found.left_out)}")
    options = mahalanobis.Options(shape=list(choice.shape), **learn)
    print(described(choice, options, heard.rate))
    framing = {"kind": found.framing, "fields": list(found.fields)} if found.fields else found.framing
    content = packed(arguments.name, found.channels, choice, options)
    return Starter(heard.baud, framing, found.channels, f"{arguments.name}-0.limpet", content)


def described(choice: WindowChoice, options: Options, rate: float | None) -> str:
    """Say what the model looks at, and for how long it learns."""
    each = f"the {', '.join(choice.features)} of {choice.size} samples" if choice.features else "each sample"
    takes = choice.size / rate if rate else 0.0
    least = f"{options.least} windows" + (f", which take {options.least * takes:.0f} s" if takes else "")
    if options.seconds is not None and options.seconds > options.least * takes:
        least = f"{options.seconds:g} s" + ("" if takes else f", and from at least {options.least} windows")
    return f"The model looks at {each}. It learns for {least}. Until then results say untrained."


def listen(port: str, bauds: Sequence[int], seconds: float, names: Sequence[str]) -> Heard:
    """Listen at each bit rate until channels are found. ``SourceError`` if there are none."""
    heard: dict[int, bytes] = {}
    for baud in bauds:
        heard[baud], times = _sensors.read(port, baud, seconds, _ENOUGH)
        if found := _channels.find(heard[baud], names):
            return Heard(baud, found, rate_of(heard[baud], times, found))
    raise SourceError(f"{port} {_sensors.seen(heard, names or ('c0',), seconds)}")


def rate_of(data: bytes, times: Sequence[tuple[float, int]], found: Found) -> float | None:
    """Return the rows a second. ``times``: at so many seconds so many bytes were there."""
    usable = [(at, size) for at, size in times if at >= _BACKLOG]
    if len(usable) < 2 or usable[-1][0] - usable[0][0] < _BACKLOG:
        return None
    (begin, before), (end, after) = usable[0], usable[-1]
    rows = found.rows / min(len(data), 4096) * (after - before)
    return rows / (end - begin)


def packed(name: str, channels: Sequence[str], choice: WindowChoice, options: Options) -> bytes:
    """Return the bundle of a starter."""
    model = msgspec.json.format(msgspec.json.encode(options), indent=2) + b"\n"
    outputs = [TensorInfo(name=one.name, shape=list(one.shape), dtype=str(one.dtype)) for one in options.outputs]
    statistics = [{"kind": "statistics", "features": list(choice.features)}] if choice.features else []
    made = Manifest(
        name=name,
        version=0,
        task="anomaly",
        description="Learns on the device what is normal",
        runtime="mahalanobis",
        model=MODEL,
        inputs=[
            TensorInfo(name="window", shape=list(choice.shape), dtype="float32", channels=list(channels)),
        ],
        outputs=outputs,
        window=WindowSpec(size=choice.size),
        transforms=statistics,
        decoder={"kind": "anomaly", "metric": "learning"},
        members={MODEL: _member(model)},
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(bundle.MANIFEST), manifest.dump(made))
        archive.writestr(zipfile.ZipInfo(MODEL), model)
    return buffer.getvalue()


def _member(content: bytes) -> Member:
    digest = sha256(len(content))
    digest.update(content)
    return Member(len(content), digest.hexdigest())
