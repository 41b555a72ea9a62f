"""A wake-up ends a wait, from another thread and from a signal handler."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import closing

from limpet.wakeup import Wakeup


def waits(wakeup: Wakeup, seconds: float) -> bool:
    return not select.select([wakeup.socket], [], [], seconds)[0]


def test_it_ends_the_wait_of_another_thread_once() -> None:
    with closing(Wakeup()) as wakeup:
        threading.Thread(target=wakeup.wake).start()
        assert not waits(wakeup, 10)
        wakeup.clear()
        assert waits(wakeup, 0)


def test_more_wake_ups_than_are_taken_are_one_and_late_ones_do_nothing() -> None:
    with closing(Wakeup()) as wakeup:
        for _ in range(100_000):
            wakeup.wake()
        assert not waits(wakeup, 0)
    wakeup.wake()


def test_clearing_without_a_wake_up_does_not_wait() -> None:
    with closing(Wakeup()) as wakeup:
        wakeup.clear()
        assert waits(wakeup, 0)


def test_a_signal_ends_a_wait() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with closing(Wakeup()) as wakeup:
            wakeup.on_signals()
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not waits(wakeup, 10)
            signal.set_wakeup_fd(-1)
    finally:
        signal.signal(signal.SIGUSR1, before)
