"""The monitor socket: readers see everything, and a bad reader costs no other reader anything."""

from __future__ import annotations

import json
import os
import selectors
import socket
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from limpet.contracts.messages import InputMessage, Origin
from limpet.delivery import monitor_socket
from limpet.delivery.bus import Bus
from limpet.delivery.monitor import Monitor
from limpet.delivery.monitor_socket import MonitorSocket
from limpet.device.unix_path import reachable
from support.broker import wait_until
from support.watched import NOON, event, reported, result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self

ORIGIN = Origin("press-07", "4-abc", "1.0")


class Stand:
    """A bus with a monitor socket, whose selector is turned by a thread as the supervisor's is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bus = Bus()
        self.monitor = Monitor(self.bus)
        self.selector = selectors.PollSelector()
        self.socket = MonitorSocket(path, self.monitor, ORIGIN, self.selector)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._turn)

    def __enter__(self) -> Self:
        self.socket.open()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.socket.close()
        self.selector.close()

    def _turn(self) -> None:
        while not self._ended.is_set():
            for key, _ in self.selector.select(0.02):
                key.data()
            self.socket.tend()


class Client:
    """A reader of the socket."""

    def __init__(self, path: Path) -> None:
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(10)
        try:
            with reachable(path) as address:
                self.connection.connect(address)
        except OSError:
            self.connection.close()
            raise
        self._file = self.connection.makefile("rb")

    def line(self) -> Any:
        return json.loads(self._file.readline())

    def until(self, key: str, value: Any) -> list[Any]:
        """Return all lines up to the first one with this entry."""
        lines = [self.line()]
        while lines[-1].get(key) != value:
            lines.append(self.line())
        return lines

    def rest(self) -> list[Any]:
        return [json.loads(line) for line in self._file.read().splitlines()]

    def close(self) -> None:
        self._file.close()
        self.connection.close()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path / "monitor.sock") as standing:
        yield standing


@contextmanager
def client(stand: Stand) -> Iterator[Client]:
    reading = Client(stand.path)
    try:
        yield reading
    finally:
        reading.close()


def test_a_reader_gets_the_status_then_the_state_and_then_what_happens(stand: Stand) -> None:
    stand.bus.append(event("before"))
    stand.bus.append(reported(3))
    with client(stand) as reading:
        first, second = reading.line(), reading.line()
        assert first == {
            "topic": "status",
            "message": {"device": "press-07", "boot": "4-abc", "version": "1.0", "status": "online"},
        }
        assert (second["topic"], second["message"]["version"]) == ("model/one/reported", 3)
        stand.bus.extend([result(1), event("after")])
        third, fourth = reading.line(), reading.line()
        assert (third["topic"], third["message"]["sequence"]) == ("result/one", 1)
        assert (fourth["topic"], fourth["message"]["event"]) == ("event/one", "after")


def test_only_owner_and_group_can_open_the_socket(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with Stand(tmp_path / "monitor.sock") as stand:
            assert stat.S_IMODE(stand.path.stat().st_mode) == 0o660
    finally:
        os.umask(before)


def test_what_a_reader_writes_is_not_read(stand: Stand) -> None:
    with client(stand) as reading:
        reading.line()
        with pytest.raises(BrokenPipeError):
            reading.connection.sendall(b"x" * (1 << 20))
        stand.bus.append(event("still here"))
        assert reading.line()["message"]["event"] == "still here"


def test_a_reader_that_does_not_read_misses_messages_and_then_gets_the_state_again(stand: Stand) -> None:
    stand.bus.append(reported(3))
    with client(stand) as slow, client(stand) as quick:
        slow.line()
        quick.until("topic", "model/one/reported")
        # More than fits into the buffers of a socket and into the queue of a reader.
        for number in range(0, 20, 4):
            stand.bus.extend([result(number + more, size=45_000) for more in range(4)])
            for _ in range(4):
                quick.until("topic", "result/one")
        stand.bus.append(event("last"))
        assert not [line for line in quick.until("topic", "event/one") if "missed" in line]
        received, missed = 0, 0
        while received + missed < 21:  # on a busy machine the reader misses messages more than once
            line = slow.line()
            received += line.get("topic") in {"result/one", "event/one"}
            missed += line.get("missed", 0)
        assert (received + missed, missed > 0, received > 0) == (21, True, True)
        assert slow.until("topic", "model/one/reported")[-1]["message"]["version"] == 3


def read_until_missed(reading: Client) -> list[Any]:
    lines = [reading.line()]
    while "missed" not in lines[-1]:
        lines.append(reading.line())
    return lines


def test_results_beyond_a_readers_share_of_time_are_missed_and_counted(stand: Stand) -> None:
    count = 3 * monitor_socket.BYTES_AT_ONCE // 1200
    with client(stand) as reading:
        reading.line()
        stand.bus.extend([result(number, size=1000) for number in range(count)])
        lines = read_until_missed(reading)
        received = len([line for line in lines if line.get("topic") == "result/one"])
        assert 0 < received < count
        assert lines[-1]["missed"] == count - received


def test_the_bus_keeps_nothing_for_a_reader_that_does_not_read(stand: Stand) -> None:
    with client(stand) as slow:
        slow.line()
        reporter = stand.bus.subscribe()
        for number in range(500):
            stand.bus.append(result(number, size=10_000))
            reporter.read()
            reporter.commit()
        late = stand.bus.subscribe()
        assert reporter.missed == 0
        assert late.uncommitted == 0
        watch = stand.monitor.watch()
        wait_until(lambda: not watch.read())


def test_too_many_readers_are_refused_in_words_and_a_place_that_is_free_is_given_away(stand: Stand) -> None:
    readers = [Client(stand.path) for _ in range(monitor_socket.MOST_READERS)]
    for reading in readers:
        assert reading.line()["topic"] == "status"
    refused = Client(stand.path)
    assert refused.rest() == [{"refused": "8 others watch already, which is the limit"}]
    refused.close()
    readers.pop().close()

    def accepted() -> bool:
        reading = Client(stand.path)
        taken = reading.line().get("topic") == "status"
        (readers.append if taken else Client.close)(reading)
        return taken

    wait_until(accepted)
    for reading in readers:
        reading.close()


def test_readers_that_connect_again_and_again_do_not_keep_others_out(stand: Stand) -> None:
    for _ in range(2 * monitor_socket.CONNECTIONS_AT_ONCE):
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.setblocking(False)
            with reachable(stand.path) as address:
                try:
                    knocking.connect(address)
                except BlockingIOError:
                    break  # the socket rests, and its queue is full

    def watches() -> bool:
        try:
            with client(stand) as reading:
                return "topic" in reading.line()
        except BlockingIOError:
            return False

    wait_until(watches)


NO_MORE_THREADS = """
import os, resource, socket, sys
from pathlib import Path
from limpet.contracts.messages import Origin
from limpet.delivery.bus import Bus
from limpet.delivery.monitor import Monitor
from limpet.delivery.monitor_socket import MonitorSocket
from selectors import PollSelector

selector, monitor = PollSelector(), Monitor(Bus())
MonitorSocket(Path(sys.argv[1]), monitor, Origin("press-07", "4-abc", "1.0"), selector).open()
reader = socket.socket(socket.AF_UNIX)
reader.connect(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
if not os.getuid():
    os.setresuid(65534, 65534, 65534)  # root has no such limit
for key, _ in selector.select():
    key.data()
print(reader.recv(1000).decode(), monitor.watched)
"""


def test_where_no_thread_can_be_started_a_reader_is_refused_and_the_daemon_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NO_MORE_THREADS, tmp_path / "monitor.sock"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    refused = '{"refused":"the system lets the daemon start no further thread"}'
    assert (done.stdout, done.stderr) == (f"{refused}\n False\n", "")


def test_a_reader_that_is_gone_is_forgotten(stand: Stand) -> None:
    with client(stand) as reading:
        reading.line()
        assert stand.monitor.watched
    wait_until(lambda: not stand.monitor.watched)


def test_the_newest_inputs_are_shown_without_the_bus(stand: Stand) -> None:
    def inputs(value: float) -> InputMessage:
        return InputMessage(
            device="press-07", source="board", pipelines=["one"], time=NOON, rate=100.0, shape=[1],
            channels=["x"], values=[[value], [float("nan")]],
        )  # fmt: skip

    reporter = stand.bus.subscribe()
    stand.monitor.show(inputs(1.0))
    stand.monitor.show(inputs(2.0))
    with client(stand) as reading:
        shown = reading.until("topic", "input/board")[-1]["message"]
        assert shown["values"] == [[2.0], [None]]
        stand.monitor.show(inputs(3.0))
        assert reading.until("topic", "input/board")[-1]["message"]["values"][0] == [3.0]
    assert reporter.read() == []
    stand.monitor.keep([], ["one"])
    watch = stand.monitor.watch()
    assert watch.read() == []


def test_the_socket_of_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "monitor.sock"
    code = f"import os, socket; s = socket.socket(socket.AF_UNIX); s.bind({str(path)!r}); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert path.is_socket()
    with Stand(path) as stand, client(stand) as reading:
        assert reading.line()["topic"] == "status"


def test_the_socket_of_a_daemon_that_runs_is_left_to_it(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    with Stand(stand.path):
        assert "another daemon uses this socket" in caplog.text
    with client(stand) as reading:
        assert reading.line()["topic"] == "status"


def test_a_file_in_the_sockets_place_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "monitor.sock").write_text("no socket")
    with Stand(tmp_path / "monitor.sock") as stand, client(stand) as reading:
        assert reading.line()["topic"] == "status"
    assert (tmp_path / "monitor.sock.damaged").read_text() == "no socket"


def test_a_path_longer_than_the_kernel_takes_is_reached_by_way_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with Stand(folder / "monitor.sock") as stand, client(stand) as reading:
        assert reading.line()["topic"] == "status"


def test_without_a_folder_the_log_says_that_nobody_can_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Stand(tmp_path / "missing" / "monitor.sock"):
        assert "No such file or directory; `limpet watch` cannot show this daemon" in caplog.text


def test_at_the_end_readers_get_the_last_messages_and_the_file_is_deleted(tmp_path: Path) -> None:
    with Stand(tmp_path / "monitor.sock") as stand:
        reading = Client(stand.path)
        reading.line()
        stand.bus.append(event("stopped"))
    *_, last, status = reading.rest()
    assert (last["message"]["event"], status["message"]["status"]) == ("stopped", "offline")
    reading.close()
    assert not stand.path.exists()
