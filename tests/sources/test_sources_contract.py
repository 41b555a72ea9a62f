"""What every source must do, third parties' too."""

from __future__ import annotations

import inspect
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from limpet import plugins
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.contracts.data import Samples, SampleSpec


@contextmanager
def board(path: Path) -> Iterator[dict[str, Any]]:
    """Send a line now and then, some of them bad, until left."""
    done = threading.Event()

    def send(node: Board) -> None:
        for n in range(10_000):
            if done.wait(0.005):
                return
            node.send(b"%d,%d\n" % (n, -n) if n % 7 else b"bad\n")

    with Board(path / "node") as node:
        sender = threading.Thread(target=send, args=(node,))
        sender.start()
        try:
            yield {"port": str(node.path), "channels": ["a", "b"]}
        finally:
            done.set()
            sender.join()


@contextmanager
def recording(path: Path) -> Iterator[dict[str, Any]]:
    values = np.arange(400, dtype=np.float32).reshape(-1, 2)
    values[5] = np.nan
    np.save(path / "r.npy", values)
    yield {"path": path / "r.npy", "rate": 200.0, "loop": True}


LIVE: dict[str, Callable[[Path], Any]] = {"serial": board, "replay": recording}
"""A context manager for each kind, which yields a configuration of a source that has samples, some of them bad."""

kinds = pytest.mark.parametrize("kind", plugins.names("sources"))


@contextmanager
def opened(kind: str, path: Path) -> Iterator[tuple[SampleSpec, Iterator[Samples], Counter[str]]]:
    source: plugins.Source = plugins.load("sources", kind)
    dropped: Counter[str] = Counter()
    with LIVE[kind](path) as table:
        config = source.Config(**table)
        with source.open(config, dropped) as samples:
            yield source.describe(config), samples, dropped


@kinds
def test_it_has_the_form_of_a_plugin(kind: str) -> None:
    source = plugins.load("sources", kind)
    assert source.__doc__
    assert source.Config.__doc__
    assert source.Config.__struct_config__.forbid_unknown_fields
    assert issubclass(source.Config, msgspec.Struct)
    assert list(inspect.signature(source.describe).parameters) == ["config"]
    assert list(inspect.signature(source.open).parameters) == ["config", "dropped"]


@kinds
def test_samples_are_as_described(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as (spec, samples, _):
        assert spec.channels == () or len(spec.channels) == spec.shape[-1]
        for _ in range(20):
            block = next(samples)
            assert block.values.shape == (len(block), *spec.shape)
            assert block.values.dtype == spec.dtype
            assert block.monotonic_ns.dtype == block.wall_ns.dtype == np.int64
            assert block.monotonic_ns.shape == block.wall_ns.shape == (len(block),)


@kinds
def test_times_and_ordinals_go_on(kind: str, tmp_path: Path) -> None:
    due, last, count = 0, 0, 0
    with opened(kind, tmp_path) as (_, samples, _):
        while count < 60:
            block = next(samples)
            count += len(block)
            assert block.gap or block.index == due or not len(block)
            assert block.index >= due
            due = block.index + len(block)
            for stamp in block.monotonic_ns.tolist():
                assert last <= stamp <= time.monotonic_ns()
                last = stamp
            age = time.monotonic_ns() - block.monotonic_ns
            np.testing.assert_allclose(time.time_ns() - block.wall_ns, age, rtol=0, atol=10e9)


@kinds
def test_what_is_bad_is_dropped_counted_and_leaves_a_gap(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as (_, samples, dropped):
        while not next(block for block in samples if len(block)).gap:
            pass
        assert dropped.total() > 0
        assert all(type(count) is int and count > 0 for count in dropped.values())


@kinds
def test_it_closes_and_opens_again(kind: str, tmp_path: Path) -> None:
    source: plugins.Source = plugins.load("sources", kind)
    with LIVE[kind](tmp_path) as table:
        for _ in range(2):
            with source.open(source.Config(**table), Counter()) as samples:
                assert next(block for block in samples if len(block)).index < 5
