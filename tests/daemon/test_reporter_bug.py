"""A bug in a reporter's thread ends the daemon: it must not run on and report nothing."""

from __future__ import annotations

from pathlib import Path

from daemon.conftest import Configure, pipeline, replay
from support.broker import wait_until
from support.daemon import daemon

BUGGY = '''
"""A reporter of a third party, with a bug."""

import contextlib
import pathlib
import threading
import time

import msgspec


class Config(msgspec.Struct):
    """Nothing to set."""


class Buggy:
    def __init__(self, feed):
        self.feed = feed
        threading.Thread(target=self.work, name="buggy", daemon=True).start()

    def work(self):
        while not self.feed.read():
            self.feed.wait()
        while not pathlib.Path(__file__).with_name("now").exists():
            time.sleep(0.01)
        {}["nobody thought of this"]

    def health(self):
        return {}


@contextlib.contextmanager
def open(config, context):
    yield Buggy(context.feed)
'''


def test_a_bug_in_a_reporters_thread_is_logged_and_ends_the_daemon(configure: Configure, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "buggy-1.dist-info").mkdir(parents=True)
    (site / "buggy.py").write_text(BUGGY)
    (site / "buggy-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: buggy\nVersion: 1\n")
    (site / "buggy-1.dist-info" / "entry_points.txt").write_text("[limpet.reporters]\nbuggy = buggy\n")
    path = configure(replay("left"), pipeline("one", "left"), '[reporters.buggy]\nkind = "buggy"\n')
    with daemon(path, {"PYTHONPATH": str(site)}) as running:
        wait_until(running.descendants)
        processes = running.descendants()
        (site / "now").touch()
        assert running.wait() == 1
    assert "the thread 'buggy' has a bug" in running.log
    assert "KeyError: 'nobody thought of this'" in running.log
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
