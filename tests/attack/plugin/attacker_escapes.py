"""Ways out of the sandbox. Each returns what it got hold of; an ``OSError`` means that the kernel refused."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from attacker_attempts import Attempts

if TYPE_CHECKING:
    from collections.abc import Callable

    from attacker_border import Border

ATTEMPTS = Attempts()
HARMLESS = "nothing"
"""What an escape returns that got nowhere without an error."""
NUMBERS = {
    "ptrace": 101, "process_vm_readv": 310, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "keyctl": 250,
    "io_uring_setup": 425, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "pidfd_open": 434,
    "pidfd_getfd": 438, "unshare": 272, "chroot": 161, "memfd_create": 319, "execveat": 322,
    "prlimit64": 302, "sched_setaffinity": 203, "setpriority": 141, "ioprio_set": 251, "sched_setscheduler": 144,
    "setxattr": 188, "kcmp": 312, "process_madvise": 440, "migrate_pages": 256, "open_by_handle_at": 304,
    "clone": 56, "clone3": 435, "vfork": 58, "fsopen": 430, "setns": 308, "personality": 135, "shmget": 29,
}  # fmt: skip
"""System calls of x86-64, for those that Python has no function for."""
_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> int:
    """Make a system call. ``OSError`` if the kernel refuses it."""
    result: int = _libc.syscall(ctypes.c_long(NUMBERS[name]), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _all(*tries: Callable[[], Any]) -> str:
    """Try one way after another; the first that works is an escape, otherwise raise the last refusal."""
    refusal: OSError | None = None
    for attempt in tries:
        try:
            got = attempt()
        except OSError as error:
            refusal = error
        else:
            if got != HARMLESS:
                return f"ESCAPED: {str(got)[:200]!r}"
    if refusal:
        raise refusal
    return HARMLESS


def _read(path: Path | str) -> Callable[[], bytes]:
    def read() -> bytes:
        with open(path, "rb") as file:
            return file.read(64)

    return read


def _write(path: Path, data: bytes = b"planted") -> Callable[[], int]:
    return lambda: path.write_bytes(data)


@ATTEMPTS.named("read the password of the broker")
def _(border: Border) -> str:
    secret = border.target / "mqtt-password"
    return _all(_read(secret), _read(f"/proc/self/root{secret}"), _read(f"/proc/{border.supervisor}/root{secret}"))


@ATTEMPTS.named("read the configuration")
def _(border: Border) -> str:
    return _all(_read(border.target / "limpet.toml"), lambda: os.listdir(border.target))


@ATTEMPTS.named("read and write the outbox")
def _(border: Border) -> str:
    outbox = border.target / "state" / "reporters/mqtt"
    return _all(
        lambda: os.listdir(outbox),
        _read(outbox / "outbox.db"),
        _write(outbox / "outbox.db"),
        _write(outbox / "new"),
    )


@ATTEMPTS.named("write the state that the next start reads")
def _(border: Border) -> str:
    state = border.target / "state"
    return _all(
        _write(state / "boot.json"),
        _write(state / "boot.new"),
        (state / "lock").unlink,
        lambda: (state / "boot.json").rename(state / "gone"),
        lambda: (state / "cache").rename(state / "gone"),
        (state / "evil").mkdir,
    )


@ATTEMPTS.named("write the model of another pipeline")
def _(border: Border) -> str:
    """What lies in the cache is what the next worker unpacks to and loads from."""
    cache = border.target / "state" / "cache"
    unpacked = [path for path in cache.rglob("*.tflite")] if os.access(cache, os.R_OK) else []  # noqa: C416
    models = [*unpacked, border.target / "calm.tflite", border.target / "state" / "models" / "motion-3.limpet"]
    return _all(*(_write(path) for path in models), *(path.unlink for path in models))


@ATTEMPTS.named("plant links")
def _(border: Border) -> str:
    folders = [border.target / "state" / "cache", border.target / "state", Path("/tmp")]
    secret = border.target / "mqtt-password"
    links = [folder / f"link{os.getpid()}" for folder in folders]
    return _all(
        *(lambda link=link: link.symlink_to(secret) or link for link in links),
        *(lambda link=link: os.link(secret, link) or link for link in links),
        *(lambda link=link: os.mkfifo(link) or link for link in links),
        *(lambda link=link: os.mknod(link, stat.S_IFCHR | 0o666, os.makedev(1, 1)) or link for link in links),
    )


@ATTEMPTS.named("leave files in memory and in /tmp")
def _(border: Border) -> str:
    del border
    return _all(
        *(_write(Path(folder) / f"evil{os.getpid()}") for folder in ("/dev/shm", "/tmp", "/run", "/var/tmp"))
    )


@ATTEMPTS.named("use devices that its source does not declare")
def _(border: Border) -> str:
    del border
    nodes = [path for path in Path("/dev").rglob("*") if path.is_char_device() or path.is_block_device()]
    undeclared = [path for path in nodes if path.name not in {"null", "zero", "urandom"}]
    known = [Path("/dev", name) for name in ("full", "random", "tty", "ptmx", "mem", "uinput", "net/tun", "sda")]
    return _all(
        lambda: os.listdir("/dev"),
        *(lambda path=path: os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in (*known, *undeclared)),
        *(lambda path=path: os.open(path, os.O_RDONLY | os.O_NONBLOCK) for path in (*known, *undeclared)),
        lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) or "what the kernel says of devices",
    )


@ATTEMPTS.named("change modes and times of files outside")
def _(border: Border) -> str:
    secret, state = border.target / "mqtt-password", border.target / "state"
    return _all(
        lambda: os.chmod(secret, 0o644) or "the secret is readable to all",
        lambda: os.chmod(state / "boot.json", 0o600) or "the mode of boot.json",
        lambda: os.utime(secret) or "the time of the secret, so that the daemon connects anew",
        lambda: os.chown(secret, os.getuid(), os.getgid()) or "the owner of the secret",
        lambda: os.setxattr(secret, "user.evil", b"1") or "an attribute of the secret",
        lambda: os.truncate(secret, 0) or "the length of the secret",
    )


@ATTEMPTS.named("connect to the broker and beyond")
def _(border: Border) -> str:
    port = int((border.target / "models" / "port").read_text()) if os.access(border.target / "models", 4) else 1883
    return _all(
        lambda: socket.create_connection(("127.0.0.1", port), 2),
        lambda: socket.create_connection(("1.1.1.1", 53), 2),
        *(lambda family=family: socket.socket(family, socket.SOCK_DGRAM) for family in (1, 2, 10, 17, 40)),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    )


@ATTEMPTS.named("listen for connections")
def _(border: Border) -> str:
    del border
    return _all(lambda: socket.create_server(("127.0.0.1", 0)))


@ATTEMPTS.named("read the memory and the environment of the supervisor")
def _(border: Border) -> str:
    pid = border.supervisor
    names = ("environ", "mem", "maps", "cmdline", "fd", "root", "cwd", "status")
    return _all(
        *(_read(f"/proc/{pid}/{name}") for name in names),
        *(_read(f"/proc/self/../{pid}/{name}") for name in names),
        *(_read(f"/proc/{pid}/fd/{fd}") for fd in range(12)),
        lambda: os.listdir(f"/proc/{pid}/fd"),
        lambda: call("process_vm_readv", pid, 0, 0, 0, 0, 0),
    )


@ATTEMPTS.named("trace the supervisor and the fork server")
def _(border: Border) -> str:
    attach, seize = 16, 0x4206
    return _all(
        *(
            lambda pid=pid, how=how: call("ptrace", ctypes.c_long(how), pid, 0, 0)
            for pid in (border.supervisor, os.getppid())
            for how in (attach, seize)
        )
    )


@ATTEMPTS.named("take open files of the supervisor")
def _(border: Border) -> str:
    def take() -> int:
        return call("pidfd_getfd", call("pidfd_open", border.supervisor, 0), 3, 0)

    return _all(take, lambda: call("kcmp", border.supervisor, os.getpid(), 0, 3, 3))


@ATTEMPTS.named("signal the supervisor, the fork server and everybody")
def _(border: Border) -> str:
    # Signals that do no harm to the machine that this runs on: the kernel asks the same before each.
    others, harmless = (border.supervisor, os.getppid()), int(signal.SIGCONT)
    return _all(
        *(lambda pid=pid: os.kill(pid, harmless) or pid for pid in others),
        *(lambda pid=pid: os.kill(pid, 0) or pid for pid in (-1, 0, 1)),
        *(lambda pid=pid: call("tgkill", pid, pid, harmless) or pid for pid in others),
        *(lambda pid=pid: call("tkill", pid, harmless) or pid for pid in others),
        *(lambda pid=pid: call("rt_sigqueueinfo", pid, harmless, b"\0" * 128) or pid for pid in others),
        lambda: os.killpg(os.getpgid(border.supervisor), 0) or "the group",
    )


@ATTEMPTS.named("have a file signal the supervisor")
def _(border: Border) -> str:
    """The owner of a socket gets a signal whenever something comes: the signal's number is free to choose."""

    def own(command: int, argument: Any) -> str:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            fcntl.fcntl(ours, command, argument)
            fcntl.fcntl(ours, fcntl.F_SETSIG, int(signal.SIGTERM))  # type: ignore[attr-defined]
            fcntl.fcntl(ours, fcntl.F_SETFL, fcntl.fcntl(ours, fcntl.F_GETFL) | os.O_ASYNC)
            theirs.send(b"x")
            time.sleep(0.1)
        return HARMLESS  # whether it was heard is seen at the supervisor

    owner_ex = 15
    return _all(
        lambda: own(fcntl.F_SETOWN, border.supervisor),
        lambda: own(owner_ex, ctypes.c_int64(border.supervisor << 32 | 1).value.to_bytes(8, "little")),
    )


@ATTEMPTS.named("set limits and priorities of the supervisor")
def _(border: Border) -> str:
    pid = border.supervisor
    one_second = (ctypes.c_uint64 * 2)(3600, 7200)
    return _all(
        lambda: call("prlimit64", pid, resource.RLIMIT_CPU, one_second, None) or "a limit on its CPU time",
        lambda: call("setpriority", 0, pid, 19) or "its priority",
        lambda: call("sched_setaffinity", pid, 8, b"\1" + bytes(7)) or "its processors",
        lambda: call("sched_setscheduler", pid, 5, b"\0" * 4) or "its scheduler",
        lambda: call("ioprio_set", 1, pid, 3 << 13) or "its priority at the disk",
    )


@ATTEMPTS.named("raise its own limits")
def _(border: Border) -> str:
    del border

    def raised(which: int) -> str:
        resource.setrlimit(which, (resource.getrlimit(which)[1] + 1,) * 2)
        return f"limit {which}"

    try:
        return _all(lambda: raised(resource.RLIMIT_NOFILE), lambda: raised(resource.RLIMIT_FSIZE))
    except ValueError as error:
        raise PermissionError(1, str(error)) from error


@ATTEMPTS.named("become what the kernel kills last")
def _(border: Border) -> str:
    return _all(
        _write(Path("/proc/self/oom_score_adj"), b"-1000"),
        _write(Path(f"/proc/{border.supervisor}/oom_score_adj"), b"1000"),
    )


@ATTEMPTS.named("start programs")
def _(border: Border) -> str:
    del border

    def from_memory() -> NoReturn:
        fd = call("memfd_create", b"evil", 0)
        os.write(fd, b"#!/bin/sh\nexit 0\n")
        os.execve(fd, ["evil"], {})  # noqa: S606

    return _all(
        lambda: os.execv("/bin/sh", ["sh", "-c", "exit 0"]),  # noqa: S606
        lambda: subprocess.run(["/bin/true"], check=False),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),  # noqa: S606
        from_memory,
    )


@ATTEMPTS.named("fork, and fork without end")
def _(border: Border) -> str:
    del border

    def fork() -> int:
        pid = os.fork()
        if not pid:
            os._exit(0)
        return pid

    return _all(*[fork] * 100, lambda: call("vfork"), lambda: call("clone", 17, 0, 0, 0, 0))


@ATTEMPTS.named("1,000 threads")
def _(border: Border) -> str:
    del border
    over = threading.Event()
    threads = [threading.Thread(target=over.wait, daemon=True) for _ in range(1000)]
    with contextlib.suppress(RuntimeError):
        for thread in threads:
            thread.start()
    time.sleep(0.5)
    over.set()
    return HARMLESS


@ATTEMPTS.named("400 MB of memory")
def _(border: Border) -> str:
    del border
    with contextlib.suppress(MemoryError, OSError):
        block = mmap.mmap(-1, 400_000_000)
        for at in range(0, len(block), mmap.PAGESIZE):
            block[at] = 1
        time.sleep(0.5)
        block.close()
    return HARMLESS


@ATTEMPTS.named("fill the disk through the cache")
def _(border: Border) -> str:
    """Sparse, as the harness has no disk of its own to fill: what counts is that there is a limit."""
    path = border.target / "state" / "cache" / f"large{os.getpid()}"

    def large() -> str:
        with path.open("wb") as file:
            file.truncate(1 << 42)
        return "a file of 4 TiB"

    ignore = 1
    _libc.signal(int(signal.SIGXFSZ), ctypes.c_void_p(ignore))  # Python's own is for the main thread alone
    try:
        return _all(large)
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


@ATTEMPTS.named("change its own rights")
def _(border: Border) -> str:
    del border
    return _all(
        lambda: os.setuid(12345) or "another user",
        lambda: os.setgid(12345) or "another group",
        lambda: os.setgroups([0]) or "other groups",
        lambda: call("unshare", 0x10000000),
        lambda: call("setns", 0, 0),
        lambda: os.chroot("/"),
        lambda: call("fsopen", b"tmpfs", 0),
        lambda: call("personality", 0x0040000) and HARMLESS,
    )


@ATTEMPTS.named("use parts of the kernel that no worker needs")
def _(border: Border) -> str:
    del border
    return _all(
        lambda: call("io_uring_setup", 8, bytes(120)),
        lambda: call("bpf", 0, bytes(64), 64),
        lambda: call("perf_event_open", bytes(128), 0, -1, -1, 0),
        lambda: call("userfaultfd", 1),
        lambda: call("keyctl", 0, -3, 1),
        lambda: call("open_by_handle_at", -100, bytes(64), 0),
        lambda: call("migrate_pages", os.getppid(), 8, b"\1" + bytes(7), b"\1" + bytes(7)),
    )


@ATTEMPTS.named("type into the terminal")
def _(border: Border) -> str:
    del border

    def refused(fd: int, request: int) -> str:
        result: int = _libc.ioctl(fd, ctypes.c_ulong(request), b"x")
        if result < 0:
            raise OSError(ctypes.get_errno(), "ioctl")
        return "a letter typed"

    paste = 0x541C
    return _all(
        *(
            lambda fd=fd, request=request: refused(fd, request)
            for fd in (0, 1, 2)
            for request in (0x5412, paste, 0x1_0000_5412)
        )
    )


@ATTEMPTS.named("use files that it inherited")
def _(border: Border) -> str:
    """Beside the channel there may be only the log and pipes of its own."""
    names = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            names[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    usual = (
        "socket:",
        "pipe:",
        "anon_inode:",
        "/dev/null",
        f"/proc/{os.getpid()}",
        str(border.target / "limpet.log"),
    )
    python = (sys.prefix, sys.base_prefix, "/usr", str(border.target / "evil.tflite"), "/memfd:", "/dev/urandom")
    strange = {fd: path for fd, path in names.items() if not path.startswith((*usual, *python))}
    return f"ESCAPED: {strange}" if strange else HARMLESS


@ATTEMPTS.named("read the sockets that it inherited")
def _(border: Border) -> str:
    """A socket of another worker or of the fork server among the open files would be a way to speak for it."""
    own = os.fstat(border.socket.fileno()).st_ino
    strange = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            if not stat.S_ISSOCK(status.st_mode) or status.st_ino == own:
                continue
            end = socket.socket(fileno=os.dup(int(name)))
            if end.type == socket.SOCK_STREAM:
                strange.append((name, end.family))
    return f"ESCAPED: sockets {strange}" if strange else HARMLESS
