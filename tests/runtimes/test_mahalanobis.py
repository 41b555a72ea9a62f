"""A model that learns what is normal: its scores, its threshold, and the file that keeps what it learned."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from limpet.device.kept_file import DIGEST, checksum
from limpet.errors import ModelError
from limpet.runtimes import _mahalanobis, mahalanobis
from limpet.runtimes._learned_windows import LearnedWindows, capacity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOATS = {"allow_nan": False, "allow_infinity": False, "width": 32}


@contextmanager
def opened(folder: Path, **options: Any) -> Iterator[mahalanobis.MahalanobisModel]:
    path = folder / "model.json"
    path.write_bytes(msgspec.json.encode({"shape": [1, 3], "windows": 200} | options))
    with mahalanobis.open(path, mahalanobis.Config()) as model:
        yield model


def noise(count: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, channels)).astype(np.float32)


def run(model: mahalanobis.MahalanobisModel, windows: np.ndarray) -> np.ndarray:
    """Return scores, thresholds and shares, ``(n, 3)``."""
    return np.array([[output[0] for output in model.run([window[None]])] for window in windows])


def taught(folder: Path, model: mahalanobis.MahalanobisModel, windows: np.ndarray, meaning: str = "x") -> str:
    folder.mkdir(exist_ok=True)
    said = model.learn(folder, meaning)
    run(model, windows)
    return said


# --- scores


def test_scores_come_after_a_few_windows_and_the_share_grows_to_one(tmp_path: Path) -> None:
    with opened(tmp_path) as model:
        model.learn(None, "x")
        given_ = run(model, noise(250))
    assert np.isnan(given_[:16, :2]).all()
    assert np.isfinite(given_[16:, :2]).all()
    assert given_[100, 2] == pytest.approx(0.5)
    assert given_[199, 2] < 1
    assert (given_[200:, 2] == 1).all()


def test_at_least_fifty_windows_are_learned_from_and_five_for_each_value() -> None:
    assert mahalanobis.Options(shape=[1, 3], seconds=1).learned(49, 10**10) < 1
    assert mahalanobis.Options(shape=[1, 3], seconds=1).learned(50, 10**10) == 1
    assert mahalanobis.Options(shape=[4, 16], windows=1).learned(319, 0) < 1
    assert mahalanobis.Options(shape=[4, 16], windows=1).learned(320, 0) == 1


def test_time_counts_only_while_windows_come(tmp_path: Path) -> None:
    options = mahalanobis.Options(shape=[1, 3], seconds=100)
    assert options.learned(10_000, 25 * 10**9) == pytest.approx(0.25)
    with opened(tmp_path, windows=None, seconds=3600.0) as model:
        model.learn(None, "x")
        assert run(model, noise(100))[-1, 2] < 0.5


def test_after_its_time_it_stays_as_it_is(tmp_path: Path) -> None:
    with opened(tmp_path) as model:
        model.learn(None, "x")
        run(model, noise(200))
        before = run(model, noise(3, seed=1))
        run(model, noise(1000, seed=2) + 100)
        np.testing.assert_array_equal(run(model, noise(3, seed=1)), before)


def test_channels_of_any_unit_constant_or_moving_together_are_no_problem() -> None:
    base = noise(500, 2)
    together = np.stack([base[:, 0], base[:, 0] * 1e6, base[:, 1] * 1e-6, np.full(500, 7), base[:, 0] + 3], axis=1)
    normal = _mahalanobis.fit(together)
    seen = normal.distances(together)
    assert np.isfinite(seen).all()
    assert np.quantile(seen, 0.99) < 10
    apart = together[:1].copy()
    apart[0, 4] += 2  # the fifth no longer follows the first
    moved = together[:1].copy()
    moved[0, 3] = 8  # what never moved does
    assert normal.distances(apart)[0] > 10
    assert normal.distances(moved)[0] > 10


def test_other_units_give_the_same_scores() -> None:
    units = np.array([1e-5, 1, 1e5], np.float32)
    plain, other = noise(300), noise(300) * units
    np.testing.assert_allclose(
        _mahalanobis.fit(other).distances(other), _mahalanobis.fit(plain).distances(plain), rtol=1e-3
    )


@pytest.mark.parametrize("value", [0.0, 20.5, -65535.0])
def test_a_machine_at_rest_is_normal_and_a_change_is_not(value: float) -> None:
    windows = np.full((200, 3), value, np.float32)
    threshold = _mahalanobis.threshold(windows, 0.001, 4)
    normal = _mahalanobis.fit(windows)
    assert (normal.distances(windows) < threshold).all()
    assert (normal.distances(windows + np.float32(0.01 * abs(value) + 0.01)) >= threshold).all()


@pytest.mark.parametrize("share", [0.0, 0.03, 0.08])
def test_anomalies_in_the_learning_time_are_found_later_all_the_same(share: float) -> None:
    windows = noise(3000, 4)
    bad = np.arange(len(windows)) % 100 < 100 * share
    windows[bad] += 12
    normal = _mahalanobis.fit(windows)
    threshold = _mahalanobis.threshold(windows, 0.001, 4)
    fresh = noise(3000, 4, seed=1)
    assert (normal.distances(fresh) >= threshold).mean() < 0.01
    assert (normal.distances(fresh + 12) >= threshold).mean() > 0.99


def test_few_windows_of_many_values_give_scores() -> None:
    windows = noise(320, 64)
    normal = _mahalanobis.fit(windows)
    threshold = _mahalanobis.threshold(windows, 0.001, 4)
    fresh = noise(1000, 64, seed=1)
    assert (normal.distances(fresh) >= threshold).mean() < 0.02
    assert (normal.distances(fresh * 3) >= threshold).mean() > 0.99


def test_the_threshold_is_reached_by_the_share_that_is_allowed() -> None:
    windows, fresh = noise(4000, 6), noise(20_000, 6, seed=1)
    distances = _mahalanobis.fit(windows).distances(fresh)
    alarms = (distances >= _mahalanobis.threshold(windows, 0.05, 4)).mean()
    assert 0.03 < alarms < 0.07


@given(arrays.arrays(np.float32, st.tuples(st.integers(16, 40), st.just(3)), elements=st.floats(**FLOATS)))
@settings(max_examples=100)
def test_any_finite_windows_give_finite_scores(windows: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        normal = _mahalanobis.fit(windows)
        assert np.isfinite(normal.distances(windows)).all()
        assert np.isfinite(normal.distances(windows[::-1] * np.float32(0.5))).all()
        assert np.isfinite(_mahalanobis.threshold(windows, 0.001, 4))


def test_a_window_that_is_not_finite_is_refused_and_not_learned_from(tmp_path: Path) -> None:
    with opened(tmp_path) as model:
        model.learn(None, "x")
        run(model, noise(50))
        with pytest.raises(ModelError, match="no numbers"):
            model.run([np.array([[1, np.nan, 2]], np.float32)])
        assert run(model, noise(1))[0, 2] == pytest.approx(50 / 200)


# --- the model's file


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"shape": [1, 65]}, "shape"),
        ({"shape": [8, 9]}, "more than 64 values"),
        ({"shape": []}, "shape"),
        ({"seconds": 5}, "one of seconds and windows"),
        ({"windows": None}, "one of seconds and windows"),
        ({"false_alarms": 0}, "false_alarms"),
        ({"format": 2}, "format"),
        ({"other": 1}, "other"),
    ],
)
def test_a_file_that_asks_for_what_cannot_be_is_refused(tmp_path: Path, options: Any, why: str) -> None:
    with pytest.raises(ModelError, match=why), opened(tmp_path, **options):
        pass


def test_another_delegate_than_the_cpu_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    assert mahalanobis.check(tmp_path / "model.json", ["cpu"]) == []
    (problem,) = mahalanobis.check(tmp_path / "model.json", ["gpu", "cpu"])
    assert 'set delegates = ["cpu"]' in problem


# --- what is kept


def test_every_window_has_the_same_chance_to_be_kept() -> None:
    most = capacity(64)
    windows = LearnedWindows(64, seed=3)
    for number in range(4 * most):
        windows.add(np.full(64, number, np.float32), 1)
    kept = windows.rows[:, 0]
    assert len(kept) == most
    assert len(set(kept.tolist())) == most
    shares = np.histogram(kept, bins=4, range=(0, 4 * most))[0] / most
    assert (abs(shares - 0.25) < 0.05).all()


def test_the_same_windows_give_the_same_bytes() -> None:
    contents = []
    for _ in range(2):
        windows = LearnedWindows(64, seed=3)
        for number in range(3000):
            windows.add(np.full(64, number, np.float32), 1)
        contents.append(windows.encoded("x"))
    assert contents[0] == contents[1]


def test_a_model_goes_on_in_the_middle_of_its_time(tmp_path: Path) -> None:
    with opened(tmp_path) as model:
        assert taught(tmp_path / "learned", model, noise(100)) == ""
    with opened(tmp_path) as model:
        assert taught(tmp_path / "learned", model, noise(100, seed=1)) == ""
        halves = run(model, noise(5, seed=2))
    with opened(tmp_path) as model:
        model.learn(None, "x")
        run(model, np.concatenate([noise(100), noise(100, seed=1)]))
        np.testing.assert_array_equal(run(model, noise(5, seed=2)), halves)


def test_a_model_that_stopped_goes_on_from_memory(tmp_path: Path) -> None:
    """A successor that fails gives way to it, and may have written to the same file."""
    with opened(tmp_path) as model, opened(tmp_path) as successor:
        taught(tmp_path / "learned", model, noise(100))
        model.stop_learning()
        assert "other channels" in taught(tmp_path / "learned", successor, noise(20), "y")
        successor.stop_learning()
        assert model.learn(tmp_path / "learned", "x") == ""
        assert run(model, noise(1))[0, 2] == pytest.approx(100 / 200)
    with opened(tmp_path) as model:
        assert model.learn(tmp_path / "learned", "x") == ""
        assert run(model, noise(1))[0, 2] == pytest.approx(101 / 200)


@pytest.mark.parametrize("options", [{"seed": 1}, {"false_alarms": 0.01}, {"windows": 300}, {"shape": [3]}])
def test_other_options_start_again(tmp_path: Path, options: Any) -> None:
    with opened(tmp_path) as model:
        taught(tmp_path / "learned", model, noise(200))
    with opened(tmp_path, **options) as model:
        assert "learns again" in model.learn(tmp_path / "learned", "x")
        assert run(model, noise(1))[0, 2] < 0.1


def kept(**fields: Any) -> bytes:
    whole = {"format": 1, "meaning": "m", "windows": 2, "learned_ns": 5, "rows": bytes(24)} | fields
    data = msgspec.msgpack.encode(whole)
    return checksum(data) + data


def test_a_sound_file_is_read() -> None:
    windows = LearnedWindows(3, seed=0)
    assert windows.restore(kept(), "m") == ""
    assert (windows.windows, windows.learned_ns, windows.rows.shape) == (2, 5, (2, 3))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "checksum"),
        (kept()[:-1], "checksum"),
        (kept()[:DIGEST] + bytes(40), "checksum"),
        (kept(format=2), "format 2"),
        (kept(windows=3), "24 bytes of windows, not 36"),
        (kept(windows=-1), "windows"),
        (kept(learned_ns=1 << 63), "learned_ns"),
        (kept(rows=np.full(6, np.nan, "<f4").tobytes()), "no numbers"),
        (kept(meaning="other"), "other channels"),
        (kept(extra=1), "extra"),
        (checksum(b"\xc1") + b"\xc1", "could not be read"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_and_changes_nothing(content: bytes, why: str) -> None:
    windows = LearnedWindows(3, seed=0)
    windows.add(np.ones(3, np.float32), 7)
    assert why in windows.restore(content, "m")
    assert (windows.windows, windows.learned_ns) == (1, 7)
    np.testing.assert_array_equal(windows.rows, np.ones((1, 3)))


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_bytes_are_refused(content: bytes) -> None:
    assert LearnedWindows(3, seed=0).restore(content, "m")
    assert LearnedWindows(3, seed=0).restore(checksum(content) + content, "m")


@pytest.mark.parametrize("what", ["fifo", "folder", "link", "huge"])
def test_what_is_no_file_of_ours_means_learning_again(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "learned"
    folder.mkdir()
    path = folder / mahalanobis.FILE
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to("/etc/hostname")
    else:
        path.write_bytes(bytes(1 << 20))
    with opened(tmp_path) as model:
        said = taught(folder, model, noise(200))
        assert "learns again" in said
        assert str(path) in said
    with opened(tmp_path) as model:
        assert model.learn(folder, "x") == ""
        assert run(model, noise(1))[0, 2] == 1


def test_a_file_that_cannot_be_written_is_logged_once_and_it_learns_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "learned").write_text("in the way")
    with caplog.at_level(logging.WARNING), opened(tmp_path) as model:
        assert model.learn(tmp_path / "learned" / "x", "x") == ""
        assert run(model, noise(250))[-1, 2] == 1
        model.stop_learning()
    (line,) = [record.message for record in caplog.records]
    assert "Not a directory. A restart loses what is learned" in line
