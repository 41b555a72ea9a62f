"""What libraries log is not for the log of a device."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging
from limpet.device import logs
logs.configure("INFO")
logging.getLogger("tuf.api._payload").info("No signature for keyid 0d2d")
logging.getLogger("tuf.api._payload").warning("a fault")
logging.getLogger("limpet.supervision").info("starts")
"""


def test_a_signature_that_is_not_there_is_no_line_in_the_log() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert "No signature" not in done.stderr
    assert "a fault" in done.stderr
    assert "starts" in done.stderr
