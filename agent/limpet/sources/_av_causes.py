"""Why a stream is away: what the errors and the log of FFmpeg mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import av.error

_FFMPEG: Any = av.error.FFmpegError


class Cause(NamedTuple):
    """Why a stream is away: a word to count it by, and a sentence."""

    word: str
    sentence: str


class _Sign(NamedTuple):
    """By what a cause is recognised: names of errors, or words in the log of FFmpeg."""

    errors: tuple[str, ...]
    words: tuple[str, ...]
    cause: Cause


_SIGNS = (
    _Sign(
        ("HTTPUnauthorizedError",),
        ("401 (unauthorized",),
        Cause("login", "the camera refuses the login: check user and password_file"),
    ),
    _Sign(
        ("HTTPForbiddenError",),
        (),
        Cause("login", "the camera forbids this user to see the stream: check user and the camera's settings"),
    ),
    _Sign(("HTTPNotFoundError",), (), Cause("not_found", "the camera has no such stream: check the path in url")),
    _Sign(
        (),
        ("certificate", "hostname"),
        Cause("tls", "the camera's certificate is not trusted: name it, or who issued it, as ca_file"),
    ),
    _Sign(
        (),
        ("[tls]", "ssl", "handshake"),
        Cause("tls", "no encrypted connection to the camera: check the port, and whether it speaks TLS"),
    ),
    _Sign(
        ("ExitError", "TimeoutError"),
        ("timed out",),
        Cause("timeout", "no picture came for {timeout:g} s: is the camera overloaded, or the network down?"),
    ),
    _Sign(
        ("PermissionError",),
        (),
        Cause(
            "unreachable",
            "the connection is not permitted: the camera refers to another port than url does, or a firewall "
            "refuses it",
        ),
    ),
    _Sign(
        ("ConnectionRefusedError",),
        (),
        Cause("unreachable", "the connection is refused: is the camera's server running at this port?"),
    ),
    _Sign(
        (),
        ("resolve",),
        Cause("unreachable", "the name of the camera is not known: check url and the network's name server"),
    ),
    _Sign(
        ("EOFError", "ConnectionResetError", "BrokenPipeError", "ConnectionAbortedError"),
        ("ends prematurely",),
        Cause("ended", "the camera ended the stream"),
    ),
    _Sign(
        ("DecoderNotFoundError", "DemuxerNotFoundError", "NoVideoError"),
        (),
        Cause("codec", "FFmpeg cannot decode what the camera sends: choose H.264 or MJPEG in the camera"),
    ),
    _Sign(
        ("InvalidDataError", "ArgumentError"),
        (),
        Cause("codec", "what comes is no video: check url, and choose H.264 or MJPEG in the camera"),
    ),
)
"""In the order in which they are looked for: a word in the log says more than the error."""
_REFUSALS = ("401 (unauthorized", "certificate")


def diagnose(error: BaseException, said: str, waited: float, timeout: float) -> Cause:
    """Return what an error of FFmpeg means.

    ``said``: what FFmpeg wrote to its log before. ``waited``: seconds without a packet. FFmpeg gives up after
    ``timeout``, and then raises whatever the code that waited makes of it.
    """
    if isinstance(error, WrongSizeError):
        return Cause("wrong_format", str(error))
    name, lower = type(error).__name__, said.lower()
    if waited >= timeout and not any(word in lower for word in _REFUSALS):
        name, lower = "TimeoutError", ""
    for sign in _SIGNS:
        if name in sign.errors or any(word in lower for word in sign.words):
            return Cause(sign.cause.word, sign.cause.sentence.format(timeout=timeout))
    strerror = error.strerror if isinstance(error, (OSError, _FFMPEG)) else None
    return Cause("unreachable", f"the camera cannot be reached: {strerror or name}")


class WrongSizeError(Exception):
    """Pictures have a size that cannot be used. The text says why."""


class NoVideoError(Exception):
    """There is no video in a stream, or none that FFmpeg can decode."""
