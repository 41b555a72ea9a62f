"""Files of the state and runtime directories. What is there is treated as if an attacker had put it there.

No function here follows a symbolic link, blocks on a FIFO, or writes into a file that was there before.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from limpet.errors import UnreadableError
from limpet.untrusted import read_file, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def create(path: Path, mode: int = 0o600) -> int:
    """Make an empty file and return its descriptor.

    A file or link of that name is deleted, a directory set aside; neither is opened.
    """
    if _is_folder(path):
        set_aside(path)
    path.unlink(missing_ok=True)
    return os.open(path, _CREATE, mode)


def replace(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file so that after a power cut it is either the old one or the new one, whole.

    A link in its place is replaced, not followed. ``OSError`` where that cannot be done.
    """
    temporary = path.with_suffix(".new")
    try:
        write(temporary, data, mode)
    except OSError as error:
        error.filename = str(path)
        with suppress(OSError):  # half a file would take the room that is missing
            temporary.unlink()
        raise
    temporary.replace(path)
    sync(path.parent)


def write(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a new file, and make its bytes durable. What was at its place is deleted first. ``OSError``.

    After a power cut there may be half of it, or nothing.
    """
    try:
        with os.fdopen(create(path, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk names no file
        raise


def read(path: Path, kind: type[T], largest: int, damaged: Callable[[str], object] | None, then: str) -> T | None:
    """Return what a file of JSON holds, ``None`` if there is no file, or one that cannot be read as ``kind``.

    With ``damaged``, such a file is set aside, and ``damaged`` is called with what is wrong and what follows
    (``then``). Without it, the file stays. ``OSError`` if the file may not be read.
    """
    import msgspec  # the sandbox uses this module where there is no msgspec: beside onnx2tf

    try:
        data = read_file(path, largest)
        with reading(str(path)):
            return msgspec.json.decode(data, type=kind)
    except FileNotFoundError:
        return None
    except UnreadableError as error:
        if damaged is not None:
            with suppress(OSError):
                set_aside(path)
            damaged(f"{error}; {then}")
        return None


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_regular(path: Path) -> bool:
    """Whether a path is a file itself: no link, FIFO, device or directory."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_irregular(path: Path) -> bool:
    """Whether something is there that is no regular file."""
    return os.path.lexists(path) and not is_regular(path)


def shared(path: Path) -> bool:
    """Whether a file has other names, as hard links: what is done to it is done to someone else's file."""
    return is_regular(path) and path.lstat().st_nlink > 1


def is_irregular_folder(path: Path) -> bool:
    """Whether something is there that is no directory itself."""
    return os.path.lexists(path) and not _is_folder(path)


def set_aside(path: Path) -> Path:
    """Rename what is at a path to end in ``.damaged``, in place of what was set aside before; return that name."""
    aside = path.with_name(f"{path.name}.damaged")
    remove(aside)
    path.rename(aside)
    return aside


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it. Nothing there is fine."""
    if _is_folder(path):
        _empty(path)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    """Delete what is in a folder, however deep. A worker can nest folders beyond any recursion and any path."""
    prefix, numbers = os.urandom(8).hex(), count()
    with _opened(folder) as top:
        while names := _names(top):
            for name in names:
                if _is_inner(name, top):
                    with _opened(name, top) as inner:
                        for child in _names(inner):
                            _move(child, inner, f"{prefix}-{next(numbers)}", top)
                    os.rmdir(name, dir_fd=top)
                else:
                    os.unlink(name, dir_fd=top)


def _move(name: str, folder: int, to: str, top: int) -> None:
    """Move a folder to another one, which needs its own rights too; delete anything else."""
    if _is_inner(name, folder):
        with _opened(name, folder):
            os.rename(name, to, src_dir_fd=folder, dst_dir_fd=top)
    else:
        os.unlink(name, dir_fd=folder)


def _is_inner(name: str, folder: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


@contextmanager
def _opened(folder: Path | str, parent: int | None = None) -> Iterator[int]:
    """Open a folder; where it is closed to its owner, open it up first."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if (
        os.geteuid()
        and os.stat(folder, dir_fd=parent, follow_symlinks=False).st_mode & stat.S_IRWXU != stat.S_IRWXU
    ):
        os.chmod(folder, stat.S_IRWXU, dir_fd=parent)
    descriptor = os.open(folder, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def below(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder and its folders. No link is followed; what cannot be read is left out."""
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    path = Path(entry.path)
                    yield path
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
        except OSError:  # gone, closed to this user, or nested deeper than a path is long
            continue


def kind(path: Path) -> str:
    """Name in words what is at a path."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return "missing"
    names = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISREG, "a file"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for test, name in names if test(mode)), "a device")


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def give_to_owner(folder: Path) -> None:
    """Give all that root made below a folder to the folder's owner, so that the service can use it.

    Links are not followed. A file with a second name elsewhere stays as it is.
    """
    try:
        owner = folder.stat()
    except OSError:
        return
    if os.geteuid() or not owner.st_uid:
        return
    for _, folders, files, here in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            with suppress(OSError):
                status = os.stat(name, dir_fd=here, follow_symlinks=False)
                if not status.st_uid and (stat.S_ISDIR(status.st_mode) or status.st_nlink == 1):
                    os.chown(name, owner.st_uid, owner.st_gid, dir_fd=here, follow_symlinks=False)


@contextmanager
def as_owner(path: Path) -> Iterator[None]:
    """If root runs this, let a ``with`` block have no more rights than the owner of a path or of its folder.

    That user may have put links there, also as the path itself.
    """
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), path)
    owner = there.lstat()
    if os.geteuid() or not owner.st_uid:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def become_owner(folder: Path) -> None:
    """If root runs this, become the owner of a folder until the end: that user may have put links into it.

    Nothing of root stays, not even the right to send a signal to a process of root.
    """
    owner = folder.stat() if folder.is_dir() else None
    if os.geteuid() == 0 and owner and owner.st_uid:
        os.setgroups([])
        os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
        os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
