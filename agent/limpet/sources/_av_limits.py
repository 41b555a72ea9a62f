"""Limits of FFmpeg in this process: its memory, and what it decodes.

A stream can announce a part, a packet or a picture of 2 GB. FFmpeg makes room for it as bytes come.
"""

from __future__ import annotations

import ctypes

import av.packet

LARGEST_BLOCK = 128 << 20
"""Bytes of one block of memory: a plane of the largest picture, and more than any packet of a camera has."""
CODECS = frozenset(
    (
        "mjpeg", "h264", "hevc", "mpeg4", "h263", "mpeg1video", "mpeg2video", "vp8", "vp9", "av1", "libdav1d",
        "libvpx-vp9", "theora", "flv", "msmpeg4", "wmv2", "dvvideo", "ffv1", "rawvideo", "huffyuv", "ffvhuff",
        "prores", "png", "gif",
    )
)  # fmt: skip
"""What cameras, telephones and recorders write. FFmpeg has 300 more decoders, which nothing should reach."""
CODEC_LIST = ",".join(sorted(CODECS))


def install() -> None:
    """Limit the memory of FFmpeg. Call it before FFmpeg opens anything."""
    # PyAV has no function for it. The library that PyAV has loaded is found through one of its modules.
    limit = ctypes.CDLL(av.packet.__file__).av_max_alloc
    limit.argtypes, limit.restype = (ctypes.c_size_t,), None
    limit(LARGEST_BLOCK)
