"""Has the runtime print its greeting where it is not seen.

When a process first runs a model on the CPU, TensorFlow Lite prints ``INFO: Created TensorFlow Lite XNNPACK
delegate for CPU.`` It has no setting against that. So a tiny model is loaded first, and the line is dropped. No
other model is loaded meanwhile: whatever the runtime says about a user's model is printed.
"""

from __future__ import annotations

import base64
import os
import sys
import zlib
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GREETING = b"XNNPACK delegate for CPU"
_MODEL = (
    "c-oCq%}T>S5S~rb+SpJ-kXl3}hk_nF2wp_$O?t|~Lm$8vgAG^>Bt<;wQG5s=q|f5Plh5EmjNeYCZW<LG_}H1r?#wqo=@HRz5FU`o"
    "It8>vU7Q}du$yE<C-@8!-~o8Ch-ze{4x9ofKp)rzY~VG|b6fOfX>k08d{e+3@P_;E{KjT~2bhk|qhNd+gz+?qvYj-"
    "@qBKj3Hy+>$V;#>G-"
    "vqc6zKUzp(xy$h+rr&8JV8OGsn6aQw^hVi0k=A|LX==pvn9GJfuxopjAxu@Vh>PHSHc{cURYY6f8;q65RR(SC2iZ5I@0|e$D?$=l"
    "<%n$SGYO4|9<|jxPAToCW<d68HeV&Og$amhYjx7VuCH6Nja}2dA0udL*7~?FVX$6p8NGIOJ>>koZG+T+>;QYsmBTV@OkFMJ5Wr)m"
    "zRI>(0z@sn8p$hvs)gm$-kg?%Q5qFJ^}sBKza"
)
"""A .tflite file, compressed, in base 85: a fully connected layer of one input and one output."""
_LARGEST = 1 << 16
"""Bytes that a pipe holds."""


@cache
def hide_greeting(interpreter: Callable[..., Any]) -> None:
    """Have this process's greeting printed, unseen. ``interpreter``: the runtime's class."""
    with suppress(OSError, RuntimeError, ValueError), _without_greeting():
        interpreter(model_content=zlib.decompress(base64.b85decode(_MODEL))).allocate_tensors()


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Hold back what this process writes to stderr, then write all but the greeting."""
    sys.stderr.flush()
    kept = os.dup(2)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        for end in (reader, writer):
            os.set_blocking(end, False)
        os.dup2(writer, 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(writer)
        for line in os.read(reader, _LARGEST).splitlines(keepends=True):
            if GREETING not in line:
                os.write(2, line)
    finally:
        os.close(reader)
        os.close(kept)
