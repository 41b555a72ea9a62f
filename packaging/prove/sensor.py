"""A sensor board: nine channels as CSV lines at 50 Hz on a pseudo-terminal, linked as the argument."""

from __future__ import annotations

import grp
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

master, slave = os.openpty()
name = os.ttyname(slave)
# As a serial port: only a group may open it, and the service is in it, within its own user namespace.
os.chown(name, 0, grp.getgrnam("dialout").gr_gid)
Path(name).chmod(0o660)
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
