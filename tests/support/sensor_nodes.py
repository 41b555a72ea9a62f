"""The firmware of firmware-configs/sensor-nodes, compiled for this machine."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.sources.framings.cobs import DTYPES

if TYPE_CHECKING:
    from limpet.contracts.data import Array

NODES = Path(__file__).parents[2] / "firmware-configs" / "sensor-nodes"
HOST = Path(__file__).parents[1] / "boards" / "host"
_TYPES = {dtype: first for first, dtype in DTYPES.items()}


def compile_for_host(source: Path, program: Path, *options: str | Path) -> Path:
    """Compile strictly, with the sanitizers; whatever the compiler says fails the test."""
    language = ["c++", "-std=c++11", "-x", "c++"] if source.suffix in {".ino", ".cpp"} else ["cc", "-std=c99"]
    strict = ["-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic", "-fsanitize=address,undefined"]
    command = [*language, *strict, "-fno-sanitize-recover", f"-I{NODES}", *options, source, "-o", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return program


class Encoder:
    """``tests/boards/host/frames.c`` as a process that encodes one frame after another."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def encode(self, values: Array, sequence: int, time_us: int, capacity: int = 1 << 19) -> bytes:
        """Return the frame for values of shape ``(n, channels)``, empty where the header refuses."""
        head = struct.pack("=BBHI", _TYPES[values.dtype], values.shape[1], sequence, time_us)
        return self.ask(head, values.tobytes(), values.size, capacity)

    def ask(self, head: bytes, data: bytes, count: int, capacity: int = 1 << 19) -> bytes:
        """Return the frame for a header of one's own, ``data`` being ``count`` values."""
        process = self._process
        assert process.stdin
        assert process.stdout
        process.stdin.write(head + struct.pack("=II", count, capacity) + data)
        process.stdin.flush()
        (length,) = struct.unpack("=I", process.stdout.read(4))
        return process.stdout.read(length)

    def close(self) -> int:
        with self._process as process:
            assert process.stdin
            process.stdin.close()
            return process.wait(10)
