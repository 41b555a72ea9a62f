"""Updates under random events and power cuts between any two effects: what always holds, and what is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from limpet.contracts.updates import Comparison
from limpet.updates.machine import RESTING
from limpet.updates.stimuli import (
    Cleared,
    Compared,
    NotAdmitted,
    NotFetched,
    NotPlaced,
    NotTakenOver,
    NotVerified,
    Ordered,
    Refused,
    TookOver,
)
from support.update_world import World, bundle, request

if TYPE_CHECKING:
    from limpet.updates.state import Deployed

NAMES = st.sampled_from(["p", "p", "q"])
MODELS = st.builds(bundle, st.sampled_from("ab"), st.integers(1, 4), st.sampled_from("xy"))
POLICIES = st.fixed_dictionaries(
    {
        "shadow_windows": st.sampled_from([5, 0]),
        "trial_seconds": st.sampled_from([0.0, 10.0, 9000.0]),
        "least_agreement": st.sampled_from([0.0, 0.9]),
    },
    optional={"start": st.just("operator"), "promote": st.just("operator"), "trial_windows": st.just(1)},
)
FIGURES = st.builds(
    Comparison,
    windows=st.integers(0, 20),
    results=st.integers(0, 20),
    errors=st.sampled_from([0, 0, 0, 20]),
    agreement=st.sampled_from([None, 0.1, 1.0, 1.0]),
)
FAILURES = st.sampled_from(
    [
        NotFetched("There is no route to the server.", final=False),
        NotFetched("The connection ended.", final=False, progress=True),
        NotFetched("The file is too long.", final=True),
        NotVerified("The signature is wrong."),
        NotVerified("The examiner was killed.", final=False),
        NotPlaced("The disk is full."),
        NotAdmitted("The model crashed."),
        NotAdmitted("The process could not be started.", final=False),
    ]
)


def install(world: World, version: int = 1) -> None:
    world.want(bundle("a", version))
    assert world.settle().stage == "good"


class Device(RuleBasedStateMachine):
    """Whatever happens in whatever order: the checks in `World` hold, and the next request gets through."""

    @initialize()
    def start(self) -> None:
        self.world = World(pipelines=("p", "q"))
        self.world.boot()
        install(self.world)
        self.serial = self.version = 0

    @rule(name=NAMES, policy=POLICIES, steps=st.integers(0, 12))
    def wants_a_newer_one(self, name: str, policy: dict[str, object], steps: int) -> None:
        self.version += 1
        self.serial += 1
        wanted = bundle("a", self.version)
        self.world.want(wanted, name, request(wanted, policy=policy, serial=self.serial))
        self.goes_on(name, steps)

    @rule(name=NAMES, wanted=MODELS, step=st.sampled_from([0, 1, -1]), old=st.booleans())
    def wants_some_model(self, name: str, wanted: Deployed, step: int, old: bool) -> None:  # noqa: FBT001
        self.serial = max(self.serial + step, 0)
        self.world.want(wanted, name, request(wanted, serial=self.serial, allow_older=old), signed=old)

    @rule(name=NAMES, again=st.booleans())
    def wants_the_same(self, name: str, again: bool) -> None:  # noqa: FBT001
        known = self.world.of(name).request
        if known is not None:
            self.world.want(self.world.catalogue[known.sha256], name, known, retained=again)

    @rule(name=NAMES, steps=st.integers(1, 12))
    def goes_on(self, name: str, steps: int) -> None:
        for _ in range(steps):
            self.world.go_on(name)

    @rule(name=NAMES, failure=FAILURES)
    def fails(self, name: str, failure: object) -> None:
        if name in self.world.at_work:
            self.world.ends(name, failure)  # type: ignore[arg-type]

    @rule(name=NAMES, figures=FIGURES)
    def compares(self, name: str, figures: Comparison) -> None:
        self.world.do(Compared(figures), name)

    @rule(name=NAMES)
    def accepts(self, name: str) -> None:
        self.world.accept(name)

    @rule(name=NAMES)
    def crashes(self, name: str) -> None:
        self.world.do(NotTakenOver("The worker crashed."), name)

    @rule(name=NAMES)
    def runs_another(self, name: str) -> None:
        self.world.do(TookOver("f" * 64), name)

    @rule(name=NAMES, order=st.sampled_from(["install", "promote", "rollback", "cancel"]))
    def orders(self, name: str, order: str) -> None:
        self.world.do(Ordered(order, "console"), name)  # type: ignore[arg-type]

    @rule(name=NAMES)
    def clears(self, name: str) -> None:
        self.world.do(Cleared(), name)

    @rule(name=NAMES)
    def refuses(self, name: str) -> None:
        self.world.do(Refused("The request is damaged."), name)

    @rule(name=NAMES)
    def ticks(self, name: str) -> None:
        self.world.tick(name)

    @rule(effects=st.integers(0, 6))
    def power_will_be_cut(self, effects: int) -> None:
        self.world.cut_in = effects

    @rule()
    def power_is_cut(self) -> None:
        self.world.boot()

    def teardown(self) -> None:
        """Whatever was before: a newer model that works gets through, and a rollback works."""
        world = getattr(self, "world", None)
        if world is None:
            return
        world.cut_in = None
        for name in world.pipelines:
            wanted = bundle("a" if name == "p" else "b", 1000)
            serial = max(world.of(name).serial, world.of(name).unsigned_serial) + 1
            world.want(wanted, name, request(wanted, serial=serial))
            world.report()
            world.tick(name)
            assert world.settle(name).stage == "good", world.of(name).reason
            assert world.of(name).good == wanted
            assert world.runs[name] == wanted
            world.do(Ordered("rollback", "console"), name)
            assert world.of(name).previous == wanted


Device.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestDevice = Device.TestCase


def count_effects(policy: dict[str, object]) -> int:
    """Return how many effects a whole update has."""
    world = World()
    world.boot()
    install(world)
    world.cut_in = limit = 1000
    wanted = bundle("a", 2)
    world.want(wanted, "p", request(wanted, policy=policy))
    assert world.settle().stage == "good"
    assert world.cut_in is not None
    return limit - world.cut_in


SHADOWED = {"shadow_windows": 5}
EFFECTS = count_effects(SHADOWED)


@pytest.mark.parametrize("first", range(EFFECTS))
def test_after_a_cut_at_any_point_the_same_request_gets_to_good_without_help(first: int) -> None:
    for second in range(EFFECTS):
        world = World()
        world.boot()
        install(world)
        wanted = bundle("a", 2)
        world.cut_in = first
        world.want(wanted, "p", request(wanted, policy=SHADOWED))
        if world.of().request is None or world.of().request.version != 2:  # type: ignore[union-attr]
            world.want(wanted, "p", request(wanted, policy=SHADOWED), retained=True)
        world.cut_in = second if world.cut_in is None else world.cut_in
        settled = world.settle()
        assert (settled.stage, settled.good, settled.previous) == ("good", wanted, bundle("a", 1))
        assert world.runs["p"] == wanted
        assert set(world.files) == {"a-1.limpet", "a-2.limpet"}


@given(st.lists(st.integers(0, 12), max_size=30))
def test_after_any_number_of_cuts_the_same_request_gets_to_good(cuts: list[int]) -> None:
    world = World()
    world.boot()
    install(world)
    wanted = bundle("a", 2)
    world.want(wanted)
    for cut in cuts:
        world.cut_in = cut
        for _ in range(8):
            if world.cut_in is None:
                break
            world.report()
            if not (world.works() or world.tick()):
                break
        world.cut_in = None
        world.boot()
        assert bundle("a", 1) in (world.of().good, world.of().previous)
    if world.settle().stage != "good":
        assert "times during the" in world.of().reason
        world.want(wanted)
    assert world.settle().good == wanted


def test_the_state_on_the_disk_is_what_was_known_before_the_cut() -> None:
    world = World()
    world.boot()
    install(world)
    before = world.of()
    world.boot()
    assert msgspec.structs.replace(world.of(), live=None) == msgspec.structs.replace(before, live=None)
    assert world.of().stage in RESTING
