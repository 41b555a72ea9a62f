"""WAV files as recorders, phones, editors and pipes write them."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from limpet.errors import ConfigError
from limpet.sources import replay
from limpet.sources._recordings import Recording, load
from limpet.sources._sound import PlainWave

if TYPE_CHECKING:
    from pathlib import Path

RAMP = np.arange(-50, 50, dtype="<i2")
UNKNOWN = 0xFFFFFFFF


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    declared = len(content) if size is None else size
    return name + struct.pack("<I", declared) + content + b"\0" * (len(content) % 2)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def header(bits: int = 16, channels: int = 1, tag: int = 1) -> bytes:
    frame = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, 16000, 16000 * frame, frame, bits)


def extensible(bits: int = 16, channels: int = 1, tag: int = 1) -> bytes:
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    return header(bits, channels, 0xFFFE) + struct.pack("<HHI", 22, bits, 0) + guid


PCM = RAMP.tobytes()
FILES = {
    "plain": riff(chunk(b"fmt ", header()), chunk(b"data", PCM)),
    "extensible": riff(chunk(b"fmt ", extensible()), chunk(b"data", PCM)),
    "with an empty extension": riff(chunk(b"fmt ", header() + b"\0\0"), chunk(b"data", PCM)),
    "streamed": riff(chunk(b"fmt ", header()), chunk(b"data", PCM, UNKNOWN), size=UNKNOWN),
    "streamed by SoX": riff(chunk(b"fmt ", header()), chunk(b"data", PCM, 0x7FFFF000), size=0x7FFFF024),
    "streamed with size 0": riff(chunk(b"fmt ", header()), chunk(b"data", PCM, 0), size=0),
    "streamed with size 0 behind a comment": riff(
        chunk(b"fmt ", header()), chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0"), chunk(b"data", PCM, 0), size=36
    ),
    "streamed, extensible": riff(chunk(b"fmt ", extensible()), chunk(b"data", PCM, UNKNOWN), size=UNKNOWN),
    "other chunks around": riff(
        chunk(b"JUNK", bytes(28)),
        chunk(b"bext", b"odd"),
        chunk(b"fmt ", header()),
        chunk(b"fact", struct.pack("<I", 100)),
        chunk(b"LIST", b"INFOabc"),
        chunk(b"data", PCM),
        chunk(b"id3 ", b"tag"),
    ),
    "24 bit": riff(chunk(b"fmt ", header(24)), chunk(b"data", b"".join(b"\0" + n.tobytes() for n in RAMP))),
    "24 bit extensible": riff(
        chunk(b"fmt ", extensible(24)), chunk(b"data", b"".join(b"\0" + n.tobytes() for n in RAMP))
    ),
    "32 bit": riff(chunk(b"fmt ", header(32)), chunk(b"data", (RAMP.astype("<i4") << 16).tobytes())),
    "float": riff(chunk(b"fmt ", header(32, tag=3)), chunk(b"data", (RAMP / 32768).astype("<f4").tobytes())),
    "float, extensible": riff(
        chunk(b"fmt ", extensible(32, tag=3)), chunk(b"data", (RAMP / 32768).astype("<f4").tobytes())
    ),
    "double": riff(chunk(b"fmt ", header(64, tag=3)), chunk(b"data", (RAMP / 32768).astype("<f8").tobytes())),
    "64-bit sizes": b"RF64"
    + struct.pack("<I", UNKNOWN)
    + b"WAVE"
    + chunk(b"ds64", struct.pack("<QQQI", 0, 200, 100, 0))
    + chunk(b"fmt ", header())
    + chunk(b"data", PCM, UNKNOWN),
}


def read(folder: Path, content: bytes, channels: Any = ()) -> Recording:
    path = folder / "r.wav"
    path.write_bytes(content)
    return load(path, channels, None)


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_files_that_are_read(tmp_path: Path, content: bytes) -> None:
    found = read(tmp_path, content)
    assert found.rate == 16000
    np.testing.assert_array_equal(found.values[:, 0], RAMP.astype(np.float32) / 32768)
    assert found.notes == ()


def test_8_bit_and_companded_files_are_read(tmp_path: Path) -> None:
    unsigned = riff(chunk(b"fmt ", header(8)), chunk(b"data", bytes([0, 128, 255])))
    assert read(tmp_path, unsigned).values[:, 0].tolist() == [-1, 0, 127 / 128]
    wave = np.sin(np.arange(400) / 9) / 2
    for subtype in ("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"):
        soundfile.write(tmp_path / "r.wav", wave, 8000, subtype=subtype)
        found = load(tmp_path / "r.wav", (), None)
        assert np.abs(found.values[200:400, 0] - wave[200:]).max() < 0.1, subtype


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_many_channels(tmp_path: Path, subtype: str) -> None:
    values = np.arange(160).reshape(20, 8) / 160
    soundfile.write(tmp_path / "r.wav", values, 48000, subtype=subtype, format="WAVEX")
    found = load(tmp_path / "r.wav", [f"c{n}" for n in range(8)], None)
    assert found.rate == 48000
    np.testing.assert_allclose(found.values, values, atol=1 / 32768)


@pytest.mark.parametrize("cut", [1, 50, 51, 150])
def test_a_file_that_is_cut_short_is_read_up_to_there_and_said(tmp_path: Path, cut: int) -> None:
    found = read(tmp_path, FILES["plain"][:-cut])
    there = (200 - cut) // 2
    np.testing.assert_array_equal(found.values[:, 0], RAMP[:there].astype(np.float32) / 32768)
    assert found.notes == (f"is cut short: it has {200 - cut} of 200 bytes",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a sound file, or is damaged"),
        (riff(chunk(b"fmt ", header())), "is not a sound file, or is damaged"),
        (riff(chunk(b"fmt ", header()), chunk(b"data", b"")), "has no samples"),
        (riff(chunk(b"fmt ", header()), chunk(b"data", b""), chunk(b"LIST", b"INFO")), "has no samples"),
        (riff(chunk(b"fmt ", header(tag=0x55)), chunk(b"data", PCM)), "is not a sound file, or is damaged"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read(tmp_path, content)


@given(where=st.integers(0, 120), byte=st.integers(0, 255), name=st.sampled_from(sorted(FILES)))
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, where: int, byte: int, name: str
) -> None:
    content = bytearray(FILES[name])
    content[where % len(content)] = byte
    with contextlib.suppress(ConfigError):
        assert read(tmp_path_factory.getbasetemp(), bytes(content)).values.dtype == np.float32


@given(where=st.integers(0, 70), byte=st.integers(0, 255), name=st.sampled_from(["plain", "float", "streamed"]))
def test_without_the_extra_a_damaged_file_is_read_or_refused(where: int, byte: int, name: str) -> None:
    content = bytearray(FILES[name])
    content[where] = byte
    with contextlib.suppress(ValueError):
        stream = PlainWave(io.BytesIO(content))
        count = 0
        while len(values := stream.read(64)):
            assert values.shape[1] == stream.channels
            count += len(values)
        assert count == stream.frames <= 400


@pytest.mark.parametrize("name", ["plain", "extensible", "streamed", "streamed with size 0", "float, extensible"])
def test_without_the_extra_plain_files_give_the_same_samples(name: str) -> None:
    stream = PlainWave(io.BytesIO(FILES[name]))
    assert (stream.rate, stream.channels, stream.frames) == (16_000, 1, 100)
    np.testing.assert_array_equal(stream.read(1000)[:, 0], RAMP.astype(np.float32) / 32768)
    assert len(stream.read(1000)) == 0


def test_without_the_extra_plain_files_are_read_and_others_name_it(tmp_path: Path) -> None:
    (tmp_path / "plain.wav").write_bytes(FILES["plain"])
    (tmp_path / "float.wav").write_bytes(FILES["float"])
    (tmp_path / "wide.wav").write_bytes(FILES["24 bit"])
    program = (
        "import sys; sys.modules['soundfile'] = None\n"
        "from pathlib import Path; from limpet.sources._recordings import load\n"
        "print(len(load(Path(sys.argv[1]), (), None).values))"
    )
    command = [sys.executable, "-c", program]
    for name in ("plain", "float"):
        plain = subprocess.run([*command, tmp_path / f"{name}.wav"], capture_output=True, text=True, check=True)
        assert plain.stdout == "100\n"
    other = subprocess.run([*command, tmp_path / "wide.wav"], capture_output=True, text=True, check=False)
    assert "pip install 'limpet[sound]'" in other.stderr


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_fifo_is_refused_at_once_and_a_link_to_a_sound_is_played(tmp_path: Path, kind: str) -> None:
    fifo = tmp_path / f"fifo.{kind}"
    os.mkfifo(fifo)
    with pytest.raises(ConfigError, match="is not a regular file"):
        replay.describe(replay.Config(path=fifo))
    soundfile.write(tmp_path / "sound.flac", np.zeros(100), 8000)
    (tmp_path / "link.flac").symlink_to(tmp_path / "sound.flac")
    assert replay.describe(replay.Config(path=tmp_path / "link.flac")).rate == 8000
