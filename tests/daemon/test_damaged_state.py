"""A real daemon whose state directory a failing card or a stranger has written to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.conftest import Configure, pipeline, replay
from limpet.isolation import closed_memory
from support.broker import wait_until
from support.daemon import Consumer, daemon


def test_it_starts_on_any_state_says_what_was_damaged_and_follows_no_link(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    def reasons_of(event: str) -> list[str]:
        """Return the reasons of the device's events of a kind."""
        every = [message.json for message in list(consumer.messages) if message.topic.endswith("/event")]
        return [content["reason"] for content in every if content["event"] == event]

    path = configure(replay("left"), pipeline("one", "left"))
    precious = tmp_path / "precious"
    precious.write_bytes(b"x" * 5000)
    state, run = tmp_path / "state", tmp_path / "run"
    (state / "reporters/mqtt").mkdir(parents=True)
    (state / "reporters/mqtt/outbox.db").write_bytes(os.urandom(20_000))
    (state / "reporters/mqtt/ballast").symlink_to(precious)
    (state / "boot.json").write_bytes(b'{"count": 1, "installation": "a/\xff"}')
    (state / "boot.new").symlink_to(precious)
    os.mkfifo(state / "lock")
    (state / "updates.json").write_text('{"pipelines": {"one": {"stage": "goo"}}}')
    for name in ("deployed", "downloads", "requests"):
        (state / name).symlink_to(tmp_path)
    run.mkdir()
    (run / "reporters/mqtt/write-ahead-log").mkdir(parents=True)
    os.mkfifo(run / "reporters/mqtt/write-ahead-log/00000001.log")
    for name in ("alive", "alive.new"):
        (run / name).symlink_to(precious)
    with daemon(path, {"RUNTIME_DIRECTORY": str(run)}) as running:
        consumer.wait_results("one", 20)
        wait_until(lambda: (run / "alive").is_file() and not (run / "alive").is_symlink(), 20)
        wait_until(lambda: len(reasons_of("state_damaged")) >= 4, 20)
        assert running.stop() == 0
    assert precious.read_bytes() == b"x" * 5000
    reasons = " ".join([*reasons_of("state_damaged"), *reasons_of("outbox_degraded")])
    for what in ("lock is a FIFO", "boot.json", "updates.json", "00000001.log", "outbox.db: not a database"):
        assert what in reasons


@pytest.mark.parametrize("what", ["boot.json", "updates.json", "reporters/mqtt/outbox.db", "lock"])
@pytest.mark.parametrize("how", ["noise", "directory", "fifo"])
def test_a_reset_works_on_any_state(tmp_path: Path, what: str, how: str) -> None:
    path = tmp_path / "state" / what
    path.parent.mkdir(parents=True)
    if how == "noise":
        path.write_bytes(b"\xff" * 5000)
    elif how == "fifo":
        os.mkfifo(path)
    else:
        (path / "inside").mkdir(parents=True)
    command = [sys.executable, "-m", "limpet", "reset", "--yes", "--state", tmp_path / "state"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    left = {each.name for each in (tmp_path / "state").rglob("*") if each.is_file()}
    assert left == {"boot.json", "lock", "audit.jsonl"}
    assert json.loads((tmp_path / "state/boot.json").read_bytes())["count"] == 0


HIDDEN = """
import os, sys, time
from pathlib import Path
from limpet.isolation.closed_memory import close_memory
assert close_memory()
assert "Pss:" in Path(f"/proc/{os.getpid()}/smaps_rollup").read_text()
print("closed", flush=True)
time.sleep(60)
"""
PRYING = """
import sys
from pathlib import Path
for name in ("environ", "mem", "maps", "smaps_rollup"):
    try:
        Path(f"/proc/{sys.argv[1]}/{name}").read_bytes()[:1]
        print(name)
    except PermissionError:
        pass
"""


def test_another_process_of_the_same_user_reads_neither_memory_nor_environment(tmp_path: Path) -> None:
    del tmp_path
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    if as_nobody and not shutil.which("setpriv"):
        pytest.skip("root without setpriv")
    # Another user may not be allowed to read this folder, so the module goes along as text.
    module = Path(closed_memory.__file__).read_text()
    code = HIDDEN.replace("from limpet.isolation.closed_memory import close_memory", module, 1)
    code = code.replace("from __future__ import annotations\n", "")
    with subprocess.Popen([*as_nobody, "/usr/bin/env", "python3", "-c", code], stdout=subprocess.PIPE) as hidden:
        assert hidden.stdout
        assert hidden.stdout.readline() == b"closed\n"
        prying = [*as_nobody, "/usr/bin/env", "python3", "-c", PRYING, str(hidden.pid)]
        assert subprocess.run(prying, capture_output=True, text=True, check=True).stdout == ""
        hidden.kill()
