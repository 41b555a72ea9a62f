"""A worker's sandbox, tried from inside: a process that entered it does what a worker must and must not do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import limpet
from limpet import config
from limpet.contracts.needs import Endpoint, Needs
from limpet.device import directories
from limpet.errors import ConfigError
from limpet.isolation import device_nodes
from limpet.sources import serial
from support import bundles, models
from support.jail import Jail, of_executor, of_worker
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.isolation.permissions import Permissions

HEAD = '[device]\nid = "d"\nstate = "state"\n[mqtt]\nurl = "mqtt://127.0.0.1"\npassword_file = "mqtt-password"\n'
PIPELINE = (
    '[pipelines.p]\nsource = "s"\nmodel = "{model}"\nwindow = {{ size = 1 }}\ndecoder = {{ kind = "regress" }}\n'
)
SERIAL = '[sources.s]\nkind = "serial"\nport = "{port}"\nchannels = ["a", "b", "c"]\n'
REPLAY = '[sources.s]\nkind = "replay"\npath = "recording.csv"\nrate = 10\n'
REFUSED = {"EPERM", "EACCES"}


def write(folder: Path, source: str, model: str = "dense.tflite", name: str = "limpet.toml") -> Path:
    folder.mkdir(exist_ok=True)
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    (folder / "recording.csv").write_text("a,b,c\n" + "1,2,3\n" * 8)
    (folder / "mqtt-password").write_text("secret")
    path = folder / name
    path.write_text(HEAD + source + PIPELINE.format(model=model))
    return path


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with Board(tmp_path / "port") as plugged:
        yield plugged


@pytest.fixture
def jail(tmp_path: Path, board: Board) -> Iterator[Jail]:
    with Jail(write(tmp_path, SERIAL.format(port=board.path))) as entered:
        yield entered


def wanted(path: Path) -> Permissions:
    return of_worker(config.read(path))


def accelerated(folder: Path, kind: str, options: str = "", source: str = REPLAY) -> Path:
    """Write a configuration with a delegate ``board``."""
    path = write(folder, source)
    table = f'[delegates.board]\nkind = "{kind}"\nlibrary = "libboard.so"\noptions = {{ {options} }}\n'
    path.write_text(path.read_text().replace("window =", 'delegates = ["board"]\nwindow =') + table)
    return path


def test_it_says_what_is_in_force(jail: Jail) -> None:
    version = next(word for word in jail.in_force if word.startswith("landlock-"))
    assert set(jail.in_force) == {"no-new-privileges", "limits", version, "seccomp", "no-network"}


def test_it_opens_no_socket(jail: Jail) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert jail.attempt(f"tcp {server.getsockname()[1]}") in REFUSED
    assert jail.attempt("listen") in REFUSED
    for family in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_PACKET"):
        assert jail.attempt(f"socket {family}") in REFUSED, family


def test_it_reads_no_secret(jail: Jail, tmp_path: Path) -> None:
    parent = os.getpid()
    for secret in (
        tmp_path / "mqtt-password",
        tmp_path / "limpet.toml",
        "/etc/shadow",
        f"/proc/{parent}/environ",
        f"/proc/{parent}/mem",
        f"/proc/{parent}/root{tmp_path}/mqtt-password",
    ):
        assert jail.attempt(f"read {secret}") in REFUSED, secret
    assert jail.attempt(f"list {tmp_path}") in REFUSED


def test_it_writes_nowhere_but_in_its_cache(jail: Jail, tmp_path: Path) -> None:
    for place in (tmp_path / "new", tmp_path / "state" / "outbox.db", "/tmp/limpet-new", "/dev/shm/limpet-new"):  # noqa: S108
        assert jail.attempt(f"create {place}") in REFUSED, place
    assert jail.attempt(f"overwrite {tmp_path / 'dense.tflite'}") in REFUSED
    assert jail.attempt(f"delete {tmp_path / 'dense.tflite'}") in REFUSED
    own = directories.models_cache(tmp_path / "state", "s") / "model"
    assert jail.attempt(f"create {own}") == "done"
    assert jail.attempt(f"delete {own}") == "done"


def test_it_writes_to_no_other_workers_models_and_to_nothing_that_executors_run(
    jail: Jail, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    others = [directories.models_cache(state, "other"), directories.drivers_cache(state, "p")]
    for folder in others:
        folder.mkdir(parents=True)
        (folder / "there").write_bytes(b"x")
    for folder in (*others, state / "cache", state / "cache" / "models"):
        assert jail.attempt(f"create {folder / 'new'}") in REFUSED, folder
    for folder in others:
        assert jail.attempt(f"overwrite {folder / 'there'}") in REFUSED, folder
        assert jail.attempt(f"read {folder / 'there'}") in REFUSED, folder


def test_it_changes_neither_modes_nor_times_nor_attributes(jail: Jail, tmp_path: Path) -> None:
    """Landlock does not know these. The user owns the files, so only the filter of system calls is in the way."""
    for what in ("chmod", "touch", "attribute"):
        for path in (tmp_path / "mqtt-password", tmp_path / "dense.tflite"):
            assert jail.attempt(f"{what} {path}") in REFUSED, what


MODES = """
import os, sys
from pathlib import Path
from limpet.isolation import sandbox
from limpet.isolation.permissions import Permissions
folder = Path(sys.argv[1])
file = os.open(folder / "file", os.O_RDWR | os.O_CREAT, 0o640)
sandbox.enter(Permissions(scratch=frozenset({folder} if sys.argv[2] == "scratch" else ())))
for mode in (0o100644, 0o100777, 0o104600, 0o100600):
    try:
        os.fchmod(file, mode)
        print("done")
    except PermissionError:
        print("refused")
"""


@pytest.mark.parametrize(("has", "last"), [("scratch", "done"), ("nothing", "refused")])
def test_with_a_scratch_folder_alone_it_takes_rights_to_a_file_from_others_and_gives_none(
    has: str, last: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", MODES, tmp_path, has]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.split() == ["refused", "refused", "refused", last]
    assert (tmp_path / "file").stat().st_mode & 0o777 == (0o600 if last == "done" else 0o640)


def test_it_sets_no_limit_and_no_priority_of_others(jail: Jail) -> None:
    parent = os.getpid()
    for what in ("limit", "priority", "processors", "owner"):
        assert jail.attempt(f"{what} {parent}") in REFUSED, what
    assert jail.attempt("limit 0") == "done"


def test_it_changes_the_priority_of_no_group_of_processes(jail: Jail) -> None:
    """Where the kernel takes 0 for the caller's group or user, the supervisor belongs to it."""
    for kind in (os.PRIO_PGRP, os.PRIO_USER):
        assert jail.attempt(f"priorities {kind}") in REFUSED, kind
    assert jail.attempt(f"priorities {os.PRIO_PROCESS}") == "done"


def test_it_empties_no_file(jail: Jail, tmp_path: Path) -> None:
    """Landlock knows that from version 3 on, so that the filter refuses it on older kernels."""
    for path in (tmp_path / "mqtt-password", tmp_path / "dense.tflite"):
        assert jail.attempt(f"truncate {path}") == "EPERM", path
        assert path.stat().st_size
    for mode in (os.O_RDONLY, os.O_ACCMODE):
        assert jail.attempt(f"empty {mode}") == "EPERM", mode


def test_it_cannot_outlive_the_supervisor(jail: Jail) -> None:
    assert jail.attempt("outlive") in REFUSED


def test_it_leaves_no_memory_and_no_messages_behind(jail: Jail) -> None:
    """Memory of System V outlives its process, and counts against the limit of the service."""
    for what in ("shmget 0 4096 1023", "semget 0 1 1023", "msgget 0 1023"):
        assert jail.attempt(f"call {what}") in REFUSED, what


def test_it_reaches_no_other_socket_from_a_pair_of_its_own(jail: Jail) -> None:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC):
        assert jail.attempt(f"pair {int(kind)}") in REFUSED, kind
    assert jail.attempt(f"pair {int(socket.SOCK_STREAM)}") == "done"


def test_the_working_directory_stays_closed_though_python_looks_for_modules_there(
    tmp_path: Path, board: Board
) -> None:
    """``python -m limpet`` puts it before all other folders. For a service it is /."""
    path = write(tmp_path, SERIAL.format(port=board.path))
    (tmp_path / "below").mkdir()
    for folder in (tmp_path, tmp_path / "below"):
        with Jail(path, folder=folder) as entered:
            assert entered.attempt(f"read {tmp_path / 'mqtt-password'}") in REFUSED
            assert entered.attempt(f"list {folder}") in REFUSED


def test_a_working_directory_that_was_deleted_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with Jail(write(tmp_path, REPLAY)) as entered:
        assert "seccomp" in entered.in_force
        assert entered.attempt(f"read {tmp_path / 'mqtt-password'}") in REFUSED


def test_it_cannot_read_the_state_where_there_is_no_store(jail: Jail, tmp_path: Path) -> None:
    assert not (tmp_path / "state" / "models").exists()
    (tmp_path / "state" / "outbox.db").write_text("results of all pipelines")
    assert jail.attempt(f"read {tmp_path / 'state' / 'outbox.db'}") in REFUSED
    assert jail.attempt(f"list {tmp_path / 'state'}") in REFUSED


def test_it_starts_no_program(jail: Jail) -> None:
    for what in ("exec /bin/true", "spawn /bin/true", "fork"):
        assert jail.attempt(what) in REFUSED, what


def test_it_signals_nobody(jail: Jail) -> None:
    assert jail.attempt(f"signal {os.getpid()}") in REFUSED
    assert jail.attempt("signal -1") in REFUSED


def test_it_types_nothing_into_a_terminal(jail: Jail) -> None:
    assert jail.attempt("ioctl 5401") == "ENOTTY"
    assert jail.attempt("ioctl 5412") == "EPERM"
    # The kernel takes the lower 32 bits alone.
    assert jail.attempt("ioctl 100005412") == "EPERM"


def test_it_cannot_say_who_goes_when_memory_runs_out(jail: Jail) -> None:
    assert jail.attempt("overwrite /proc/self/oom_score_adj") in REFUSED


def test_its_work_goes_on(jail: Jail, tmp_path: Path) -> None:
    assert jail.attempt("thread") == "done"
    assert jail.attempt(f"read {tmp_path / 'dense.tflite'}") == "done"
    assert jail.attempt("read /proc/self/stat") == "done"


def test_a_source_opens_its_own_port_and_no_other_device(jail: Jail, board: Board, tmp_path: Path) -> None:
    assert jail.attempt(f"terminal {board.path}") == "done"
    with Board(tmp_path / "other") as other:
        assert jail.attempt(f"terminal {other.path}") in REFUSED
    for device in ("/dev/full", "/dev/tty", "/dev/ptmx"):
        assert jail.attempt(f"overwrite {device}") in REFUSED, device
    assert jail.attempt("list /dev") in REFUSED


def test_a_device_that_comes_back_is_another_node_for_the_sandbox(jail: Jail, board: Board) -> None:
    """Landlock's rules hold for a node, whatever its name: ``worker.device_watch`` has the worker start again."""
    before = board.path.readlink()
    holder = os.open(before, os.O_RDWR | os.O_NOCTTY)  # so that it does not come back under the same name
    known = device_nodes.present([str(board.path)])
    board.unplug()
    assert jail.attempt(f"terminal {board.path}") == "ENOENT"
    assert device_nodes.replaced([str(board.path)], known) == []
    board.plug()
    assert board.path.readlink() != before
    os.close(holder)
    assert jail.attempt(f"terminal {board.path}") in REFUSED
    assert device_nodes.replaced([str(board.path)], known) == [board.path.resolve()]


def test_a_pseudo_terminal_that_comes_back_under_its_number_is_another_node(board: Board) -> None:
    """The number of its inode is the same."""
    known = device_nodes.present([str(board.path)])
    assert device_nodes.replaced([str(board.path)], known) == []
    number = board.path.readlink()
    board.unplug()
    board.plug()
    if board.path.readlink() == number:  # unless another process took it meanwhile
        assert device_nodes.replaced([str(board.path)], known) == [number]


def test_a_pattern_opens_the_devices_that_match(tmp_path: Path) -> None:
    with Jail(write(tmp_path, SERIAL.format(port="hwgrep://USB"))) as jail:
        assert jail.attempt("list /dev") == "done"
        assert jail.attempt("overwrite /dev/full") in REFUSED
    done = subprocess.run([sys.executable, "-c", PATTERN], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["opened", "refused"]


PATTERN = """
import os
from limpet.isolation import sandbox
from limpet.isolation.permissions import Permissions
sandbox.enter(Permissions(devices=frozenset({"/dev/ful?"})))
for device in ("/dev/full", "/dev/random"):
    try:
        os.close(os.open(device, os.O_RDWR))
    except PermissionError:
        print("refused")
    else:
        print("opened")
"""


def test_only_devices_are_taken_for_devices(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert not device_nodes.present([str(tmp_path), str(tmp_path / "file"), str(tmp_path / "round"), "/dev/gone"])
    assert {node.path for node in device_nodes.present(["/dev/shm"])} == {Path("/dev/shm")}  # noqa: S108


def test_models_load_and_run_and_so_do_those_that_come_later(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    store = tmp_path / "config" / "state" / "models"
    store.mkdir(parents=True)
    later = models.dense(tmp_path / "later.tflite", inputs=3, outputs=3)
    first = write(folder, SERIAL.format(port="/dev/null"))
    with Jail(first) as jail:
        assert jail.attempt(f"read {first}") in REFUSED
        copied = store / "later.tflite"
        copied.write_bytes(later.read_bytes())
        assert jail.attempt(f"read {copied}") == "done"
        assert jail.attempt(f"read {later}") in REFUSED


def test_an_interpreter_still_loads_and_invokes(tmp_path: Path) -> None:
    (tmp_path / "readable").mkdir()
    second = write(tmp_path / "readable", REPLAY)
    models.dense(tmp_path / "readable" / "model.tflite", inputs=3, outputs=3)
    path = tmp_path / "limpet.toml"
    path.write_text(
        second.read_text()
        .replace('"dense.tflite"', '"readable/model.tflite"')
        .replace('"recording.csv"', '"readable/recording.csv"')
    )
    with Jail(path) as jail:
        assert jail.attempt(f"invoke {second}") == "done"
        assert jail.attempt("tcp 9") in REFUSED


def test_a_recording_needs_no_devices(tmp_path: Path, board: Board) -> None:
    with Jail(write(tmp_path, REPLAY)) as jail:
        assert jail.attempt(f"read {tmp_path / 'recording.csv'}") == "done"
        assert jail.attempt(f"terminal {board.path.resolve()}") in REFUSED
        assert jail.attempt("socket AF_NETLINK") in REFUSED


def test_a_source_reaches_the_port_of_its_endpoint_and_no_other(tmp_path: Path) -> None:
    """The address is not checked: no filter in the kernel sees it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port = server.getsockname()[1]
        with Jail(write(tmp_path, SERIAL.format(port=f"socket://127.0.0.1:{port}"))) as jail:
            assert "no-network" not in jail.in_force
            assert jail.attempt(f"tcp {port}") == "done"
            assert jail.attempt("listen") in REFUSED
            assert jail.attempt(f"read {tmp_path / 'mqtt-password'}") in REFUSED
            for way_around in ("datagram", f"stream {socket.IPPROTO_SCTP}", "stream 262", f"stream {2**32 + 262}"):
                assert jail.attempt(way_around) in REFUSED, way_around
            assert jail.attempt(f"fastopen {other.getsockname()[1]}") in REFUSED
            if "tcp-ports" in jail.in_force:  # from Landlock 4 on, Linux 6.7
                assert jail.attempt(f"tcp {other.getsockname()[1]}") in REFUSED


def test_a_source_may_ask_for_the_address_of_a_name(tmp_path: Path) -> None:
    with Jail(write(tmp_path, SERIAL.format(port="socket://localhost:9"))) as jail:
        assert jail.attempt("datagram") == "done"
        assert jail.attempt("stream 262") in REFUSED


@pytest.mark.parametrize(
    ("port", "declared"),
    [
        ("spy:///dev/ttyUSB0", Needs(devices=("/dev/ttyUSB0",))),
        ("/dev/serial/by-id/usb-x", Needs(devices=("/dev/serial/by-id/usb-x",))),
        ("SOCKET://127.0.0.1:9", Needs(endpoints=(Endpoint("127.0.0.1", 9),))),
        ("rfc2217://gateway:4000?logging=debug", Needs(endpoints=(Endpoint("gateway", 4000),))),
        ("loop://", Needs()),
    ],
)
def test_a_serial_source_needs_its_port_alone(port: str, declared: Needs) -> None:
    assert serial.needs(serial.Config(port=port, channels=["a"])) == declared


@pytest.mark.parametrize("port", ["socket://127.0.0.1", "socket://:9", "rfc2217://h:99999", "socket://h:x"])
def test_an_endpoint_has_a_host_and_a_port(port: str) -> None:
    with pytest.raises(ConfigError, match="port"):
        serial.needs(serial.Config(port=port, channels=["a"]))


@pytest.mark.parametrize("library", ["state/cache/models/s/libboard.so", "state/cache/libboard.so", "link.so"])
def test_a_delegate_from_where_workers_write_is_refused(tmp_path: Path, library: str) -> None:
    path = accelerated(tmp_path, "external")
    path.write_text(path.read_text().replace("libboard.so", f"./{library}"))
    (tmp_path / "link.so").symlink_to(tmp_path / "state" / "cache" / "models" / "s" / "libboard.so")
    with pytest.raises(ConfigError, match="workers may write"):
        of_executor(config.read(path), "board")


@pytest.fixture
def executor(tmp_path: Path, board: Board) -> Iterator[Jail]:
    source = SERIAL.format(port=board.path)
    with Jail(
        accelerated(tmp_path, "edgetpu", f'log = "{tmp_path / "log" / "file"}"', source), "board"
    ) as entered:
        yield entered


def test_an_executor_gives_up_as_much_as_a_worker(executor: Jail, tmp_path: Path) -> None:
    assert {"no-new-privileges", "limits", "seccomp", "no-network"} < set(executor.in_force)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert executor.attempt(f"tcp {server.getsockname()[1]}") in REFUSED
    for secret in (tmp_path / "mqtt-password", tmp_path / "limpet.toml", f"/proc/{os.getpid()}/environ"):
        assert executor.attempt(f"read {secret}") in REFUSED, secret
    for what in ("fork", "exec /bin/true", f"signal {os.getpid()}", f"create {tmp_path / 'new'}"):
        assert executor.attempt(what) in REFUSED, what


def test_an_executor_only_reads_its_model(executor: Jail, tmp_path: Path) -> None:
    assert executor.attempt(f"read {tmp_path / 'dense.tflite'}") == "done"
    assert executor.attempt(f"overwrite {tmp_path / 'dense.tflite'}") in REFUSED
    assert executor.attempt(f"read {tmp_path / 'recording.csv'}") in REFUSED
    for folder in ("", "models", "models/s", "drivers/other"):
        path = tmp_path / "state" / "cache" / folder
        path.mkdir(parents=True, exist_ok=True)
        assert executor.attempt(f"create {path / 'model'}") in REFUSED, folder


def test_an_executor_reads_no_other_model_of_a_bundle(tmp_path: Path) -> None:
    path = accelerated(tmp_path, "edgetpu")
    model = (tmp_path / "dense.tflite").read_bytes()
    bundles.bundle(tmp_path / "own-1.limpet", {"model.tflite": model})
    path.write_text(path.read_text().replace("dense.tflite", "own-1.limpet"))
    other = directories.models_cache(tmp_path / "state", "s") / "other.tflite"
    other.parent.mkdir(parents=True)
    other.write_bytes(model)
    with Jail(path, "board") as entered:
        (own,) = (file for file in other.parent.glob("*.tflite") if file != other)
        assert entered.attempt(f"read {own}") == "done"
        assert entered.attempt(f"read {other}") in REFUSED


def test_what_drivers_compiled_is_kept(executor: Jail, tmp_path: Path) -> None:
    drivers = directories.drivers_cache(tmp_path / "state", "p")
    assert executor.attempt(f"folder {drivers / 'shaders'}") == "done"
    assert executor.attempt(f"create {drivers / 'shaders' / 'one'}") == "done"
    assert executor.attempt(f"read {drivers / 'shaders' / 'one'}") == "done"


def test_an_executor_opens_only_devices_of_its_kind(executor: Jail, tmp_path: Path, board: Board) -> None:
    assert executor.attempt(f"terminal {board.path.resolve()}") in REFUSED
    assert executor.attempt("overwrite /dev/null") == "done"
    with Jail(accelerated(tmp_path, "external"), "board") as any_:
        assert any_.attempt(f"terminal {board.path.resolve()}") == "done"


def test_paths_among_a_delegates_options_are_open(tmp_path: Path) -> None:
    (tmp_path / "compiled").mkdir()
    (tmp_path / "log").mkdir()
    options = {
        "artifacts": tmp_path / "compiled",
        "log": tmp_path / "log" / "later",
        "beside": tmp_path / "file",
        "cache_dir": tmp_path / "kept",
        "cache_file": tmp_path / "also" / "kept.bin",
        "cache_of_all": tmp_path / "state",
        "device": "/dev/zero",
        "mode": "fast",
    }
    text = ", ".join(f'{key} = "{value}"' for key, value in options.items())
    needs = of_executor(config.read(accelerated(tmp_path, "ethosu", text)), "board")
    assert {tmp_path / "compiled", tmp_path / "log", tmp_path / "file"} <= needs.read
    assert tmp_path not in needs.read
    own = directories.drivers_cache(tmp_path / "state", "p")
    assert needs.change == {own, tmp_path / "kept", tmp_path / "also"}
    assert "/dev/zero" in needs.devices
    assert "/dev" not in needs.devices
    assert Path("/dev") not in needs.read
    assert not needs.network


def test_needs_tell_whether_a_sandbox_will_do_for_another_configuration(tmp_path: Path) -> None:
    now = wanted(write(tmp_path, REPLAY))
    (tmp_path / "state" / "models").mkdir(parents=True)
    models.dense(tmp_path / "state" / "models" / "other.tflite", inputs=3, outputs=3)
    models.dense(tmp_path / "beside.tflite", inputs=3, outputs=3)
    assert now.covers(now)
    assert now.covers(wanted(write(tmp_path, REPLAY, "state/models/other.tflite")))
    assert not now.covers(wanted(write(tmp_path, REPLAY, "beside.tflite")))
    assert not now.covers(wanted(write(tmp_path, SERIAL.format(port="/dev/null"))))
    assert not now.covers(wanted(write(tmp_path, SERIAL.format(port="socket://127.0.0.1:1"))))


OLD_KERNEL = """
import errno, json, os, pathlib
from limpet.isolation import sandbox, seccomp
from limpet.isolation.permissions import Permissions
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sandbox._libc.prctl(38, 1, 0, 0, 0)
calls = ("landlock_create_ruleset", "landlock_restrict_self")
seccomp.install([seccomp._Rule(call, code=errno.ENOSYS) for call in calls])
print(json.dumps(sandbox.enter(Permissions())))
"""


def test_a_kernel_without_landlock_is_named_among_what_is_in_force() -> None:
    done = subprocess.run([sys.executable, "-c", OLD_KERNEL], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["no-new-privileges", "limits", "without-landlock", "seccomp", "no-network"]


def test_it_needs_the_standard_library_alone() -> None:
    """The converters use it in the environment of onnx2tf, which has neither msgspec nor numpy."""
    folder = Path(limpet.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import limpet.isolation.sandbox"
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=False)
    assert not done.stderr
