"""A sensor board: nine channels as CSV lines at 50 Hz on a pseudo-terminal, linked as the argument."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

master, slave = os.openpty()
name = os.ttyname(slave)
Path(name).chmod(0o666)
link = Path(sys.argv[1])
link.unlink(missing_ok=True)
link.symlink_to(name)
os.set_blocking(master, False)
count = 0
while True:
    with suppress(BlockingIOError):  # nobody reads
        os.write(master, b"50,21,77,0,28,0,27,48,%d\n" % (22 + count % 3))
    count += 1
    time.sleep(0.02)
