"""A microphone for ALSA without a sound card: ``alsa_microphone.c`` is a real device of libasound's."""

from __future__ import annotations

import os
import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from limpet.contracts.data import Array

SOURCE = Path(__file__).with_name("alsa_microphone.c")
BUILD = Path(__file__).parents[2] / "build" / "tests"
NAME = "mic"
_CONFIGURATION = """\
</usr/share/alsa/alsa.conf>
pcm_type.limpetmic {{ lib "{library}" }}
pcm.{name} {{ type limpetmic folder "{folder}" rate {rate} channels {channels} format {format} }}
"""


def _library() -> Path:
    """Compile the device, once for each version of its source."""
    BUILD.mkdir(parents=True, exist_ok=True)
    library = BUILD / f"alsa_microphone-{zlib.crc32(SOURCE.read_bytes()):08x}.so"
    if not library.exists():
        made = library.with_suffix(f".{os.getpid()}.so")
        options = ("-shared", "-fPIC", "-DPIC", "-O1", "-Wall", "-Wextra", "-Werror")
        subprocess.run(["cc", *options, "-o", made, SOURCE, "-lasound"], check=True)
        made.replace(library)
    return library


class Microphone:
    """Device ``mic`` for processes with its ``environment``. It plays ``samples`` ``(n, channels)`` for ever.

    ``samples`` are in the numbers of the format, such as int16 for S16_LE.
    """

    def __init__(self, folder: Path, samples: Array, rate: int = 16_000, layout: str = "S16_LE") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sound").write_bytes(np.ascontiguousarray(samples).tobytes())
        channels = samples.shape[1]
        path = folder / "asound.conf"
        text = _CONFIGURATION.format(
            library=_library(), name=NAME, folder=folder, rate=rate, channels=channels, format=layout
        )
        path.write_text(text)
        self.environment = {"ALSA_CONFIG_PATH": str(path), "ALSA_PLUGIN_DIR": str(BUILD)}

    def unplug(self) -> None:
        (self.folder / "unplugged").touch()

    def plug_in(self) -> None:
        (self.folder / "unplugged").unlink()

    def take(self) -> None:
        """Have another program open it."""
        (self.folder / "busy").touch()

    def stumble(self) -> None:
        """Have it lose samples five times a second."""
        (self.folder / "stumbles").touch()


def ramp(count: int = 16_000) -> Array:
    """Return int16 samples ``(count, 1)`` each of which differs from the one before by one."""
    return np.arange(-(count // 2), count - count // 2, dtype="<i2")[:, np.newaxis]
