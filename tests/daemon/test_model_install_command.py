"""`limpet model install`, `rollback`, `use --pipeline`, `list` and `history`, with a real daemon."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.conftest import HEAD, Configure, pipeline, replay
from daemon.test_model_command import limpet
from daemon.test_model_versions import put, runs
from daemon.test_updates import COMMANDS, kept, made, whole
from daemon.test_updates import runs as gives
from limpet.cli import main
from support import models, trusting
from support.broker import wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = Path("/sys/kernel/mm/transparent_hugepage/enabled")
OTHER = 65534
"""A user and group without rights."""


def install(config: Path, *options: object) -> subprocess.CompletedProcess[str]:
    before = signal.getsignal(signal.SIGTERM)
    try:
        return done_here("install", *options, "--config", config)
    finally:
        signal.signal(signal.SIGTERM, before)


def done_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `limpet model` in this process, which is quicker."""
    printed, said = io.StringIO(), io.StringIO()
    words = ["model", *map(str, arguments)]
    with redirect_stdout(printed), redirect_stderr(said):
        status = main(words)
    return subprocess.CompletedProcess(words, status, printed.getvalue(), said.getvalue())


def rows(config: Path) -> dict[tuple[str, int, str], dict[str, Any]]:
    listed = json.loads(done_here("list", config, "--json").stdout)
    return {(row["model"], row["version"], row["where"]): row for row in listed}


def orders(folder: Path) -> list[str]:
    """Return the names of the files in the folder for orders."""
    requests = folder / "state" / "requests"
    return sorted(path.name for path in requests.iterdir()) if requests.exists() else []


def test_a_bundle_is_installed_shown_rolled_back_and_remembered(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    config = configure(replay("imu"), COMMANDS)
    stick = tmp_path / "stick"
    stick.mkdir()
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        for version in (1, 2):
            done = install(config, made(stick, version), "--pipeline", "motion", "--trial-windows", 3, "--yes")
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.splitlines()[-1] == f"motion: motion {version}: good"
        assert orders(tmp_path) == []
        shown = rows(config)
        assert {key: row["state"] for key, row in shown.items()} == {
            ("motion", 2, "deployed"): "running",
            ("motion", 1, "deployed"): "previous",
        }
        assert shown["motion", 2, "deployed"]["pipelines"] == ["motion"]
        done = done_here("rollback", "--config", config)
        assert (done.returncode, done.stdout) == (0, "motion: went back to motion 1\n")
        wait_until(lambda: consumer.results("motion")[-1]["version"] == 1)
        assert rows(config)["motion", 1, "deployed"]["state"] == "running"
        assert done_here("list", config).stdout.splitlines()[1].startswith("motion  2        previous")
        happened = json.loads(done_here("history", "motion", "--json", "--config", config).stdout)
        events = [one["event"] for one in happened if one.get("version") == 2]
        assert events == [
            "update_wanted",
            "update_staged",
            "update_admitted",
            "update_trial",
            "activated",
            "update_good",
        ]
        ordered = [one for one in happened if one["event"] == "command"]
        assert [one["reason"] for one in ordered] == ["update: obeyed", "update: obeyed", "rollback: obeyed"]
        assert {one["by"] for one in ordered} == {ordered[0]["by"]} != {""}
        told = done_here("history", "--config", config).stdout
        assert "went back to motion 1." in told
        assert f"motion: command rollback: obeyed, by {ordered[0]['by']}" in told
        assert told.splitlines()[-1].startswith(
            "now  motion: runs motion 1; update to motion 2: rolled back since"
        )
        assert told.splitlines()[-1].endswith("a rollback goes to motion 2")
        assert limpet("model", "rollback", "--config", config).returncode == 0
        older = [stick / "motion-1.limpet", "--pipeline", "motion", "--trial-windows", 3, "--yes"]
        done = install(config, *older)
        assert done.returncode == 1
        assert "Version 1 of motion is older than 2, which was good here." in done.stderr
        assert "limpet model install FILE --allow-older" in done.stderr
        assert install(config, *older, "--allow-older").returncode == 0
        assert running.stop() == 0
    assert whole(consumer.results("motion"))


def test_a_model_that_is_staged_is_put_to_work_on_command_and_ctrl_c_leaves_an_update_running(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    config = configure(replay("imu"), COMMANDS)
    command = [sys.executable, "-m", "limpet", "model", "install"]
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        done = install(config, made(tmp_path, 1), "--pipeline", "motion", "--staged", "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        assert "to put it to work, run: limpet model install --pipeline motion" in done.stdout
        row = rows(config)["motion", 1, "deployed"]
        assert (row["state"], row["stage"]) == ("candidate", "staged")
        placed = tmp_path / "state/deployed/motion-1.limpet"
        sound = placed.read_bytes()
        placed.write_bytes(sound[:300] + b"x" + sound[301:])
        row = rows(config)["motion", 1, "deployed"]
        assert (row["untrusted"], row["stage"]) == (False, "staged")
        assert "motion-1.limpet: " in row["problem"]
        placed.unlink()
        assert rows(config)["motion", 1, "deployed"]["problem"].endswith("No such file or directory")
        placed.write_bytes(sound)
        done = install(config)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "motion: motion 1: good")
        endless = [made(tmp_path, 2), "--yes", "--trial-windows", "1000000", "--config", config]
        with subprocess.Popen(
            [*command, *map(str, endless)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as asking:
            try:
                wait_until(lambda: kept(tmp_path)["stage"] == "trial" and gives(consumer, "motion"), 30)
            finally:
                asking.send_signal(signal.SIGINT)
            printed, said = asking.communicate(timeout=20)
        assert (asking.returncode, said) == (130, "")
        assert "the update goes on. To see how far it is, run: limpet model list" in printed
        assert rows(config)["motion", 2, "deployed"]["stage"] == "trial"
        done = done_here("rollback", "motion", "--config", config)
        assert (done.returncode, done.stdout) == (0, "motion: went back to motion 1\n")
        done = install(config)
        assert (done.returncode, done.stderr) == (
            1,
            "limpet: no model is staged. Run: limpet model install FILE\n",
        )
        assert running.stop() == 0


def test_what_does_not_get_to_good_says_why(configure: Configure, consumer: Consumer, tmp_path: Path) -> None:
    config = configure(replay("imu"), COMMANDS)
    wrong = made(tmp_path, 3, limits={"latency_ms": 0.000001})
    with daemon(config) as running:
        consumer.wait_results("motion", 5)
        done = install(config, wrong, "--pipeline", "motion", "--yes")
        assert done.returncode == 1
        assert "motion: motion 3: failed. Admission failed:" in done.stdout.splitlines()[-1]
        done = done_here("rollback", "motion", "--config", config)
        assert done.returncode == 1
        assert "motion: There is no other model to go back to." in done.stderr
        assert running.stop() == 0
    assert "failed" in done_here("history", "motion", "--config", config).stdout


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Path]:
    """Return a configuration whose daemon does not run, in a folder that other users can read."""
    with tempfile.TemporaryDirectory(dir=tmp_path.parents[2]) as made_folder:
        folder = Path(made_folder)
        folder.chmod(0o755)
        models.dense(folder / "dense.tflite", inputs=3, outputs=3)
        (folder / "recording.csv").write_text("ax,ay,az\n1,2,3\n")
        (folder / "state").mkdir()
        config = folder / "limpet.toml"
        parts = [HEAD.format(url="mqtt://127.0.0.1:1"), replay("imu"), COMMANDS, pipeline("other", "imu", "hum")]
        config.write_text("".join(parts))
        yield config


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no pipeline uses motion; there are: motion, other. Run it again with --pipeline NAME"),
        (["--pipeline", "motion"], "not a terminal, so Limpet cannot ask. Run again with --yes"),
        (["--pipeline", "moton", "--yes"], "there is no pipeline 'moton'"),
    ],
)
def test_what_is_not_clear_is_not_installed(quiet: Path, options: list[str], said: str) -> None:
    done = install(quiet, made(quiet.parent, 1), *options)
    assert done.returncode != 0
    assert said in done.stderr
    assert orders(quiet.parent) == []


def test_a_file_that_may_not_run_is_refused_and_nothing_is_left(quiet: Path) -> None:
    bundle = made(quiet.parent, 1)
    damaged = quiet.parent / "damaged.limpet"
    damaged.write_bytes(bundle.read_bytes()[:-200])
    (quiet.parent / "link.limpet").symlink_to(bundle)
    (quiet.parent / "empty.limpet").touch()
    os.mkfifo(quiet.parent / "fifo.limpet")
    for name, said in {
        "damaged": "not a bundle, or damaged",
        "link": "is a symbolic link; a regular file is expected",
        "empty": "has 0 bytes",
        "fifo": "is not a regular file",
        "missing": "No such file or directory",
    }.items():
        done = install(quiet, quiet.parent / f"{name}.limpet", "--pipeline", "motion", "--yes")
        assert done.returncode == 1
        assert said in done.stderr
        assert str(quiet.parent / "state") not in done.stderr
    if SHORT.exists():  # It has fewer bytes than it says, as a stick that is pulled in the middle.
        assert "it ended" in install(quiet, SHORT, "--pipeline", "motion", "--yes").stderr
        assert orders(quiet.parent) == []
    assert "limpet-convert package" in install(quiet, quiet.parent / "dense.tflite", "--yes").stderr
    quiet.write_text(quiet.read_text() + "\n[updates]\ndisk_bytes = 100\n")
    assert "updates.disk_bytes is 100. Raise it." in install(quiet, bundle, "--pipeline", "motion", "--yes").stderr
    assert orders(quiet.parent) == []


def test_a_person_at_the_terminal_is_asked(quiet: Path) -> None:
    bundle = made(quiet.parent, 1)
    command = [
        sys.executable,
        "-m",
        "limpet",
        "model",
        "install",
        bundle,
        "--pipeline",
        "motion",
        "--config",
        quiet,
    ]
    for answer, status in (("n", 1), ("y", 0)):
        ours, theirs = pty.openpty()
        with subprocess.Popen(list(map(str, command)), stdin=theirs, stdout=subprocess.PIPE, text=True) as asking:
            os.write(ours, f"{answer}\n".encode())
            printed = asking.communicate(timeout=20)[0]
        assert asking.returncode == status
        assert printed.startswith("motion 1, not signed, for pipeline motion\nInstall it? [y/N] ")
        assert orders(quiet.parent) == ([] if status else ["motion.json", "motion.limpet"])
        os.close(ours)
        os.close(theirs)


def test_without_a_daemon_an_update_and_a_rollback_begin_when_it_starts(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    config = configure(replay("imu"), COMMANDS)
    done = install(config, made(tmp_path, 1), "--pipeline", "motion", "--trial-windows", 3, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "motion: motion 1 waits. The update begins when the daemon starts\n"
    with daemon(config) as running:
        wait_until(lambda: kept(tmp_path)["stage"] == "good", 20)
        assert running.stop() == 0
    done = done_here("rollback", "--config", config)
    assert done.stdout == "motion: goes back to the configuration's model when the daemon starts\n"
    with daemon(config) as running:
        wait_until(lambda: kept(tmp_path)["stage"] == "rolled_back" and gives(consumer, "dense"), 20)
        assert running.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_root_installs_as_the_owner_of_the_state_directory(quiet: Path) -> None:
    bundle = made(quiet.parent, 1)
    bundle.chmod(0o600)  # A stick may be readable for the person alone who mounted it.
    os.chown(quiet.parent / "state", OTHER, OTHER)
    done = limpet("model", "install", bundle, "--pipeline", "motion", "--yes", "--config", quiet)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("motion.json", "motion.limpet"):
        status = (quiet.parent / "state/requests" / name).stat()
        assert (status.st_uid, status.st_mode & 0o077) == (OTHER, 0)
    shutil.rmtree(quiet.parent / "state/requests")
    (quiet.parent / "roots").mkdir()
    (quiet.parent / "state/requests").symlink_to(quiet.parent / "roots")
    done = limpet("model", "install", bundle, "--pipeline", "motion", "--yes", "--config", quiet)
    assert done.returncode == 1
    assert "is a symbolic link; a folder is expected" in done.stderr
    assert list((quiet.parent / "roots").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_root_installs_a_signed_bundle_as_the_owner_of_the_state_directory(quiet: Path) -> None:
    keys = trusting.Keys()
    (quiet.parent / "root.json").write_bytes(trusting.root(keys))
    quiet.write_text(quiet.read_text() + '\n[trust]\nroot = "root.json"\n')
    bundle = trusting.bundle(made(quiet.parent, 1), [keys.maker])
    os.chown(quiet.parent / "state", OTHER, OTHER)
    done = limpet("model", "install", bundle, "--pipeline", "motion", "--yes", "--config", quiet)
    assert (done.returncode, done.stderr) == (0, "")
    assert (quiet.parent / "state/requests/motion.limpet").stat().st_uid == OTHER


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_is_shown_what_to_run(quiet: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = made(quiet.parent, 1)
    assert main(["model", "install", str(bundle), "--config", str(quiet)]) != 0  # Python's files are read as root.
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setresgid(OTHER, OTHER, OTHER)
        os.setresuid(OTHER, OTHER, OTHER)
        options = ["--pipeline", "motion", "--yes", "--config", str(quiet)]
        status = main(["model", "install", str(bundle), *options])
        sys.stderr.flush()
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    way = f"Run: sudo limpet model install {bundle} --pipeline motion --yes --config {quiet}"
    assert way in capfd.readouterr().err
    assert orders(quiet.parent) == []


def test_a_pin_of_a_pipeline_wins_over_one_of_a_name_and_over_an_update(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    for version in (1, 2):
        put(tmp_path, version)
    config = configure(replay("left"), pipeline("one", "left", "motion"), pipeline("two", "left", "motion"))
    with daemon(config) as running:
        wait_until(lambda: runs(consumer, 2))
        done = done_here("use", "motion-1", config, "--pipeline", "one")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("one: runs motion 1\n")
        wait_until(lambda: runs(consumer, 1))
        assert consumer.last("health/two")["version"] == 2
        assert rows(config)["motion", 1, "store"]["pinned"]
        done = install(config, made(tmp_path, 3), "--pipeline", "one", "--yes")
        assert "A person pinned the model of this pipeline. Remove the pin first." in done.stderr
        assert "Run: limpet model use motion@newest --pipeline one" in done.stderr
        done = done_here("use", "motion@newest", config, "--pipeline", "one")
        assert done.stdout.endswith("one: runs motion 2\n")
        done = install(config, made(tmp_path, 3), "--pipeline", "one", "--trial-windows", 3, "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        done = done_here("use", "motion-1", config)
        assert "one: runs motion 3, which came by an update." in done.stdout
        assert "To run one of the store there, run: limpet model use motion-VERSION --pipeline one" in done.stdout
        assert done.stdout.endswith("one: runs motion 3\ntwo: runs motion 1\n")
        done = done_here("use", "motion-2", config, "--pipeline", "one")
        assert "one: its own pin, version 2, wins over version 1" in done.stdout
        assert "one: motion 3, which came by an update, does not run while the pin is there" in done.stdout
        assert done.stdout.endswith("one: runs motion 2\n")
        assert "one is pinned, so its update's model, motion 3, does not run" in done_here("list", config).stdout
        assert done_here("use", "motion@newest", config, "--pipeline", "one").stdout.endswith("runs motion 3\n")
        done = done_here("use", "motion-3", config)
        assert "there is no version 3 of motion in" in done.stderr
        assert running.stop() == 0
