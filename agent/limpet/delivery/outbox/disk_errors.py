"""What can be wrong with the outbox's file, and whether the file or its surroundings are to blame."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from limpet.errors import LimpetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SURROUNDINGS = ("unable to open", "locked", "disk i/o error", "readonly", "read-only")
"""What SQLite says if the file is not to blame."""


class DiskError(LimpetError):
    """The outbox on the disk cannot be used as it is."""


class DiskFullError(DiskError):
    """There is no space left for it. Deleting still works."""


class DiskDamagedError(DiskError):
    """What is in the file is not what was written."""


class DiskGoneError(DiskError):
    """The file was deleted under the running program."""


class DiskNewerError(DiskError):
    """A later version has written the file. It is left as it is."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn whatever using a file raises into ``DiskError``.

    The file is read as if a stranger had written it, so any other exception than those of the surroundings means
    that it is damaged.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (DiskFullError if full else DiskError)(f"{path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise _from_sqlite(path, error) from error
    except Exception as error:
        raise DiskDamagedError(f"{path}: {error or type(error).__name__}") from error


def _from_sqlite(path: Path, error: sqlite3.Error) -> DiskError:
    text = str(error)
    if "is full" in text:
        return DiskFullError(f"{path}: {text}")
    if any(part in text.lower() for part in _SURROUNDINGS):
        return DiskError(f"{path}: {text}")
    return DiskDamagedError(f"{path}: {text}")
