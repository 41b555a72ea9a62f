"""A seccomp filter by libseccomp, which every system with systemd or apt has, through ctypes.

The filter refuses calls that no worker needs and allows the rest. It is no list of allowed calls, as vendors'
delegates and their drivers make system calls that we have not seen. The service's own SystemCallFilter= is such a
list.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from limpet.isolation.permissions import Permissions

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NOT_EQUAL, _EQUAL, _AT_LEAST, _MASKED = 1, 4, 5, 7
_TSYNC = 4
_CLONE_THREAD = 0x10000
_IOCTLS = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C, "FIOSETOWN": 0x8901, "SIOCSPGRP": 0x8902}
_PR_SET_PDEATHSIG = 1
_KIND = 0xF
"""The bits of a socket's type that are no flags."""
_INT = 0xFFFFFFFF
"""The bits of an argument that the kernel takes for an int: the others must not make it look like another one."""
_UEVENT = 15
"""The netlink protocol by which the kernel says that a device came or went; libusb will not start without."""
_FAST_OPEN = 0x20000000
_OWN_FILE = 0o100600
"""The mode of a regular file that its owner alone reads and writes."""
_FAMILIES = 64
"""More than there are."""

REFUSED = """
    execve execveat fork vfork ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_open
    pidfd_getfd pidfd_send_signal tkill rt_sigqueueinfo rt_tgsigqueueinfo bind listen accept accept4
    mount umount2 move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr pivot_root chroot unshare setns
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key
    init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct quotactl
    setuid setgid setreuid setregid setresuid setresgid setgroups capset open_by_handle_at name_to_handle_at
    settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname syslog iopl ioperm modify_ldt
    memfd_secret personality mknod mknodat symlink symlinkat link linkat chown fchown lchown fchownat
    chmod fchmod fchmodat fchmodat2 utime utimes futimesat utimensat migrate_pages move_pages ioprio_set
    setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
    truncate truncate64 shmget shmat shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
    mq_open mq_unlink mq_notify mq_timedsend mq_timedreceive mq_getsetattr fanotify_init process_mrelease
""".split()  # noqa: SIM905 - a list of words one a line would fill two screens

_ACCEPTING, _LISTENING = ("accept", "accept4"), ("bind", "listen")


def _load() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None


_library = _load()
"""Loaded on import, by the fork server, so that its children share it."""


OF_ANYBODY = {
    "prlimit64": 0,
    "setpriority": 1,
    "sched_setaffinity": 0,
    "sched_setattr": 0,
    "sched_setparam": 0,
    "sched_setscheduler": 0,
}
"""System calls that change limits or priorities, each with its argument that names a process. 0 is the caller.

The kernel allows them on every process of the same user, also on the supervisor: a limit on its CPU time ends it.
"""
_OWNER_OF_SIGNALS = {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15}
"""Commands of fcntl(2) that have the kernel signal another process whenever something comes to a file."""


class Unavailable(Exception):  # noqa: N818 - no error: the worker goes on without
    """There is no filter, and why."""


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Rule(NamedTuple):
    """A system call that fails with ``code`` where all comparisons hold."""

    name: str
    compare: tuple[tuple[int, int, int, int], ...] = ()
    code: int = errno.EPERM


def rules(wanted: Permissions) -> list[_Rule]:
    """Return what is refused to a process. Its own process id is part of it: it may signal no other process."""
    me = os.getpid()
    families = {socket.AF_NETLINK} if wanted.devices or wanted.connects else set()
    if wanted.connects or wanted.listens:
        families |= {socket.AF_INET, socket.AF_INET6}
    permitted = {
        "fchmod",
        *(_ACCEPTING if wanted.accepts or wanted.listens else ()),
        *(_LISTENING if wanted.listens else ()),
    }
    refused = [name for name in REFUSED if name not in permitted]
    limits_tcp = (wanted.endpoints or wanted.listens) and not wanted.network
    return [
        *map(_Rule, refused),
        # libstdc++ sets the mode of a file that it copies. With a scratch folder it may be the owner's alone.
        _Rule("fchmod", ((1, _NOT_EQUAL, _OWN_FILE, 0),) if wanted.scratch else ()),
        # Threads may be started; glibc takes clone where there is no clone3, whose flags no filter can see.
        _Rule("clone", ((0, _MASKED, _CLONE_THREAD, 0),)),
        _Rule("clone3", code=errno.ENOSYS),
        _Rule("kill", ((0, _NOT_EQUAL, me, 0),)),
        _Rule("tgkill", ((0, _NOT_EQUAL, me, 0),)),
        *(_Rule("ioctl", ((1, _MASKED, _INT, request),)) for request in _IOCTLS.values()),
        *(_Rule("fcntl", ((1, _MASKED, _INT, command),)) for command in _OWNER_OF_SIGNALS.values()),
        *(_Rule(name, ((process, _NOT_EQUAL, 0, 0),)) for name, process in OF_ANYBODY.items()),
        # With any other kind than a process, 0 is the caller's whole group or user.
        _Rule("setpriority", ((0, _NOT_EQUAL, os.PRIO_PROCESS, 0),)),
        # Otherwise it could outlive the supervisor, and keep its devices.
        _Rule("prctl", ((0, _MASKED, _INT, _PR_SET_PDEATHSIG),)),
        *_truncating(),
        # With one of such a pair it could write to any socket of the system that takes datagrams.
        *(_Rule("socketpair", ((1, _MASKED, _KIND, kind),)) for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW)),
        *([] if wanted.connects else [_Rule("connect")]),
        *([] if wanted.network else _fast_opening()),
        *(_beside_tcp(resolves=wanted.resolves) if limits_tcp else []),
        *(_Rule("socket", ((0, _EQUAL, family, 0),)) for family in range(_FAMILIES) if family not in families),
        _Rule("socket", ((0, _AT_LEAST, _FAMILIES, 0),)),
        _Rule("socket", ((0, _EQUAL, socket.AF_NETLINK, 0), (2, _NOT_EQUAL, _UEVENT, 0))),
    ]


def _beside_tcp(*, resolves: bool) -> list[_Rule]:
    """Return rules against all connections that Landlock does not see, as it limits those of plain TCP alone."""
    kinds = {socket.SOCK_STREAM, *({socket.SOCK_DGRAM} if resolves else ())}
    families = (socket.AF_INET, socket.AF_INET6)
    others = [((1, _MASKED, _KIND, kind),) for kind in range(_KIND + 1) if kind not in kinds] + [
        # SCTP, multipath TCP and others that are streams, too. 0 stands for TCP.
        ((1, _MASKED, _KIND, socket.SOCK_STREAM), (2, comparison, protocol, 0))
        for comparison, protocol in (
            *((_EQUAL, number) for number in range(1, socket.IPPROTO_TCP)),
            (_AT_LEAST, socket.IPPROTO_TCP + 1),
        )
    ]
    return [_Rule("socket", ((0, _EQUAL, family, 0), *other)) for family in families for other in others]


def _fast_opening() -> list[_Rule]:
    """Return rules against connecting without connect(2). Also a socket that listened can do that."""
    return [
        _Rule(name, ((argument, _MASKED, _FAST_OPEN, _FAST_OPEN),))
        for name, argument in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3))
    ]


def _truncating() -> list[_Rule]:
    """Return rules against emptying files that may only be read. Landlock before version 3 does not know it.

    Of the access modes 0 is reading, and 3 is neither reading nor writing.
    """
    bits = os.O_ACCMODE | os.O_TRUNC
    opening = [
        _Rule(name, ((argument, _MASKED, bits, os.O_TRUNC | mode),))
        for name, argument in (("open", 1), ("openat", 2))
        for mode in (os.O_RDONLY, os.O_ACCMODE)
    ]
    # No filter can see the flags of openat2. Programs then take openat.
    return [*opening, _Rule("openat2", code=errno.ENOSYS)]


def install(refused: list[_Rule]) -> None:
    """Refuse these system calls to this process from now on. ``Unavailable`` says why that is not possible.

    Calls that this architecture or this libseccomp does not know are left out. Needs ``no_new_privs``.
    """
    library = _library
    if library is None:
        raise Unavailable("libseccomp.so.2 is not installed (Debian: libseccomp2)")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))
    try:
        library.seccomp_attr_set(context, _TSYNC, ctypes.c_uint32(1))
        for rule in refused:
            _add(library, context, rule)
        code = library.seccomp_load(context)
        if code:
            raise Unavailable(os.strerror(-code))
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: ctypes.c_void_p, rule: _Rule) -> None:
    number = library.seccomp_syscall_resolve_name(rule.name.encode())
    if number < 0:
        return
    compare = (_Compare * len(rule.compare))(*(_Compare(*values) for values in rule.compare))
    action = ctypes.c_uint32(_ERRNO | rule.code)
    code = library.seccomp_rule_add_array(context, action, number, len(rule.compare), compare)
    if code:
        raise Unavailable(f"{rule.name}: {os.strerror(-code)}")
