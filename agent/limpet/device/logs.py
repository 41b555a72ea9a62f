"""Logging of every Limpet process, to the journal or standard error."""

from __future__ import annotations

import logging
import os
import sys

from limpet.device import log_socket
from limpet.device.systemd_journal import ADDRESS, JournalHandler

ERASE = "\r\x1b[2K"
"""Goes to the start of a terminal's line and empties it: the status line of ``limpet run`` may be there."""


def configure(level: str = "INFO") -> None:
    """Set up the root logger of this process. Under systemd entries go to the journal with their fields.

    A daemon's processes also write to its ``log_socket``. A root logger that has handlers stays as it is.
    """
    if logging.getLogger().hasHandlers():
        return
    if "JOURNAL_STREAM" in os.environ and os.path.exists(ADDRESS):  # noqa: PTH110 - pathlib takes 3 ms to import
        handler: logging.Handler = JournalHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        erase = ERASE if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else ""
        handler.setFormatter(logging.Formatter(f"{erase}%(asctime)s %(levelname)s %(name)s: %(message)s"))
    further = log_socket.handler()
    logging.basicConfig(level=level, handlers=[handler] if further is None else [handler, further])
    for library in ("tuf", "securesystemslib"):
        logging.getLogger(library).setLevel(logging.WARNING)  # they log each key that did not sign
