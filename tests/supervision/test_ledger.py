"""The ledger: who may add to a pipeline, which number a result gets, and counts that only rise."""

from __future__ import annotations

from datetime import datetime, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.messages import Message, Origin, Placed, ResultMessage, SnapshotFigures, SnapshotMessage
from limpet.contracts.savings import MOST_COUNTED, Saving, SavingCounts
from limpet.contracts.uncertainty import Uncertainties, UncertaintyHealth
from limpet.errors import UnreadableError
from limpet.histogram import difference
from limpet.supervision.health import HealthReader
from limpet.supervision.ledger import Ledger
from limpet.supervision.traffic import LEAVING
from limpet.wire.records import Figures, Heartbeat, RawResult, Snapshot, Transition

ORIGIN = Origin("press-07", "4-abc", "1.0")
NOON = datetime(2026, 11, 28, 12, 0, tzinfo=timezone.utc)


class Books:
    """A ledger, and what it appended to the bus."""

    def __init__(self, **owners: str) -> None:
        self.messages: list[Message] = []
        self.ledger = Ledger(ORIGIN, self.messages.extend)
        self.ledger.assign(owners, 0.0)

    def accept(self, cell: str, *pipelines: str, now: float = 0.0) -> None:
        self.ledger.accept(cell, [result(pipeline) for pipeline in pipelines], now)

    @property
    def ids(self) -> list[str]:
        return [message.id for message in self.messages if isinstance(message, ResultMessage)]


def result(pipeline: str, wall_ns: int = 1_770_000_000_000_000_000) -> RawResult:
    return RawResult(pipeline, "m", 3, "cpu", False, 5, wall_ns, 70, 2500, msgspec.Raw(b'{"x":1}'))


def test_results_of_each_pipeline_are_numbered_in_the_order_in_which_they_come() -> None:
    books = Books(one="left", two="left", three="right")
    books.accept("left", "one", "two", "one")
    books.accept("right", "three")
    books.accept("left", "one")
    assert books.ids == [
        f"press-07/{name}/4-abc/{number}"
        for name, number in (("one", 1), ("two", 1), ("one", 2), ("three", 1), ("one", 3))
    ]
    assert {name: account.results for name, account in books.ledger.accounts.items()} == {
        "one": 3, "two": 1, "three": 1,
    }  # fmt: skip


def test_a_result_is_reported_with_the_times_of_its_window() -> None:
    books = Books(one="left")
    books.accept("left", "one")
    (message,) = books.messages
    assert isinstance(message, ResultMessage)
    assert (message.time, message.monotonic_ns, message.sample, message.latency_us) == (
        datetime.fromtimestamp(1_770_000_000, timezone.utc), 5, 70, 2.5,
    )  # fmt: skip
    assert (message.model, message.version, message.delegate, message.clock) == ("m", 3, "cpu", None)


def test_a_result_of_a_time_before_the_clock_was_set_is_marked() -> None:
    books = Books(one="left")
    books.ledger.accept("left", [result("one", wall_ns=10**9)], 0.0)
    (message,) = books.messages
    assert isinstance(message, ResultMessage)
    assert message.clock == "unsynchronised"


@pytest.mark.parametrize("pipelines", [("three",), ("one", "three"), ("nothing",)])
def test_a_cell_adds_nothing_to_a_pipeline_of_another(pipelines: tuple[str, ...]) -> None:
    books = Books(one="left", three="right")
    with pytest.raises(UnreadableError, match="no pipeline of 'left'"):
        books.accept("left", *pipelines)
    with pytest.raises(UnreadableError, match="no pipeline of 'left'"):
        books.ledger.add("left", Heartbeat({name: Figures(errors=1) for name in pipelines}, {}), 0.0)
    assert books.messages == []
    assert all(not account.results and not account.errors for account in books.ledger.accounts.values())


def test_a_pipeline_that_moves_to_another_cell_goes_on_counting_and_the_cell_before_may_finish() -> None:
    books = Books(one="left")
    books.accept("left", "one")
    books.ledger.assign({"one": "right"}, 100.0)
    books.accept("left", "one", now=100.0 + LEAVING - 0.1)
    books.accept("right", "one", now=100.0 + LEAVING)
    assert [identifier.rpartition("/")[2] for identifier in books.ids] == ["1", "2", "3"]
    with pytest.raises(UnreadableError):
        books.accept("left", "one", now=100.0 + LEAVING)


def test_a_pipeline_that_comes_back_is_its_cells_at_once() -> None:
    books = Books(one="left")
    books.ledger.assign({}, 1.0)
    books.ledger.assign({"one": "left"}, 2.0)
    books.accept("left", "one", now=1000.0)
    assert len(books.ids) == 1


def heartbeat(**latency: int) -> Heartbeat:
    return Heartbeat(
        {"one": Figures(errors=1, latency={"invoke": {int(k[1:]): n for k, n in latency.items()}})}, {}
    )


def test_each_reader_of_health_gets_the_latencies_since_its_own_last_message() -> None:
    books = Books(one="left")
    first, second = HealthReader(ORIGIN), HealthReader(ORIGIN)

    def counts(reader: HealthReader) -> dict[str, int]:
        return reader.pipeline(books.ledger.account("one"), NOON).latency_us["invoke"].buckets

    books.ledger.add("left", heartbeat(b31=2), 0.0)
    assert counts(first) == {"31": 2}
    books.ledger.add("left", heartbeat(b31=1, b40=5), 0.0)
    assert counts(first) == {"31": 1, "40": 5}
    assert counts(first) == {}
    assert counts(second) == {"31": 3, "40": 5}
    assert books.ledger.account("one").errors == 2


def test_health_adds_what_workers_counted_of_uncertainty() -> None:
    books, health = Books(one="left", two="left"), HealthReader(ORIGIN)
    for counts in (Uncertainties(10, 1, {1: 8, 2: 2}), Uncertainties(2, 0, {1: 1, 10: 1}), None):
        figures = {"one": Figures(uncertainty=counts), "two": Figures()}
        books.ledger.add("left", Heartbeat(figures, {}), 0.0)
    accounts = books.ledger.accounts
    assert health.pipeline(accounts["one"], NOON).uncertainty == UncertaintyHealth(
        windows=12, abstained=1, set_sizes={"1": 9, "2": 2, "10": 1}, mean_set_size=1.917
    )
    assert health.pipeline(accounts["two"], NOON).uncertainty is None


def test_a_state_without_a_model_keeps_what_ran_and_changes_are_events() -> None:
    account = Books(one="left").ledger.account("one")
    assert account.move(Transition("one", "running", model="m", version=2, delegate="gpu")) == [("running", "")]
    assert account.move(Transition("one", "running", "too hot", "m", 2, "cpu", degraded=True)) == [
        ("degraded", "runs on cpu; too hot")
    ]
    assert account.move(Transition("one", "waiting", "unplugged")) == [("waiting", "unplugged")]
    assert (account.last.model, account.last.version, account.last.delegate) == ("m", 2, "cpu")


def test_only_an_accelerator_that_is_left_while_the_pipeline_works_is_a_failover() -> None:
    account = Books(one="left").ledger.account("one")
    on_gpu = Transition("one", "running", "", "m", 2, "gpu", placement=Placed(1.0))
    on_cpu = Transition("one", "running", "it crashed", "m", 2, "cpu", degraded=True)
    account.move(Transition("one", "starting"))
    account.move(on_cpu)  # The GPU is still being opened.
    account.move(on_gpu)
    assert account.failovers == 0
    account.move(on_cpu)
    account.move(on_cpu)
    assert account.failovers == 1
    account.move(on_gpu)
    account.move(Transition("one", "starting"))  # Its worker was restarted.
    account.move(on_cpu)
    account.move(on_gpu)
    account.move(Transition("one", "running", "", "m", 2, "cpu"))  # The configuration wants the CPU now.
    assert account.failovers == 1
    assert HealthReader(ORIGIN).pipeline(account, NOON).failovers == 1


COUNTS = st.dictionaries(st.integers(0, 900), st.integers(1, 9), max_size=8)


@given(COUNTS, COUNTS)
def test_a_difference_of_histograms_is_what_was_added(before: dict[int, int], added: dict[int, int]) -> None:
    now = {bucket: before.get(bucket, 0) + added.get(bucket, 0) for bucket in {*before, *added}}
    assert difference(now, before) == added


def test_a_pipeline_that_was_assigned_starts_before_its_worker_reports_anything() -> None:
    books = Books(one="left")
    account = books.ledger.account("one")
    assert account.last.state == "starting"
    assert account.move(Transition("one", "starting")) == [("starting", "")]
    assert account.move(Transition("one", "starting")) == []
    former = books.ledger.account("of an earlier configuration")
    assert former.move(Transition(former.pipeline, "stopped", "no longer configured")) == []


JPEG = b"\xff\xd8\xff a picture \xff\xd9"


def test_pictures_of_a_pipeline_are_passed_on_one_a_second_and_the_others_counted() -> None:
    books = Books(one="left", two="left")
    for now in (0.0, 0.1, 0.2, 0.3, 2.0):
        books.ledger.accept_snapshot("left", Snapshot("one", 5, 1_770_000_000_000_000_000, 70, JPEG), now)
    books.ledger.accept_snapshot("left", Snapshot("two", 5, 0, 1, JPEG), 0.3)
    assert [message.pipeline for message in books.messages if isinstance(message, SnapshotMessage)] == [
        *["one"] * 3,
        "two",
    ]
    books.ledger.add("left", Heartbeat({"one": Figures(snapshots={"taken": 5, "failed": 1})}, {}), 3.0)
    health = HealthReader(ORIGIN).pipeline(books.ledger.account("one"), NOON)
    assert health.snapshots == SnapshotFigures(taken=5, skipped=2, failed=1)
    assert HealthReader(ORIGIN).pipeline(books.ledger.account("two"), NOON).snapshots is None


def test_what_was_saved_adds_up() -> None:
    books = Books(one="left", two="left")
    for _ in range(2):
        counts = SavingCounts(10, 4, 2_000_000_000, 500_000_000)
        books.ledger.add("left", Heartbeat({"one": Figures(savings={"gate": counts})}, {}), 0.0)
    health = HealthReader(ORIGIN).pipeline(books.ledger.account("one"), NOON)
    assert health.savings == {"gate": Saving(windows=20, spared=8, saved_s=4.0, cost_s=1.0)}
    assert HealthReader(ORIGIN).pipeline(books.ledger.account("two"), NOON).savings is None
    most = {"cache": SavingCounts(*[MOST_COUNTED] * 4)}
    for _ in range(2):
        books.ledger.add("left", Heartbeat({"one": Figures(savings=most)}, {}), 0.0)
    assert books.ledger.account("one").savings["cache"].windows == MOST_COUNTED


def test_a_cell_gives_no_picture_of_a_pipeline_of_another() -> None:
    books = Books(one="left", three="right")
    with pytest.raises(UnreadableError, match="no pipeline of 'left'"):
        books.ledger.accept_snapshot("left", Snapshot("three", 0, 0, 0, JPEG), 0.0)
    books.ledger.account("one").removed = True
    books.ledger.accept_snapshot("left", Snapshot("one", 0, 0, 0, JPEG), 0.0)
    assert books.messages == []
