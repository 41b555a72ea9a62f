"""A real daemon before and after a factory reset."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from daemon.conftest import Configure, pipeline, replay
from limpet.dedupe import Dedupe
from limpet.delivery.outbox.database import Database
from limpet.device import boot
from limpet.models import deployed
from limpet.updates.state import Deployed, Update, Updates
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path

    from support.broker import Mosquitto


def reset(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "limpet", "reset", *options]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def answered(answer: str, *options: str | Path) -> int:
    """Run it on a terminal where a person gives this answer; return its exit status."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "limpet", "reset", *options]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as asking:
        os.write(ours, answer.encode() + b"\n")
        printed = asking.communicate(timeout=20)[1]
        status = asking.returncode
    assert printed == (b"limpet: nothing was deleted\n" if status else b"")
    os.close(ours)
    os.close(theirs)
    return status


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """Return a state directory as a daemon leaves it, with a file in it that is not Limpet's."""
    state = tmp_path / "state"
    for name in (
        "reporters/mqtt/write-ahead-log/00000001.log",
        "reporters/mqtt/outbox.db",
        "cache/x.tflite",
        "models/m-1.limpet",
        "diary",
    ):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text("x")
    boot.next_boot(state)
    return state


def left(state: Path) -> set[str]:
    return {str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()}


def test_what_waits_is_gone_and_ids_do_not_come_again(
    configure: Configure, consumer: Consumer, broker: Mosquitto, tmp_path: Path
) -> None:
    path = configure(replay("left"), pipeline("one", "left"))
    state = tmp_path / "state"
    with daemon(path) as running:
        consumer.wait_results("one", 20)
        before = left(state)
        refused = reset("--yes", path)
        assert refused.returncode == 1
        assert "a daemon runs with" in refused.stderr
        assert left(state) >= before
        consumer.wait_results("one", 20)
        broker.stop()
        assert running.stop() == 0
    earlier = consumer.results("one")
    with closing(Database(state / "reporters/mqtt/outbox.db")) as disk:
        assert disk.messages["result"] + disk.messages["event"] > 0

    done = reset("--yes", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert left(state) == {"boot.json", "lock", "audit.jsonl", "audit.head"}
    assert path.exists()

    broker.start()
    with daemon(path) as running:
        consumer.wait_results("one", 20)
        assert running.stop() == 0
    later = consumer.results("one")[len(earlier) :]
    boots = [results[0]["boot"].split("-") for results in (earlier, later)]
    assert [int(count) for count, _ in boots] == [1, 2]
    assert boots[0][1] != boots[1][1]
    seen = Dedupe()
    assert all(seen.add(result["id"]) for result in earlier + later)


def test_what_is_not_limpets_stays(used: Path) -> None:
    assert reset("--yes", "--state", used).returncode == 0
    assert left(used) == {"diary", "boot.json", "lock", "audit.jsonl"}
    assert (used / "models").is_dir()


def test_models_of_updates_go_and_what_refuses_replayed_requests_stays(used: Path) -> None:
    there = Deployed(model="m", version=3, sha256="a" * 64, file_sha256="b" * 64, length=1)
    updates = {
        "one": Update(pipeline="one", stage="good", good=there, serial=7, heard={"mqtt": "c" * 64}),
        "two": Update(pipeline="two", stage="downloading"),
    }
    deployed.write(used, Updates(pipelines=updates, highest={"m": 3}, latest=4e9))
    for name in ("deployed/m-3.limpet", "downloads/two/bundle.part", "requests/two.json"):
        (used / name).parent.mkdir(parents=True)
        (used / name).write_text("x")
    assert reset("--yes", "--state", used).returncode == 0
    assert left(used) == {"diary", "boot.json", "lock", "audit.jsonl", "updates.json"}
    assert deployed.read(used) == Updates(pipelines={"one": Update(pipeline="one", serial=7)}, highest={"m": 3})


def test_nobody_to_ask(used: Path) -> None:
    before = left(used)
    refused = reset("--state", used)
    assert (refused.returncode, refused.stderr) == (
        1,
        "limpet: not a terminal, so Limpet cannot ask. Run again with --yes\n",
    )
    assert left(used) == before | {"lock"}


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("YES", 0), ("n", 1), ("", 1), ("\x04", 1)])
def test_somebody_to_ask(used: Path, answer: str, status: int) -> None:
    assert answered(answer, "--state", used) == status
    assert ("models/m-1.limpet" in left(used)) == bool(status)


def test_the_configuration_goes_only_with_all(used: Path, tmp_path: Path) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(
        f'[device]\nid = "d"\nstate = "{used}"\n[sources.s]\nkind = "replay"\npath = "x"\n'
        '[pipelines.p]\nsource = "s"\nmodel = "m"\n'
    )
    assert reset("--yes", path).returncode == 0
    assert path.exists()
    assert reset("--yes", "--all", path).returncode == 0
    assert not path.exists()


def test_a_configuration_that_is_wrong_elsewhere_is_good_enough(used: Path, tmp_path: Path) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text('nonsense = 1\n[device]\nid = 7\nstate = "state"\n')
    assert reset("--yes", path).returncode == 0
    assert left(used) == {"diary", "boot.json", "lock", "audit.jsonl"}


def test_a_configuration_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "limpet.toml").write_text("[device")
    refused = reset("--yes", tmp_path / "limpet.toml")
    assert refused.returncode == 78
    assert "--state" in refused.stderr
    assert "nothing to reset" in reset("--yes", "--state", tmp_path / "absent").stderr


@pytest.mark.parametrize(
    "name", ["models", "reporters", "cache", "lock", "boot.json", "boot.new", "deployed", "updates.json"]
)
def test_what_a_link_leads_to_is_left_alone(used: Path, tmp_path: Path, name: str) -> None:
    """Root resets a directory in which the service's user could have laid links to anywhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    target = elsewhere if (used / name).is_dir() else elsewhere / "precious"
    if (used / name).exists():
        (used / name).rename(tmp_path / "aside")
    (used / name).symlink_to(target)
    before = left(used)
    refused = reset("--yes", "--state", used)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"{name} is a link to {target}" in refused.stderr
    assert left(used) == before
    assert (elsewhere / "precious").read_text() == "x"


READ_ONLY = """
import subprocess, sys
state = sys.argv[1]
subprocess.run(["mount", "--bind", state, state], check=True)
subprocess.run(["mount", "-o", "remount,ro,bind", state], check=True)
sys.exit(subprocess.run([sys.executable, "-m", "limpet", "reset", "--yes", "--state", state]).returncode)
"""


def test_what_cannot_be_written_is_reported_in_one_line(used: Path) -> None:
    command = ["unshare", "-Urm", sys.executable, "-c", READ_ONLY, used]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == f"limpet: {used} cannot be written by this user"
    assert "reporters/mqtt/outbox.db" in left(used)


def test_a_damaged_record_of_boots_is_renewed(used: Path) -> None:
    (used / "boot.json").write_bytes(b"\x00")
    assert reset("--yes", "--state", used).returncode == 0
    assert msgspec.json.decode((used / "boot.json").read_bytes())["count"] == 0
    assert boot.next_boot(used).startswith("1-")
