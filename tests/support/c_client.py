"""The reference client in C, compiled as a library that Python calls, and as a program with sanitizers."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "clients" / "c"
WARNINGS = ("-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion")


class Tensor(ctypes.Structure):
    """``limpet_tensor``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("datatype", ctypes.c_char * 8),
        ("shape", ctypes.c_int64 * 8),
        ("dimensions", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
    )


def library(folder: Path) -> ctypes.CDLL:
    """Compile the client, and return its functions."""
    path = folder / "liblimpet.so"
    subprocess.run(
        ["cc", *WARNINGS, "-O1", "-fPIC", "-shared", SOURCE / "limpet.c", "-o", path, "-lrt"], check=True
    )
    client = ctypes.CDLL(str(path))
    client.limpet_open.restype = ctypes.c_void_p
    client.limpet_share.restype = ctypes.c_void_p
    client.limpet_share.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    client.limpet_error.restype = ctypes.c_char_p
    client.limpet_json.restype = ctypes.c_void_p
    for name in ("close", "error", "status", "request", "infer", "stream", "next"):
        function = getattr(client, f"limpet_{name}")
        function.argtypes = [ctypes.c_void_p, *_ARGUMENTS.get(name, [])]
    return client


_TEXT = ctypes.POINTER(ctypes.c_char_p)
_ARGUMENTS = {
    "request": [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, _TEXT],
    "infer": [
        ctypes.c_char_p,
        ctypes.POINTER(Tensor),
        ctypes.c_size_t,
        ctypes.POINTER(Tensor),
        ctypes.c_size_t,
    ],
    "stream": [ctypes.c_char_p],
    "next": [ctypes.c_int, _TEXT],
}


def example(folder: Path) -> Path:
    """Compile the example with sanitizers, and return the program."""
    path = folder / "example"
    checks = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [SOURCE / "example.c", SOURCE / "limpet.c"]
    subprocess.run(["cc", *WARNINGS, *checks, *sources, "-o", path, "-lrt"], check=True)
    return path
