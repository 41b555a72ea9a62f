"""Where a stream is, and what FFmpeg may do to reach it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from limpet.sources import _av_limits
from limpet.sources._av_frame import MOST_PIXELS

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "tcp": 0}
"""What a stream may come by, each with its usual port; 0: there is none."""
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,tcp",
    "rtsps": "rtsp,rtp,tls,tcp",
    "http": "http,tcp",
    "https": "https,tls,tcp",
    "tcp": "tcp",
}
_FORMATS = "rtsp,rtp,mpjpeg,mjpeg,mpegts,h264,hevc,flv,matroska,webm,mov,mp4"
"""No playlist is among them: one could name other servers, or files of this machine."""
_PROBED = 1 << 20
"""Bytes that FFmpeg may read to find out what a stream is."""
_ANALYSED_US = 1_000_000


class Login(NamedTuple):
    """User and password of a stream; empty if it wants none."""

    user: str = ""
    password: str = ""


class Address(msgspec.Struct, frozen=True):
    """Where a stream is, and how to reach it. ``timeout``: seconds for a connection, and for the next bytes."""

    url: str
    timeout: float
    certificates: str = ""
    verify: bool = True

    @property
    def scheme(self) -> str:
        """What the stream comes by."""
        return urlsplit(self.url).scheme.lower()

    def with_login(self, login: Login) -> str:
        """Return the URL as FFmpeg takes it."""
        if not login.user:
            return self.url
        parts = urlsplit(self.url)
        who = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}"
        return urlunsplit(parts._replace(netloc=f"{who}@{parts.netloc}"))

    @property
    def options(self) -> dict[str, str]:
        """What FFmpeg may do for this stream, and within which limits."""
        options = {
            "protocol_whitelist": _PROTOCOLS[self.scheme],
            "format_whitelist": _FORMATS,
            "probesize": str(_PROBED),
            "analyzeduration": str(_ANALYSED_US),
            "max_pixels": str(MOST_PIXELS),
            "max_streams": "8",
            "codec_whitelist": _av_limits.CODEC_LIST,
            "fpsprobesize": "0",
            "rw_timeout": str(round(self.timeout * 1e6)),
        }
        if self.scheme in {"rtsp", "rtsps"}:
            options |= {"rtsp_transport": "tcp", "allowed_media_types": "video"}
        if self.scheme in {"rtsps", "https"}:
            options |= {"tls_verify": "1" if self.verify else "0", "ca_file": self.certificates}
        return options
