"""Requests for models, read by real processes that are killed."""

from __future__ import annotations

import os
import selectors
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from limpet.config import Config, build
from limpet.contracts.deliveries import Delivery
from limpet.fork.launch import ForkServerProcess
from limpet.supervision.fleet import Fleet
from limpet.supervision.update_files import UpdateFiles
from limpet.supervision.update_requests import MOST_READINGS, UpdateRequests
from limpet.updates.state import Updates
from limpet.updates.stimuli import Refused

if TYPE_CHECKING:
    from limpet.updates.stimuli import Stimulus


def config(folder: Path, *, signed: bool = False) -> Config:
    """Return a configuration with a root, which is not there: the reader takes a while to find that out."""
    return build(
        {
            "device": {"id": "d", "state": "state"},
            "sources": {"s": {"kind": "replay"}},
            "pipelines": {"p": {"source": "s", "model": "m"}},
            "trust": {"root": "root.json", "signed_requests": signed},
            "updates": {},
            "jsonl": {},
        },
        folder,
    )


def readers(parent: int) -> list[int]:
    """Return the children of the fork server that read a request."""
    found = []
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with suppress(OSError):  # It has ended meanwhile.
            if Path(f"/proc/{pid}/comm").read_text().startswith("limpet="):
                found.append(int(pid))
    return found


def heard(folder: Path, kills: int) -> Stimulus:
    """Return what comes of a request if so many of its readers are killed before they have answered."""
    stimuli: list[Stimulus] = []

    def feed(_: str, stimulus: Stimulus) -> bool:
        stimuli.append(stimulus)
        return True

    launched = ForkServerProcess()
    killed: set[int] = set()
    with selectors.DefaultSelector() as selector:
        fleet = Fleet(selector, launched, lambda *_: None)
        files = UpdateFiles(folder / "state")
        requests = UpdateRequests(files, fleet.helpers, feed, lambda *_: True, lambda *_: None, lambda _: False)
        delivery = Delivery("desired", "p", b"{}", retained=True, reporter="mqtt")
        requests.take(delivery, config(folder), Updates())
        until = time.monotonic() + 60
        while not stimuli:
            assert time.monotonic() < until
            for pid in set(readers(launched.pid)) - killed:
                if len(killed) < kills:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
            for key, _ in selector.select(0.001):
                key.data()
            fleet.tend()
        fleet.close()
    assert len(killed) == kills
    return stimuli[0]


@pytest.mark.parametrize("kills", [0, MOST_READINGS - 1])
def test_a_request_whose_reader_is_killed_is_read_again(tmp_path: Path, kills: int) -> None:
    """The kernel kills for want of memory. That says nothing about the request."""
    came = heard(tmp_path, kills)
    assert isinstance(came, Refused)
    assert "SIGKILL" not in came.reason


def test_a_request_that_ends_every_reader_is_refused(tmp_path: Path) -> None:
    came = heard(tmp_path, MOST_READINGS)
    assert isinstance(came, Refused)
    assert "SIGKILL" in came.reason


@pytest.mark.parametrize("signed", [False, True])
def test_where_requests_must_be_signed_none_is_withdrawn_without_a_signature(
    tmp_path: Path, *, signed: bool
) -> None:
    stimuli: list[Stimulus] = []
    events: list[str] = []

    def feed(_: str, stimulus: Stimulus) -> bool:
        stimuli.append(stimulus)
        return True

    with selectors.DefaultSelector() as selector:
        fleet = Fleet(selector, ForkServerProcess(), lambda *_: None)
        files = UpdateFiles(tmp_path / "state")
        requests = UpdateRequests(
            files, fleet.helpers, feed, lambda *_: True, lambda event, *_: events.append(event), lambda _: False
        )
        withdrawal = Delivery("desired", "p", b"", retained=False, reporter="mqtt")
        requests.take(withdrawal, config(tmp_path, signed=signed), Updates())
        fleet.close()
    assert (len(stimuli), events) == ((0, ["update_refused"]) if signed else (1, []))
