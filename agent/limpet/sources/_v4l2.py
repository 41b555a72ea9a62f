"""Cameras of the kernel: Video4Linux 2, by its system calls.

FFmpeg's own reader of such devices waits without a limit if a camera sends nothing, and hides which frames a
driver has lost. This module waits with a limit, and hands out the driver's memory without a copy. A buffer goes
back to the driver when nothing refers to it any more.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import re
import select
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from limpet.sources import _v4l2_abi as abi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BUFFERS = 5
"""Frames that the driver's memory holds. One waits, one is read and one or two are in use; the rest are filled."""
MOST_LISTED = 64
"""Formats, sizes and controls of a device that are looked at, at most."""

CODES = {"mjpeg": "MJPG", "yuyv": "YUYV", "nv12": "NV12", "grey": "GREY"}
"""The formats that Limpet reads, each with the four characters of the kernel."""


class Found(msgspec.Struct, frozen=True):
    """What a device offers: sizes by format, as ``[width, height]``, and whether another program reads it."""

    formats: dict[str, list[tuple[int, int]]]
    busy: bool


class Setting(NamedTuple):
    """How a device stores pictures. ``code``: the four characters of the kernel. ``stride``: bytes in a row."""

    code: str
    width: int
    height: int
    stride: int


class Shot(NamedTuple):
    """A frame in the driver's memory, uint8 ``(n,)``.

    ``sequence``: the driver's count. ``taken_ns``: when it was taken, on the monotonic clock; 0 if the driver does
    not say. ``damaged``: the driver says so.
    """

    data: NDArray[np.uint8]
    sequence: int
    taken_ns: int
    damaged: bool


class Control(msgspec.Struct, frozen=True):
    """A control of a camera, by the name that ``v4l2-ctl`` gives it. ``choices``: the names of a menu's values."""

    id: int
    name: str
    lowest: int
    highest: int
    step: int
    choices: dict[str, int]
    settable: bool = True

    def number(self, value: int | str) -> int:
        """Return what the driver takes. ``ValueError`` says which values there are."""
        if isinstance(value, str) and value in self.choices:
            return self.choices[value]
        allowed = [f'"{name}"' for name in self.choices]
        if isinstance(value, str):
            raise ValueError(f'{self.name} has no value "{value}"; use {", ".join(allowed) or self._range}')
        number = int(value)
        if self.choices and number not in self.choices.values():
            raise ValueError(f"{self.name} has no value {number}; use {', '.join(allowed)}")
        if not self.lowest <= number <= self.highest or (number - self.lowest) % max(1, self.step):
            raise ValueError(f"{self.name} = {number} is not possible; use {self._range}")
        return number

    @property
    def _range(self) -> str:
        step = f" in steps of {self.step}" if self.step > 1 else ""
        return f"{self.lowest} to {self.highest}{step}"


def _name(text: bytes) -> str:
    """Return the name of a control as ``v4l2-ctl`` writes it."""
    return re.sub(r"[^a-z0-9]+", "_", text.decode("ascii", "replace").lower()).strip("_")


class Camera:
    """An open device. ``OSError`` from each call as the kernel has it."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._memory: list[mmap.mmap] = []
        self._lock = threading.RLock()
        self._streams = False
        self._closed = False
        try:
            self._capability = abi.Capability()
            self._call(abi.QUERYCAP, self._capability)
        except OSError:
            os.close(self._fd)
            raise

    def _call(self, request: int, argument: Any) -> None:
        fcntl.ioctl(self._fd, request, argument)

    @property
    def name(self) -> str:
        """The camera's own name. It may hold any character."""
        card: bytes = self._capability.card
        return card.decode("utf-8", "replace")

    @property
    def captures(self) -> bool:
        """Whether it gives pictures in the way that this module reads."""
        caps = self._caps
        return bool(caps & abi.CAN_CAPTURE and caps & abi.CAN_STREAM)

    @property
    def multi_planar(self) -> bool:
        """Whether it gives pictures in several planes only, which this module does not read."""
        return bool(self._caps & abi.CAN_CAPTURE_PLANES and not self._caps & abi.CAN_CAPTURE)

    @property
    def _caps(self) -> int:
        has_own = self._capability.capabilities & 0x80000000
        return int(self._capability.device_caps if has_own else self._capability.capabilities)

    def codes(self) -> list[str]:
        """Return the pixel formats that it has, by the kernel's four characters."""
        found = []
        for index in range(MOST_LISTED):
            entry = abi.FormatEntry(index=index, type=abi.CAPTURE)
            if not self._try(abi.ENUM_FMT, entry):
                break
            found.append(_code(entry.pixelformat))
        return found

    def sizes(self, code: str) -> list[tuple[int, int]]:
        """Return the sizes that it has with a format; empty if it has any, or does not say."""
        found = []
        for index in range(MOST_LISTED):
            entry = abi.FrameSize(index=index, pixelformat=_number(code))
            if not self._try(abi.ENUM_FRAMESIZES, entry) or entry.type != abi.DISCRETE:
                break
            found.append((entry.sizes[0], entry.sizes[1]))
        return found

    def setting(self) -> Setting:
        """Return what it is set to."""
        wanted = abi.Format(type=abi.CAPTURE)
        self._call(abi.G_FMT, wanted)
        return _setting(wanted)

    def set(self, code: str, width: int, height: int) -> Setting:
        """Set the format. The driver may choose another one; return what it chose."""
        wanted = abi.Format(type=abi.CAPTURE)
        wanted.fmt.pix.width, wanted.fmt.pix.height = width, height
        wanted.fmt.pix.pixelformat = _number(code)
        self._call(abi.S_FMT, wanted)
        return _setting(wanted)

    def set_rate(self, rate: float) -> float | None:
        """Set frames a second. Return what the driver chose, ``None`` if it has no such setting."""
        wanted = abi.Parameters(type=abi.CAPTURE)
        wanted.interval.numerator, wanted.interval.denominator = 1000, round(rate * 1000)
        if not self._try(abi.S_PARM, wanted) or not wanted.interval.numerator:
            return None
        return float(wanted.interval.denominator / wanted.interval.numerator)

    def controls(self) -> dict[str, Control]:
        """Return its controls by name."""
        found: dict[str, Control] = {}
        query = abi.ControlQuery(id=abi.NEXT_CONTROL)
        for _ in range(4 * MOST_LISTED):
            if not self._try(abi.QUERYCTRL, query):
                break
            if query.type in abi.KNOWN_CONTROLS and not query.flags & abi.DISABLED:
                name = _name(query.name)
                menu = self._menu(query) if query.type == abi.MENU else {}
                settable = not query.flags & abi.READ_ONLY
                found[name] = Control(
                    query.id, name, query.minimum, query.maximum, query.step, menu, settable=settable
                )
            query = abi.ControlQuery(id=query.id | abi.NEXT_CONTROL)
        return found

    def _menu(self, query: abi.ControlQuery) -> dict[str, int]:
        choices = {}
        for index in range(max(0, query.minimum), min(query.maximum, MOST_LISTED) + 1):
            entry = abi.MenuQuery(id=query.id, index=index)
            if self._try(abi.QUERYMENU, entry):
                choices[_name(entry.name)] = index
        return choices

    def set_control(self, control: Control, number: int) -> None:
        """Set a control."""
        self._call(abi.S_CTRL, abi.Control(id=control.id, value=number))

    def _try(self, request: int, argument: Any) -> bool:
        """Make a call that fails with EINVAL or ENOTTY where there is nothing. Return whether there is."""
        try:
            self._call(request, argument)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOTTY, errno.ENODATA}:
                return False
            raise
        return True

    def busy(self) -> bool:
        """Whether another program takes its pictures. It must not stream."""
        try:
            self._call(abi.REQBUFS, abi.Request(count=1, type=abi.CAPTURE, memory=abi.MMAP))
            self._call(abi.REQBUFS, abi.Request(count=0, type=abi.CAPTURE, memory=abi.MMAP))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return True
            raise
        return False

    def start(self) -> None:
        """Have the driver fill its buffers."""
        request = abi.Request(count=BUFFERS, type=abi.CAPTURE, memory=abi.MMAP)
        self._call(abi.REQBUFS, request)
        for index in range(request.count):
            buffer = abi.Buffer(index=index, type=abi.CAPTURE, memory=abi.MMAP)
            self._call(abi.QUERYBUF, buffer)
            self._memory.append(
                mmap.mmap(self._fd, buffer.length, mmap.MAP_SHARED, mmap.PROT_READ, offset=buffer.m.offset)
            )
            self._call(abi.QBUF, buffer)
        self._streams = True
        self._call(abi.STREAMON, ctypes.c_int(abi.CAPTURE))

    def shots(self, seconds: float) -> Iterator[Shot]:
        """Return the frames that are there: possibly none. Maximum time to wait: ``seconds``."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return
        while (shot := self._shot()) is not None:
            yield shot
            del shot

    def _shot(self) -> Shot | None:
        buffer = abi.Buffer(type=abi.CAPTURE, memory=abi.MMAP)
        try:
            self._call(abi.DQBUF, buffer)
        except BlockingIOError:
            return None
        memory = self._memory[buffer.index]
        data = np.frombuffer(memory, np.uint8, min(buffer.bytesused, len(memory)))
        data.flags.writeable = False
        weakref.finalize(data, self._give_back, buffer.index).atexit = False
        monotonic = buffer.flags & abi.FLAG_CLOCK == abi.FLAG_MONOTONIC
        taken = buffer.seconds * 1_000_000_000 + buffer.microseconds * 1000 if monotonic else 0
        return Shot(data, buffer.sequence, taken, bool(buffer.flags & abi.FLAG_ERROR))

    def _give_back(self, index: int) -> None:
        """Let the driver fill a buffer again. Whichever thread was the last to refer to it calls this."""
        with self._lock, suppress(OSError):
            if not self._closed:
                self._call(abi.QBUF, abi.Buffer(index=index, type=abi.CAPTURE, memory=abi.MMAP))

    def close(self) -> None:
        """Stop, and let others use the device. Frames that are out stay as they are."""
        with self._lock:
            self._closed = True
            if self._streams:
                with suppress(OSError):
                    self._call(abi.STREAMOFF, ctypes.c_int(abi.CAPTURE))
                with suppress(OSError):
                    self._call(abi.REQBUFS, abi.Request(count=0, type=abi.CAPTURE, memory=abi.MMAP))
            self._memory.clear()
            os.close(self._fd)


def look(path: str) -> Found:
    """Return what a device offers. ``OSError``: it cannot be opened, or is no camera."""
    camera = Camera(path)
    try:
        if not camera.captures:
            raise OSError(errno.ENOTTY, "gives no pictures that Limpet can read")
        codes = camera.codes()
        formats = {kind: camera.sizes(code) for kind, code in CODES.items() if code in codes}
        return Found(formats, camera.busy())
    finally:
        camera.close()


def _setting(found: abi.Format) -> Setting:
    pixels = found.fmt.pix
    return Setting(_code(pixels.pixelformat), pixels.width, pixels.height, pixels.bytesperline)


def _code(number: int) -> str:
    return "".join(chr(number >> shift & 0x7F) for shift in (0, 8, 16, 24)).strip()


def _number(code: str) -> int:
    return sum(ord(each) << 8 * place for place, each in enumerate(code.ljust(4)))
