"""Down the list and up again: what is decided."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from limpet.accelerators.failover import BACKOFF, STABLE, Failover

LIST = ["edgetpu", "gpu", "cpu"]
MOST = 1.25
"""Jitter adds a quarter at most."""
FIRST_DELAY, LONGEST_DELAY = BACKOFF.first / MOST, BACKOFF.longest / MOST


def first_due(failover: Failover, now: float) -> float:
    """Return when a probe may first be made."""
    early, late = now, now + 2 * LONGEST_DELAY
    assert failover.due(late)
    while late - early > 1e-7:
        middle = (early + late) / 2
        early, late = (early, middle) if failover.due(middle) else (middle, late)
    return late


def test_begins_with_the_best() -> None:
    failover = Failover(LIST, 0.0)
    assert (failover.current, failover.degraded, failover.due(1e9)) == ("edgetpu", False, None)


def test_down_the_list_and_back_up() -> None:
    failover = Failover(LIST, 0.0)
    assert failover.failed(10.0) == "gpu"
    assert failover.degraded
    assert failover.due(10.0 + FIRST_DELAY * 0.99) is None
    assert failover.due(10.0 + FIRST_DELAY * MOST) == "edgetpu"
    failover.passed("edgetpu", 12.0)
    assert (failover.current, failover.degraded) == ("edgetpu", False)


def test_the_worst_is_left_by_the_best_that_passes() -> None:
    failover = Failover(LIST, 0.0)
    failover.failed(0.0)
    assert failover.failed(0.0) == "cpu"
    assert failover.due(2.0) == "edgetpu"
    failover.refused("edgetpu", 2.0)
    assert failover.due(2.0) == "gpu"
    failover.passed("gpu", 2.0)
    assert (failover.current, failover.degraded) == ("gpu", True)


def test_probes_become_rarer() -> None:
    failover = Failover(["npu", "cpu"], 0.0)
    failover.failed(0.0)
    now, waits = 0.0, []
    for _ in range(12):
        due = first_due(failover, now)
        waits.append(due - now)
        now = due
        failover.refused("npu", now)
    expected = [min(FIRST_DELAY * 2**i, LONGEST_DELAY) for i in range(12)]
    assert all(e <= wait <= e * MOST + 1e-6 for e, wait in zip(expected, waits, strict=True))


def test_one_that_comes_and_goes_is_damped() -> None:
    failover = Failover(["npu", "cpu"], 0.0)
    now, switches = 0.0, 0
    while now < 3600.0:
        failover.failed(now)
        due = first_due(failover, now)
        failover.passed("npu", due)
        now = due + 1.0
        switches += 1
    assert switches < 25


def test_one_that_held_out_starts_anew() -> None:
    failover = Failover(["npu", "cpu"], 0.0)
    for _ in range(6):
        failover.failed(0.0)
        failover.passed("npu", 0.0)
    failover.failed(STABLE)
    assert failover.due(STABLE + FIRST_DELAY * MOST) == "npu"


def test_when_all_are_broken_the_first_that_may_is_tried() -> None:
    failover = Failover(["cpu"], 0.0)
    assert failover.failed(0.0) is None
    assert failover.degraded
    assert failover.due(0.5) is None
    assert failover.due(2.0) == "cpu"
    failover.passed("cpu", 2.0)
    assert failover.current == "cpu"


def test_one_that_is_known_to_be_broken_is_skipped() -> None:
    failover = Failover(LIST, 0.0)
    failover.failed(0.0)  # edgetpu -> gpu
    failover.failed(0.0)  # gpu -> cpu
    failover.passed("edgetpu", 0.5)
    assert failover.failed(0.6) == "cpu"


class Machine(RuleBasedStateMachine):
    """Whatever comes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.failover = Failover(LIST, 0.0)
        self.failed_at: dict[str, float] = {}

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.failover.current)
    @rule()
    def fail(self) -> None:
        assert self.failover.current
        self.failed_at[self.failover.current] = self.now
        self.failover.failed(self.now)

    @precondition(lambda self: self.failover.due(self.now))
    @rule(works=st.booleans())
    def probe(self, works: bool) -> None:  # noqa: FBT001
        delegate = self.failover.due(self.now)
        assert delegate
        if works:
            self.failover.passed(delegate, self.now)
        else:
            self.failed_at[delegate] = self.now
            self.failover.refused(delegate, self.now)

    @invariant()
    def a_probe_is_of_something_better_that_had_time(self) -> None:
        due = self.failover.due(self.now)
        if due is None:
            return
        if self.failover.current:
            assert LIST.index(due) < LIST.index(self.failover.current)
        assert self.now - self.failed_at[due] >= FIRST_DELAY

    @invariant()
    def what_is_not_the_best_is_degraded_and_will_be_left(self) -> None:
        assert self.failover.degraded == (self.failover.current != LIST[0])
        if self.failover.degraded:
            assert self.failover.due(self.now + LONGEST_DELAY * MOST)


TestAnything = Machine.TestCase


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=20))
def test_some_delegate_is_always_in_use_while_the_last_holds(waits: list[float]) -> None:
    failover, now = Failover(LIST, 0.0), 0.0
    for wait in waits:
        now += wait
        if failover.current != "cpu":
            failover.failed(now)
        assert failover.current is not None
