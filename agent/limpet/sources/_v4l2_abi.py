"""The kernel's binary interface to cameras, as in `linux/videodev2.h`: constants, structures, requests."""

from __future__ import annotations

import ctypes
from typing import Any

CAPTURE, MMAP = 1, 1
CAN_CAPTURE, CAN_STREAM, CAN_CAPTURE_PLANES = 0x1, 0x04000000, 0x1000
FLAG_ERROR, FLAG_CLOCK, FLAG_MONOTONIC = 0x40, 0xE000, 0x2000
NEXT_CONTROL = 0x80000000
DISABLED, READ_ONLY = 0x1, 0x4
INTEGER, BOOLEAN, MENU, INTEGER_MENU = 1, 2, 3, 9
KNOWN_CONTROLS = {INTEGER, BOOLEAN, MENU, INTEGER_MENU}
DISCRETE = 1


class Capability(ctypes.Structure):
    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("device_caps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class FormatEntry(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 4),
    )


class _Pixels(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in (
            "width", "height", "pixelformat", "field", "bytesperline", "sizeimage", "colorspace", "priv", "flags",
            "ycbcr_enc", "quantization", "xfer_func",
        )
    )  # fmt: skip


class _FormatUnion(ctypes.Union):
    _fields_ = (("pix", _Pixels), ("raw", ctypes.c_uint8 * 200), ("pointer", ctypes.c_void_p))


class Format(ctypes.Structure):
    _fields_ = (("type", ctypes.c_uint32), ("fmt", _FormatUnion))


class _Fraction(ctypes.Structure):
    _fields_ = (("numerator", ctypes.c_uint32), ("denominator", ctypes.c_uint32))


class Parameters(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("capability", ctypes.c_uint32),
        ("mode", ctypes.c_uint32),
        ("interval", _Fraction),
        ("rest", ctypes.c_uint8 * 184),
    )


class Request(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class _Place(ctypes.Union):
    _fields_ = (("offset", ctypes.c_uint32), ("userptr", ctypes.c_ulong))


class Buffer(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("bytesused", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("field", ctypes.c_uint32),
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("timecode", ctypes.c_uint32 * 4),
        ("sequence", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("m", _Place),
        ("length", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("request_fd", ctypes.c_int32),
    )


class FrameSize(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint32),
        ("pixelformat", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("sizes", ctypes.c_uint32 * 6),
        ("reserved", ctypes.c_uint32 * 2),
    )


class Control(ctypes.Structure):
    _fields_ = (("id", ctypes.c_uint32), ("value", ctypes.c_int32))


class ControlQuery(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("name", ctypes.c_char * 32),
        ("minimum", ctypes.c_int32),
        ("maximum", ctypes.c_int32),
        ("step", ctypes.c_int32),
        ("default_value", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 2),
    )


class MenuQuery(ctypes.Structure):
    _pack_ = 1
    _fields_ = (
        ("id", ctypes.c_uint32),
        ("index", ctypes.c_uint32),
        ("name", ctypes.c_char * 32),
        ("reserved", ctypes.c_uint32),
    )


def _request(direction: int, number: int, structure: type[Any]) -> int:
    return direction << 30 | ctypes.sizeof(structure) << 16 | ord("V") << 8 | number


_READ, _WRITE, _BOTH = 2, 1, 3
QUERYCAP = _request(_READ, 0, Capability)
ENUM_FMT = _request(_BOTH, 2, FormatEntry)
G_FMT = _request(_BOTH, 4, Format)
S_FMT = _request(_BOTH, 5, Format)
REQBUFS = _request(_BOTH, 8, Request)
QUERYBUF = _request(_BOTH, 9, Buffer)
QBUF = _request(_BOTH, 15, Buffer)
DQBUF = _request(_BOTH, 17, Buffer)
STREAMON = _request(_WRITE, 18, ctypes.c_int)
STREAMOFF = _request(_WRITE, 19, ctypes.c_int)
S_PARM = _request(_BOTH, 22, Parameters)
S_CTRL = _request(_BOTH, 28, Control)
QUERYCTRL = _request(_BOTH, 36, ControlQuery)
QUERYMENU = _request(_BOTH, 37, MenuQuery)
ENUM_FRAMESIZES = _request(_BOTH, 74, FrameSize)
