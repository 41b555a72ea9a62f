"""Recordings of each format, at each speed."""

from __future__ import annotations

import contextlib
import gzip
import resource
import time
import wave
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import SampleSpec
from limpet.errors import ConfigError
from limpet.filling import fill
from limpet.recordings import folder
from limpet.sources import replay
from recordings.test_folder import recording

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Array, Samples


def configured(path: Path, **options: Any) -> replay.Config:
    problems: list[str] = []
    filled = fill(replay.Config, {"path": path.name, **options}, "sources.r", path.parent, problems)
    assert not problems
    assert filled is not None
    return filled


def played(path: Path, **options: Any) -> tuple[list[Samples], Counter[str]]:
    dropped: Counter[str] = Counter()
    with replay.open(configured(path, **options), dropped) as samples:
        return list(samples), dropped


def flat_out(path: Path, **options: Any) -> Array:
    blocks, dropped = played(path, speed="flat-out", **options)
    assert not dropped
    return np.concatenate([block.values for block in blocks])


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def wav(path: Path, values: Array, rate: int = 8000, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((values.shape[1], width, rate, 0, "NONE", ""))
        file.writeframes(values.tobytes())
    return path


def npy(path: Path, values: Array) -> Path:
    np.save(path, values)
    return path


TABLE = "b,time,a\n1,10.0,-0.5\n2,10.5,\n3,11.0,1e39\n4,11.5,0.25\n"


def test_csv_with_a_header(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", TABLE)
    spec = replay.describe(configured(path))
    assert spec == SampleSpec((2,), np.dtype(np.float32), ("b", "a"), 2.0)
    (first, second), dropped = played(path, speed="flat-out")
    assert (first.values.tolist(), first.index, first.gap) == ([[1, -0.5]], 0, False)
    assert (second.values.tolist(), second.index, second.gap) == ([[4, 0.25]], 3, True)
    assert dropped == {"not_finite": 2}


def test_csv_channels_are_chosen_by_name_and_the_rest_need_not_be_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", "\ufeffa, label ,b\r\n1,fine,2\r\n\r\n3,odd,4\r\n")
    assert flat_out(path, channels=["b", "a"]).tolist() == [[2, 1], [4, 3]]
    assert flat_out(path, channels=["b"]).tolist() == [[2], [4]]


def test_csv_without_a_header_is_named_by_the_configuration(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", "0.0,1,2\n0.1,3,4\n0.2,5,6\n")
    assert flat_out(path, channels=["time", "a", "b"]).tolist() == [[1, 2], [3, 4], [5, 6]]
    spec = replay.describe(configured(path, channels=["time", "a", "b"]))
    assert spec.channels == ("a", "b")
    assert spec.rate == pytest.approx(10)


def test_csv_gzipped(tmp_path: Path) -> None:
    path = tmp_path / "r.csv.gz"
    path.write_bytes(gzip.compress(b"a\n1\n2\n"))
    assert flat_out(path).tolist() == [[1], [2]]


def test_uneven_times_give_no_rate(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", "time,a\n0,1\n1,1\n5,1\n")
    assert replay.describe(configured(path)).rate is None
    assert replay.describe(configured(path, rate=20)).rate == 20


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8", "?", ">f4", ">i2"])
def test_npy_of_any_dtype(tmp_path: Path, dtype: str) -> None:
    values = np.arange(24).reshape(4, 2, 3).astype(dtype)
    path = npy(tmp_path / "r.npy", values)
    spec = replay.describe(configured(path, speed="flat-out"))
    assert spec.shape == (2, 3)
    assert spec.dtype == values.dtype.newbyteorder("=")
    out = flat_out(path)
    assert out.dtype == spec.dtype
    np.testing.assert_array_equal(out, values)


def test_npy_images_come_in_blocks_of_a_megabyte(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 400, 500, 3), np.uint8)
    blocks, _ = played(npy(tmp_path / "r.npy", images), speed="flat-out")
    assert [len(block) for block in blocks] == [1] * 5
    np.testing.assert_array_equal(np.concatenate([block.values for block in blocks]), images)


def test_npy_of_one_dimension_is_one_channel(tmp_path: Path) -> None:
    values = np.array([1, np.nan, 3], np.float32)
    blocks, dropped = played(npy(tmp_path / "r.npy", values), speed="flat-out", channels=["a"])
    assert [(b.values.tolist(), b.index, b.gap) for b in blocks] == [([[1]], 0, False), ([[3]], 2, True)]
    assert dropped == {"not_finite": 1}


def test_wav(tmp_path: Path) -> None:
    path = wav(tmp_path / "r.wav", np.array([[0, -32768], [32767, 16384]], np.int16))
    spec = replay.describe(configured(path, channels=["left", "right"]))
    assert spec == SampleSpec((2,), np.dtype(np.float32), ("left", "right"), 8000)
    np.testing.assert_array_equal(flat_out(path), np.array([[0, -1], [32767 / 32768, 0.5]], np.float32))


def test_flat_out_gives_whole_blocks_and_is_not_live(tmp_path: Path) -> None:
    path = npy(tmp_path / "r.npy", np.zeros((600, 2)))
    blocks, _ = played(path, speed="flat-out")
    assert [(len(b), b.index, b.gap) for b in blocks] == [(256, 0, False), (256, 256, False), (88, 512, False)]
    assert not replay.describe(configured(path, speed="flat-out")).live
    assert replay.describe(configured(path, rate=1)).live


@pytest.mark.parametrize(("speed", "seconds"), [("recorded", 0.3), (3, 0.1)])
def test_samples_come_when_they_are_due(tmp_path: Path, speed: Any, seconds: float) -> None:
    path = npy(tmp_path / "r.npy", np.arange(301).reshape(-1, 1))
    began = time.monotonic_ns()
    blocks, dropped = played(path, speed=speed, rate=1000)
    elapsed = time.monotonic_ns() - began
    assert elapsed >= seconds * 1e9
    assert np.concatenate([b.values for b in blocks]).tolist() == [[n] for n in range(301)]
    times = np.concatenate([b.monotonic_ns for b in blocks])
    assert np.diff(times) == pytest.approx(seconds * 1e9 / 300, abs=1)
    assert began <= times[0] <= times[-1] <= began + elapsed
    assert abs(np.concatenate([b.wall_ns for b in blocks])[-1] - time.time_ns()) < 60e9
    assert not dropped


def test_times_of_a_recording_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", "time,a\n7.0,1\n7.01,2\n7.01,3\n7.2,4\n")
    blocks, _ = played(path)
    times = np.concatenate([b.monotonic_ns for b in blocks])
    assert np.diff(times) == pytest.approx([1e7, 0, 19e7], abs=2)


def test_while_nothing_is_due_it_shows_that_it_is_alive(tmp_path: Path) -> None:
    path = written(tmp_path / "r.csv", "time,a\n0,1\n3600,2\n")
    with replay.open(configured(path), Counter()) as samples:
        assert [(len(block), block.index) for block in islice(samples, 3)] == [(1, 0), (0, 1), (0, 1)]


@pytest.mark.parametrize("speed", ["flat-out", 1000])
def test_a_loop_begins_again_with_a_gap(tmp_path: Path, speed: Any) -> None:
    path = npy(tmp_path / "r.npy", np.arange(10).reshape(-1, 1))
    dropped: Counter[str] = Counter()
    with replay.open(configured(path, speed=speed, rate=10, loop=True), dropped) as samples:
        blocks = [block for block in islice(samples, 60) if len(block)]
    values = [value for block in blocks for value in block.values[:, 0].tolist()]
    assert len(values) > 20
    assert values == [n % 10 for n in range(len(values))]
    begins = {block.index for block in blocks if block.gap}
    assert begins == set(range(10, len(values), 10))
    times = np.concatenate([block.monotonic_ns for block in blocks])
    assert (np.diff(times) >= 0).all()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("r.csv", b"a,b\n1,2\n1,2,3\n", "line 3: expected 2 columns, found 3"),
        ("r.csv", b"a,b\n1,2\n\n1,two\n", "line 4: column 'b': 'two' is not a number"),
        ("r.csv", b"1,2\n", "line 1: no column names; give them in the first line or as channels"),
        ("r.csv", b"", "line 0: no column names"),
        ("r.csv", b"a,b\n", "has no rows of numbers below its column names (a, b)"),
        ("r.csv", b"a,a\n1,2\n", "line 1: two columns are called 'a'"),
        ("r.csv", b"a\n1\n\xff\n", "line 3: column 'a': '\xff' is not a number"),
        ("r.csv", b"\xff\xfea", "the file holds no table"),
        ("r.csv", b'a\n"' + b"1" * 200_000 + b'"\n', "field larger than field limit"),
        ("r.csv.gz", b"a\n1\n", "Not a gzipped file"),
        ("r.csv.gz", gzip.compress(b"a\n1\n2\n3\n")[:-9], "ended before the end-of-stream marker"),
        ("r.npy", b"", "reading magic string"),
        ("r.npy", b"garbage" * 9, "magic string is not correct"),
        ("r.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',", "has a damaged header"),
        ("r.wav", b"garbage" * 9, "is not a sound file, or is damaged"),
        ("r.wav", b"", "is not a sound file, or is damaged"),
        ("r.doc", b"", "expected a name that ends in .csv, .csv.gz, .tsv, .txt, .npy, .wav"),
    ],
)
def test_bad_recordings_are_refused_with_the_place(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        replay.describe(configured(path, speed="flat-out"))
    (problem,) = error.value.problems
    assert problem.startswith(f"path: {path}: ")
    assert reason in problem


def test_a_recording_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.csv: No such file or directory"):
        replay.describe(configured(tmp_path / "no.csv"))


@pytest.mark.parametrize(
    "values", [np.array(1.0), np.array([1j]), np.array(["a"]), np.zeros(3, [("a", "f4")]), np.array([None])]
)
def test_arrays_of_anything_but_real_numbers_are_refused(tmp_path: Path, values: Array) -> None:
    path = npy(tmp_path / "r.npy", values)
    with pytest.raises(ConfigError, match=r"expected|Python objects"):
        replay.describe(configured(path, speed="flat-out"))


def test_channels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    table = written(tmp_path / "r.csv", TABLE)
    with pytest.raises(ConfigError, match="no column 'tine'"):
        replay.describe(configured(table, channels=["tine"]))
    array = npy(tmp_path / "r.npy", np.zeros((3, 2)))
    with pytest.raises(ConfigError, match="has 2 channels, but 3 are named"):
        replay.describe(configured(array, rate=1, channels=["a", "b", "c"]))


def test_a_recording_that_says_nothing_of_time_needs_a_rate(tmp_path: Path) -> None:
    path = npy(tmp_path / "r.npy", np.zeros((3, 2)))
    with pytest.raises(ConfigError, match="rate: missing"):
        replay.describe(configured(path))
    assert replay.describe(configured(path, rate=5)).rate == 5


@given(
    where=st.integers(0, 140),
    byte=st.integers(0, 255),
    suffix=st.sampled_from([".npy", ".wav", ".csv", ".csv.gz"]),
)
def test_a_damaged_recording_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, where: int, byte: int, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    table = ("time,a\n" + "".join(f"{n},{n / 7}\n" for n in range(20))).encode()
    if suffix == ".npy":
        npy(path, np.arange(20.0))
    elif suffix == ".wav":
        wav(path, np.arange(20, dtype=np.int16).reshape(-1, 1))
    else:
        path.write_bytes(table if suffix == ".csv" else gzip.compress(table))
    data = bytearray(path.read_bytes())
    data[where % len(data)] = byte
    path.write_bytes(bytes(data))
    with contextlib.suppress(ConfigError):
        played(path, speed="flat-out")


def test_a_recording_over_centuries_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    path.write_text("timestamp,a\n2026-11-28T07:00:00Z,1\n2826-11-28T07:00:01Z,2\n")
    with pytest.raises(ConfigError, match=r"would take 5\.05e\+10 s to play"):
        replay.describe(replay.Config(path=path))


def listed(path: Path, **more: Any) -> Path:
    """A file of a folder of recordings, with a column that is no channel."""
    written(path / "one.csv", "time,ax,ay,label\n0.000000,1,2,walk\n0.100000,3,4,walk\n0.900000,5,6,sit\n")
    with folder.changing(path) as found:
        found.recordings.append(recording("one.csv", samples=3, **more))
    return path / "one.csv"


def test_a_folder_of_recordings_says_channels_rate_units_and_gaps(tmp_path: Path) -> None:
    path = listed(tmp_path, units=["g", "m/s2"], rate=10.0, gaps=[0.9])
    spec = replay.describe(configured(path))
    assert (spec.channels, spec.units, spec.rate) == (("ax", "ay"), ("g", "m/s2"), 10.0)
    blocks, _ = played(path, speed="flat-out")
    assert [(block.values.tolist(), block.gap) for block in blocks] == [
        ([[1, 2], [3, 4]], False),
        ([[5, 6]], True),
    ]
    chosen = replay.describe(configured(path, channels=["ay"]))
    assert (chosen.channels, chosen.units) == (("ay",), ("m/s2",))
    assert tmp_path / "recordings.json" in replay.needs(configured(path)).read


def test_a_folder_of_recordings_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    path = listed(tmp_path)
    (tmp_path / "recordings.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"recordings.json could not be read"):
        replay.describe(configured(path))


def test_the_folder_itself_is_no_recording(tmp_path: Path) -> None:
    inner = tmp_path / "recordings"
    inner.mkdir()
    listed(inner)
    with pytest.raises(ConfigError, match="is a folder of recordings; name one of them"):
        replay.describe(configured(inner))


def sound_file(path: Path, values: Array, rate: int = 16_000, **options: Any) -> Path:
    soundfile.write(path, values, rate, **options)
    return path


def tone(rate: int, hertz: float, seconds: float = 1.0) -> Array:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize(
    ("name", "options", "off"),
    [
        ("r.wav", {"subtype": "PCM_24"}, 1e-6),
        ("r.wav", {"subtype": "FLOAT"}, 0),
        ("r.wav", {"subtype": "ALAW"}, 0.02),
        ("r.rf64", {"format": "RF64"}, 1e-4),
        ("r.flac", {}, 1e-4),
        ("r.ogg", {}, 0.1),
        ("r.aiff", {}, 1e-4),
        ("r.caf", {}, 1e-4),
        ("r.opus", {"format": "OGG", "subtype": "OPUS"}, 0.1),
    ],
)
def test_sound_of_many_formats_is_played(tmp_path: Path, name: str, options: dict[str, Any], off: float) -> None:
    wave = tone(16_000, 400).astype(np.float32)
    path = sound_file(tmp_path / name, wave, **options)
    assert replay.describe(configured(path)) == SampleSpec((1,), np.dtype(np.float32), rate=16_000.0)
    values = flat_out(path)[:, 0]
    assert len(values) >= len(wave)
    np.testing.assert_allclose(values[2000:14_000], wave[2000:14_000], atol=off)


def test_channels_of_sound_are_chosen_by_number_mixed_or_named(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "r.wav", np.array([[0.5, -0.25], [0.25, 0.75]]), subtype="FLOAT")
    assert flat_out(path, channels=["2"]).tolist() == [[-0.25], [0.75]]
    assert flat_out(path, channels=["2", "1"]).tolist() == [[-0.25, 0.5], [0.75, 0.25]]
    assert flat_out(path, channels=["mix"]).tolist() == [[0.125], [0.5]]
    assert replay.describe(configured(path, channels=["left", "right"])).channels == ("left", "right")
    for channels, reason in (
        (["3"], "has 2 channels; there is no channel 3"),
        (["left"], "has 2 channels, but 1 are named"),
    ):
        with pytest.raises(ConfigError, match=reason):
            replay.describe(configured(path, channels=channels))


def test_sound_is_resampled_with_a_low_pass(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "r.wav", tone(44_100, 1000) + tone(44_100, 12_000), 44_100, subtype="FLOAT")
    assert replay.describe(configured(path, resample=16_000)).rate == 16_000
    blocks, _ = played(path, speed="flat-out", resample=16_000)
    values = np.concatenate([block.values for block in blocks])[:, 0]
    assert len(values) == 16_000
    np.testing.assert_allclose(values[2000:14_000], tone(16_000, 1000)[2000:14_000], atol=1e-3)
    times = np.concatenate([block.monotonic_ns for block in blocks])
    assert np.abs(np.diff(times) - 62_500).max() <= 1


def test_sound_goes_round_with_a_gap_and_its_ordinals_go_on(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "r.wav", np.linspace(0, 0.5, 800), subtype="FLOAT")
    with replay.open(configured(path, loop=True, speed=20), Counter()) as samples:
        blocks = list(islice((block for block in samples if len(block)), 6))
    gaps = [block.index for block in blocks if block.gap]
    assert gaps
    assert all(index % 800 == 0 for index in gaps)
    times = np.concatenate([block.monotonic_ns for block in blocks])
    assert (np.diff(times) > 0).all()


def test_sound_is_read_as_it_is_played_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "r.wav"
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(160_000, np.float32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with replay.open(configured(path, speed="flat-out"), Counter()) as samples:
        assert sum(map(len, samples)) == 9_600_000  # 38 MB as floats
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


def test_damaged_sound_is_played_up_to_the_damage_or_refused(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "r.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 40_000))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with contextlib.suppress(ConfigError):
        assert len(flat_out(path)) <= 40_000
    path.write_bytes(data[:60])
    with pytest.raises(ConfigError, match=r"r\.flac"):
        flat_out(path)


def test_resample_is_for_sound(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resample: only sound files are resampled"):
        replay.describe(configured(npy(tmp_path / "r.npy", np.zeros((4, 1))), rate=10, resample=16_000))
