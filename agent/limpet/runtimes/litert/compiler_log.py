"""What LiteRT says while it compiles a model: the only place where it names the device that it chose.

The wording is that of ai-edge-litert 2.3. If another version words it otherwise, a name or a count is missing.
Nothing else breaks, as Limpet measures whether a model is right and fast on the device.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from limpet.accelerators.delegate_kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

log = logging.getLogger(__name__)

_ADAPTER = re.compile(r"Selected adapter: (?P<name>.+?), arch=.*adapterType=(?P<type>.+)")
_OPENVINO = re.compile(r"Using Intel OpenVINO device: (\w+)")
_PARTITION = re.compile(r"selected (\d+) ops, from a total of (\d+) ops")
_PLUGINS = re.compile(r"(\d+) compiler plugins were applied successfully")
_NO_ADAPTER = re.compile(r"No adapters found")
_NO_LIBRARY = re.compile(r"([\w.+-]+\.so[.\d]*): cannot open shared object file")
_NOT_ALL = re.compile(r"Some ops are not accelerated")


@contextmanager
def caught() -> Iterator[list[str]]:
    """Catch what native code writes to stderr and stdout, and log it at DEBUG: some 33 lines a model.

    The list gets its lines at the end. What other threads write meanwhile is caught with it.
    """
    said: list[str] = []
    with _memory() as file:
        kept = _redirect({1: file.fileno(), 2: file.fileno()})
        try:
            yield said
        finally:
            for copy in (*_redirect(kept).values(), *kept.values()):
                os.close(copy)
            file.seek(0)
            said += file.read().decode("utf-8", "replace").splitlines()
            for line in said:
                log.debug("%s", line)


def _redirect(descriptors: Mapping[int, int]) -> dict[int, int]:
    """Have each descriptor be a copy of another; return copies of what they were."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = {descriptor: os.dup(descriptor) for descriptor in descriptors}
    for descriptor, source in descriptors.items():
        os.dup2(source, descriptor)
    return before


def _memory() -> IO[bytes]:
    """Return a file that is nowhere, as a worker may not write anywhere."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stderr"), "r+b")
    return tempfile.TemporaryFile()


def device(said: Sequence[str]) -> str:
    """Return the name of the device that was chosen, empty where none is named."""
    text = "\n".join(said)
    if adapter := _ADAPTER.search(text):
        return _named(adapter["name"], software="CPU" in adapter["type"])
    if openvino := _OPENVINO.findall(text):
        return _named(f"OpenVINO {openvino[-1]}", software=openvino[-1] == "CPU")
    return ""


def _named(name: str, *, software: bool) -> str:
    return f"{name} (software)" if software else name


def taken(said: Sequence[str]) -> int | None:
    """Return how many ops an NPU's compiler took, ``None`` if the log names none."""
    text = "\n".join(said)
    applied = _PLUGINS.findall(text)
    if applied and applied[-1] == "0":
        return 0
    counts = [int(count) for count, _ in _PARTITION.findall(text)]
    return sum(counts) if counts else None


def explain(kind: str, said: Sequence[str], error: Exception) -> str:
    """Say in a line why a delegate of this kind was refused, from LiteRT's log."""
    text = "\n".join([*said, str(error)])
    if kind == "gpu" and _NO_ADAPTER.search(text):
        return "no GPU with a Vulkan driver was found; `limpet devices` shows what is missing"
    if kind == "npu" and (library := _NO_LIBRARY.search(text)):
        return f"{library[1]} is missing; {KINDS['npu'].install}"
    if _NOT_ALL.search(text):
        return "it does not have all ops of this model"
    return last_line(error)


def last_line(error: Exception) -> str:
    """Return the last line of an error, which is LiteRT's innermost reason."""
    lines = [line.strip("└ \t") for line in str(error).splitlines() if line.strip("└ \t")]
    return lines[-1] if lines else type(error).__name__
