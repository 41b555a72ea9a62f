"""The rules of updates, one by one: what follows in which stage, and what a person reads about it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import msgspec
import pytest

from limpet.contracts.updates import Comparison, ModelName
from limpet.updates import machine
from limpet.updates.instructions import Admit, CleanUp, Fetch, Note, Select, Shadow, Stop, Verify
from limpet.updates.moves import MOST_BOOTS, MOST_CHECKS, MOST_RESTARTS, MOST_TRIES
from limpet.updates.schedule import Conditions
from limpet.updates.selection import selection
from limpet.updates.state import Updates, on_disk
from limpet.updates.stimuli import (
    Accepted,
    Admitted,
    Booted,
    Cleared,
    Compared,
    Fetched,
    NotAdmitted,
    NotFetched,
    NotPlaced,
    NotTakenOver,
    NotVerified,
    Ordered,
    Refused,
    Tick,
    TookOver,
    Verified,
    Wanted,
)
from support.update_world import BOUND, LENGTH, World, bundle, request

if TYPE_CHECKING:
    from limpet.updates.instructions import Instruction
    from limpet.updates.state import Deployed
    from limpet.updates.stimuli import Stimulus

OLD, NEW, NEWER = bundle("a", 1), bundle("a", 2), bundle("a", 3)
STAGES = ["downloading", "verifying", "staged", "admission", "shadow", "trial"]
SHADOWED = {"shadow_windows": 5}
LOST = NotFetched("The connection ended.", final=False)


def device(good: Deployed | None = OLD) -> World:
    world = World()
    world.boot()
    if good is not None:
        world.want(good)
        world.settle()
    return world


def at(stage: str, policy: dict[str, object] | None = None) -> World:
    """Return a device with OLD as its good model, that is at a stage of the update to NEW."""
    world = device()
    world.want(NEW, form=request(NEW, policy=SHADOWED if policy is None else policy))
    while world.of().stage != stage:
        assert world.go_on()
    world.report()
    return world


def follows(world: World, stimulus: Stimulus) -> list[Instruction]:
    """Return what follows on a stimulus, without carrying it out."""
    return list(machine.apply(world.updates, "p", stimulus, world.facts).instructions)


def order(world: World, command: str) -> str:
    return world.feed(Ordered(command, "console"))  # type: ignore[arg-type]


# --- the way from a request to good


def test_an_update_goes_through_all_stages_and_keeps_the_model_before() -> None:
    world, stages = device(), []
    world.want(NEW, form=request(NEW, policy=SHADOWED))
    while not stages or stages[-1] != "good":
        stages.append(world.of().stage)
        world.go_on()
        if world.of().stage == "good":
            stages.append("good")
    assert list(dict.fromkeys(stages)) == [*STAGES, "good"]
    assert (world.of().good, world.of().previous, world.of().candidate) == (NEW, OLD, None)
    assert world.updates.highest == {"a": 2}
    assert world.of().since == world.now


def test_without_a_shadow_in_the_policy_the_model_takes_over_after_admission() -> None:
    world = at("admission", {})
    world.works()
    assert world.of().stage == "trial"


def test_a_good_model_that_cannot_run_is_installed_again_on_request() -> None:
    world, one, two = World(), bundle("m", 1), bundle("m", 2)
    for each in (one, two):
        world.want(each)
        world.settle()
    damaged = msgspec.structs.replace(world.facts, has_good=False)
    wanted = Wanted(desired=b"again", request=request(two))
    assert machine.advance(world.of(), wanted, world.facts).update.stage == "good"
    step = machine.advance(world.of(), wanted, damaged)
    assert step.update.stage == "downloading"
    assert step.instructions[-1] == Fetch(request(two), None)
    world.updates.pipelines["p"] = step.update
    world.follow("p", step.instructions[-1])
    after = world.settle()
    assert (after.stage, after.good, after.previous) == ("good", two, one)


def test_a_pipeline_without_a_model_needs_no_shadow() -> None:
    world = at("admission")
    facts = msgspec.structs.replace(world.facts, has_model=False)
    step = machine.advance(world.of(), Admitted(), facts)
    assert step.update.stage == "trial"


def test_only_results_of_the_candidate_after_it_took_over_make_it_good() -> None:
    world = at("admission", {"trial_windows": 1})
    world.works()
    assert world.of().stage == "trial"
    world.feed(Accepted("a", 2, 5))
    assert world.of().stage == "trial"
    world.feed(TookOver(NEW.sha256))
    world.feed(Accepted("a", 1, 5))
    world.feed(Accepted("b", 2, 5))
    world.feed(Accepted("a", 2, 0))
    assert world.of().stage == "trial"
    world.proven.add("p")
    world.feed(Accepted("a", 2, 1))
    assert world.of().stage == "good"


def test_a_trial_needs_its_windows_and_its_seconds() -> None:
    world = at("trial", {"trial_windows": 3, "trial_seconds": 100.0})
    world.accept(count=2)
    world.passes(99.0)
    world.accept(count=1)
    assert world.of().stage == "trial"
    assert machine.due(world.of(), world.facts) == pytest.approx(1.0)
    assert world.tick()
    assert world.of().stage == "good"


def test_a_pipeline_that_reports_its_model_again_does_not_begin_the_trial_again() -> None:
    world = at("trial", {"trial_windows": 1, "trial_seconds": 100.0})
    world.passes(60.0)
    world.feed(TookOver(NEW.sha256))
    world.passes(40.0)
    world.accept()
    assert world.of().stage == "good"


def test_a_request_for_the_good_model_is_good_without_work() -> None:
    world = device()
    world.want(OLD, form=request(OLD, id="again"))
    assert (world.of().stage, world.of().request.id) == ("good", "again")  # type: ignore[union-attr]
    assert not world.at_work


def test_a_range_that_is_the_wrong_way_round_is_refused() -> None:
    world = device()
    world.want(NEW, form=request(NEW, version=(3, 2)))
    assert world.of().reason == "The request has versions 3 to 2. Write the lower one first."


def test_a_version_in_the_range_will_do_and_another_one_will_not() -> None:
    world = device()
    world.want(NEW, form=request(NEW, version=(2, 4)))
    assert world.settle().good == NEW
    world.want(NEWER, form=request(NEWER, version=(4, 5)))
    assert world.settle().reason == "The file has version 3 of a. The request is for a 4 to 5."


def test_a_file_with_another_model_is_refused_before_it_gets_to_its_place() -> None:
    world = at("verifying")
    world.works(verified=bundle("b", 2))
    assert (world.of().stage, world.of().reason) == (
        "failed",
        "The file has version 2 of b. The request is for a 2.",
    )
    assert set(world.files) == {OLD.file}


def test_a_file_with_another_hash_or_length_is_not_the_one_of_the_request() -> None:
    for other in (bundle("a", 2, "other"), msgspec.structs.replace(NEW, length=LENGTH + 1)):
        world = at("verifying")
        world.works(verified=other)
        assert world.of().reason == "The file is not the one of the request."


@pytest.mark.parametrize(
    ("stage", "stimulus"),
    [("downloading", Booted()), ("downloading", Fetched()), ("verifying", Booted()), ("verifying", Verified(NEW))],
)
def test_a_state_without_its_request_is_a_failure_that_blocks_nothing(stage: str, stimulus: Stimulus) -> None:
    world = at(stage)
    lost = msgspec.structs.replace(world.of(), request=None)
    step = machine.advance(lost, stimulus, world.facts)
    assert (step.update.stage, step.update.reason) == ("failed", "There is no request any more.")


# --- requests that are not carried out


def test_a_version_below_the_highest_good_one_is_refused() -> None:
    world = device(NEW)
    world.want(OLD)
    assert (world.of().stage, world.of().good) == ("failed", NEW)
    assert "older than 2, which was good here" in world.of().reason


@pytest.mark.parametrize(
    ("fields", "stage"), [({"signed": True}, "good"), ({"local": True}, "good"), ({}, "failed")]
)
def test_an_older_version_needs_a_signed_request_that_allows_it(fields: dict[str, bool], stage: str) -> None:
    world = device(NEW)
    world.want(OLD, form=request(OLD, serial=5, allow_older=True), **fields)
    assert world.settle().stage == stage


def test_a_signed_request_that_does_not_allow_an_older_version_is_refused() -> None:
    world = device(NEW)
    world.want(OLD, signed=True)
    assert (world.of().stage, world.of().good) == ("failed", NEW)


def test_a_pipeline_that_lost_its_model_during_the_shadow_gets_the_new_one() -> None:
    world = at("shadow")
    step = machine.advance(world.of(), Tick(), msgspec.structs.replace(world.facts, has_model=False))
    assert step.update.stage == "trial"


def test_an_older_version_in_a_range_is_found_out_when_the_file_is_verified() -> None:
    world = device(NEW)
    world.want(OLD, form=request(OLD, version=(1, 3)))
    assert "older than 2" in world.settle().reason


def test_another_file_under_a_name_and_version_that_is_deployed_is_refused() -> None:
    world = device()
    other = bundle("a", 1, "other")
    world.want(other)
    assert world.of().reason == "This device has another file as version 1 of a. Raise the version."
    world.want(other, form=request(other, version=(1, 2)))
    assert world.settle().reason == "This device has another file as version 1 of a. Raise the version."
    assert world.files[OLD.file] == OLD.file_sha256


def test_another_file_is_refused_too_if_another_pipeline_has_that_version() -> None:
    world = World(pipelines=("p", "q"))
    world.boot()
    world.want(OLD, "q")
    world.settle("q")
    world.want(bundle("a", 1, "other"))
    assert "another file as version 1" in world.of().reason
    world.want(OLD)
    assert world.settle().good == OLD


def test_a_lower_serial_is_a_replay_and_the_same_serial_needs_the_same_request() -> None:
    world = device()
    world.want(NEW, form=request(NEW, serial=5))
    world.settle()
    world.want(NEWER, form=request(NEWER, serial=4))
    assert world.of().reason == "The request has serial 4. This device has seen 5. Send a higher serial."
    assert world.of().request == request(NEW, serial=5)
    world.want(NEWER, form=request(NEWER, serial=5))
    assert world.of().reason == "Another request had serial 5. Send a higher serial."
    world.want(NEW, form=request(NEW, serial=5))
    assert world.of().stage == "good"
    world.want(NEWER, form=request(NEWER, serial=6))
    assert world.of().stage == "downloading"


def test_attack_a_high_serial_that_is_not_signed_keeps_no_signed_request_out() -> None:
    world = device()
    world.want(NEW, form=request(NEW, serial=1 << 53))
    world.settle()
    world.want(NEWER, form=request(NEWER, serial=6))
    assert "Send a higher serial" in world.of().reason
    world.want(NEWER, form=request(NEWER, serial=6), signed=True)
    assert world.settle().good == NEWER
    world.feed(Cleared())
    world.want(bundle("a", 4), form=request(bundle("a", 4), serial=7))
    assert world.settle().good == bundle("a", 4)


def test_attack_a_request_that_is_not_signed_needs_a_higher_serial_than_a_signed_one() -> None:
    world = device()
    world.want(NEW, form=request(NEW, serial=5), signed=True)
    world.settle()
    world.want(NEWER, form=request(NEWER, serial=4))
    assert world.of().reason == "The request has serial 4. This device has seen 5. Send a higher serial."


@pytest.mark.parametrize("between", ["withdrawn", "local", "unsigned"])
def test_attack_a_copy_of_a_signed_request_for_an_older_version_does_not_bring_it_back(between: str) -> None:
    world = device(NEW)
    older = request(OLD, serial=5, allow_older=True)
    world.want(OLD, form=older, signed=True)
    assert world.settle().good == OLD
    world.want(NEWER, form=request(NEWER, serial=6), local=between == "local")
    assert world.settle().good == NEWER
    if between == "withdrawn":
        world.feed(Cleared())
    world.want(OLD, form=older, signed=True)
    assert "Send a higher serial" in world.of().reason
    assert world.settle().good == NEWER


def test_a_signed_request_for_an_older_version_needs_a_serial_and_is_tried_again_after_a_failure() -> None:
    world = device(NEW)
    world.want(OLD, form=request(OLD, allow_older=True), signed=True)
    assert world.of().reason == "A signed request with allow_older needs a serial. Send one that is above 0."
    older = request(OLD, serial=5, allow_older=True)
    world.want(OLD, form=older, signed=True)
    world.feed(NotFetched("The server answers 404.", final=True))
    assert world.of().stage == "failed"
    world.want(OLD, form=older, signed=True)
    assert world.settle().good == OLD


def test_a_local_request_needs_no_serial_and_leaves_the_one_that_was_seen() -> None:
    world = device()
    world.want(NEW, form=request(NEW, serial=5))
    world.settle()
    world.want(NEWER, local=True)
    assert world.settle().good == NEWER
    assert world.of().unsigned_serial == 5


def test_an_expired_request_is_refused_and_one_that_expires_while_it_waits_fails() -> None:
    world = device()
    late = datetime.fromtimestamp(world.now - 1, timezone.utc)
    world.want(NEW, form=request(NEW, expires=late))
    assert "The request expired on" in world.of().reason
    soon = datetime.fromtimestamp(world.now + 100, timezone.utc)
    world.want(NEW, form=request(NEW, expires=soon, policy={"start": "operator"}))
    while world.of().stage != "staged":
        world.go_on()
    assert world.tick()
    assert world.of().stage == "failed"
    assert "expired" in world.of().reason


def test_a_request_that_does_not_fit_on_the_disk_is_refused() -> None:
    world = device()
    large = msgspec.structs.replace(NEW, length=BOUND)
    world.want(large)
    assert world.of().reason == (
        f"The model needs {BOUND} bytes, and models that must stay have {LENGTH}. "
        f"updates.disk_bytes is {BOUND}. Raise it."
    )


def test_windows_that_never_meet_are_refused() -> None:
    world = device()
    facts = msgspec.structs.replace(
        world.facts, window=request(NEW, window={"begin": "02:00", "end": "04:00"}).window
    )
    form = request(NEW, window={"begin": "05:00", "end": "06:00"})
    step = machine.advance(world.of(), Wanted(desired=b"{}", request=form), facts)
    assert step.update.reason == "The request's window and updates.window have no time in common. Change one."


def test_a_limit_that_needs_the_old_model_needs_a_shadow_if_that_is_the_configuration_s() -> None:
    world = device(None)
    world.want(NEW, form=request(NEW, policy={"least_feedback": 5}))
    assert "Set policy.shadow_windows" in world.of().reason
    world.want(NEW, form=request(NEW, policy={"least_feedback": 5, "shadow_windows": 5}))
    assert world.of().stage == "downloading"


def test_what_a_reader_refused_is_reported_once_and_changes_no_model() -> None:
    world = device()
    world.feed(Refused("The signature is wrong."))
    assert (world.of().stage, world.of().reason, world.of().good) == ("failed", "The signature is wrong.", OLD)
    assert follows(world, Refused("The signature is wrong.")) == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_damaged_request_disturbs_no_update(stage: str) -> None:
    world = at(stage)
    before = world.of()
    world.feed(Refused("The request is damaged."))
    assert world.of() == before
    assert world.noted[-1] == Note("update_refused", "The request is damaged.")
    assert world.settle().good == NEW


# --- the same request again, another one, and none


def test_the_same_request_is_tried_again_after_a_failure_but_not_a_broker_s_copy() -> None:
    world = at("admission")
    world.ends("p", NotAdmitted("It answered wrongly."))
    assert (world.of().stage, world.of().reason) == ("failed", "It answered wrongly.")
    form = request(NEW, policy=SHADOWED)
    world.want(NEW, form=form, retained=True)
    assert world.of().stage == "failed"
    world.want(NEW, form=form)
    assert world.settle().good == NEW


def test_a_broker_s_copy_is_known_also_after_a_local_request() -> None:
    world = device()
    world.want(NEW)
    world.settle()
    world.want(NEWER, local=True)
    world.settle()
    world.want(NEW, retained=True)
    assert (world.of().stage, world.of().good) == ("good", NEWER)


def test_two_brokers_with_different_copies_do_not_take_turns() -> None:
    world = device()
    for reporter, wanted in (("a", NEW), ("b", NEWER)):
        world.want(wanted, retained=True, reporter=reporter)
        assert world.settle().good == wanted
    for reporter, wanted in (("a", NEW), ("b", NEWER)):  # Both connections broke.
        world.want(wanted, retained=True, reporter=reporter)
        assert (world.of().stage, world.of().good) == ("good", NEWER)
    world.do(Cleared("a"))
    world.want(NEWER, retained=True, reporter="b")
    assert (world.of().stage, world.of().request) == ("good", None)


def test_downloads_of_two_pipelines_have_room_together_or_one_is_refused() -> None:
    world = World(pipelines=("p", "q"))
    world.boot()
    half = msgspec.structs.replace(NEW, length=BOUND // 2)
    more = msgspec.structs.replace(bundle("b", 1), length=BOUND // 2 + 1)
    world.want(half)
    world.want(more, "q")
    assert (world.of().stage, world.of("q").stage) == ("downloading", "failed")
    assert "models that must stay and other downloads have 100" in world.of("q").reason
    world.want(msgspec.structs.replace(more, length=BOUND // 2), "q")
    assert world.of("q").stage == "downloading"


def test_a_second_broker_s_copy_of_a_request_that_failed_is_not_another_try() -> None:
    world = at("admission")
    world.ends("p", NotAdmitted("It answered wrongly."))
    world.want(NEW, form=request(NEW, policy=SHADOWED), retained=True, reporter="b")
    assert world.of().stage == "failed"


def test_a_broker_s_copy_that_this_device_has_not_heard_counts() -> None:
    world = device()
    world.want(NEW, retained=True)
    assert world.of().stage == "downloading"


@pytest.mark.parametrize("stage", STAGES)
def test_the_same_request_during_its_update_changes_nothing(stage: str) -> None:
    world = at(stage)
    assert follows(world, Wanted(desired=b"{ }", request=request(NEW, policy=SHADOWED))) == []


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_another_request_ends_the_one_under_way_first(stage: str) -> None:
    world = at(stage)
    done = follows(world, Wanted(desired=b"{}", request=request(NEWER)))
    kinds = [type(one) for one in done]
    assert kinds[0] is Stop
    assert kinds.index(CleanUp) < kinds.index(Fetch)
    assert (Shadow(None) in done) == (stage == "shadow")
    assert Select not in kinds
    world.want(NEWER)
    assert world.settle().good == NEWER
    assert set(world.files) == {OLD.file, NEWER.file}


def test_another_request_during_a_trial_waits_until_the_pipeline_is_back() -> None:
    world = at("trial")
    world.want(NEWER)
    assert world.of().stage == "rolled_back"
    assert not world.at_work
    assert NEW.file in world.files
    world.report()
    assert world.of().stage == "downloading"
    assert NEW.file not in world.files
    assert world.settle().previous == OLD


def test_only_the_last_request_follows_a_rollback_and_it_waits_for_that_as_well() -> None:
    world, newest = at("trial"), bundle("a", 4)
    world.want(NEWER)
    world.want(newest)
    assert world.of().stage == "rolled_back"
    assert not world.at_work
    assert NEW.file in world.files
    assert world.settle().good == newest


@pytest.mark.parametrize("stage", STAGES)
def test_a_request_that_is_refused_disturbs_no_update(stage: str) -> None:
    world = at(stage)
    before = world.of()
    late = datetime.fromtimestamp(world.now - 1, timezone.utc)
    done = follows(world, Wanted(desired=b"{}", request=request(NEWER, expires=late)))
    assert [type(one) for one in done] == [Note]
    world.want(NEWER, form=request(NEWER, expires=late))
    assert (world.of().stage, world.of().request) == (stage, before.request)
    assert world.noted[-1].text.startswith("The request expired on")


def test_another_rate_of_the_shadow_counts_from_now_on() -> None:
    world = at("shadow")
    form = request(NEW, policy={**SHADOWED, "shadow_every": 3, "share": 0.5})
    assert follows(world, Wanted(desired=b"{}", request=form)) == [Shadow(NEW, 3, 0.5)]


def test_without_a_request_there_is_nothing_to_withdraw() -> None:
    world = World()
    world.boot()
    assert follows(world, Cleared()) == []


def test_a_request_that_expires_while_its_download_waits_is_given_up() -> None:
    world = device()
    world.want(NEW, form=request(NEW, expires=datetime.fromtimestamp(world.now + 3, timezone.utc)))
    world.ends("p", LOST)
    assert world.tick()
    assert (world.of().stage, world.of().reason[:20]) == ("failed", "The request expired ")


@pytest.mark.parametrize(
    ("stage", "stimulus"),
    [
        ("staged", Ordered("install", "console")),
        ("admission", Admitted()),
        ("shadow", Ordered("promote", "console")),
    ],
)
def test_a_state_that_lost_its_bundle_is_a_failure_in_each_stage(stage: str, stimulus: Stimulus) -> None:
    world = at(stage)
    lost = msgspec.structs.replace(world.of(), candidate=None)
    step = machine.advance(lost, stimulus, world.facts)
    assert step.update.stage == "failed"
    assert CleanUp() in step.instructions


def test_a_pipeline_that_does_not_report_after_a_rollback_delays_the_next_request_by_a_minute() -> None:
    world = at("trial")
    world.want(NEWER)
    world.heard.clear()
    world.passes(59.0)
    world.do(Tick())
    assert world.of().stage == "rolled_back"
    assert world.tick()
    assert world.of().stage == "downloading"


def test_another_policy_for_the_same_file_counts_from_now_on() -> None:
    world = at("trial", {"promote": "operator"})
    world.accept(count=20)
    assert world.of().reason == "The model waits for the command promote."
    world.want(NEW, form=request(NEW, policy={"promote": "auto"}))
    assert world.of().stage == "good"


def test_other_sources_for_the_same_file_start_the_download_again() -> None:
    world = at("downloading")
    form = request(NEW, sources=[{"url": "https://b"}])
    assert follows(world, Wanted(desired=b"{}", request=form)) == [Stop(), Fetch(form)]


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_a_withdrawn_request_ends_the_update(stage: str) -> None:
    world = at(stage)
    world.do(Cleared())
    assert (world.of().stage, world.of().request, world.of().good) == ("idle", None, OLD)
    assert set(world.files) == {OLD.file}
    assert not world.downloads
    assert not world.at_work
    assert not world.beside


def test_a_request_that_is_withdrawn_during_the_trial_is_rolled_back() -> None:
    world = at("trial")
    world.do(Cleared())
    assert world.of().stage == "rolled_back"
    world.report()
    assert world.runs["p"] == OLD
    assert set(world.files) == {OLD.file}


def test_a_request_that_is_withdrawn_after_it_is_good_leaves_the_model() -> None:
    world = device()
    world.do(Cleared())
    assert (world.of().stage, world.of().good, world.of().request) == ("good", OLD, None)


# --- failures that pass, and such that do not


def test_a_download_that_fails_is_resumed_later_and_given_up_in_the_end() -> None:
    world = at("downloading")
    pauses = []
    for _ in range(MOST_TRIES - 1):
        world.ends("p", LOST)
        assert (world.of().stage, world.of().reason) == ("downloading", "The connection ended.")
        pauses.append(machine.due(world.of(), world.facts) or 0.0)
        assert world.downloads == {"p": "part"}
        world.tick()
    assert 5.0 <= pauses[0] <= 10.0
    assert 1800.0 <= pauses[-1] <= 3600.0
    world.ends("p", LOST)
    assert world.of().reason == f"The connection ended. This was attempt {MOST_TRIES}."
    assert not world.downloads


def test_a_download_that_gets_on_a_little_each_time_is_never_given_up() -> None:
    world = at("downloading")
    for _ in range(MOST_TRIES * 2):
        world.ends("p", NotFetched("The connection ended.", final=False, progress=True))
        world.tick()
    assert world.settle().good == NEW


@pytest.mark.parametrize(
    ("stage", "failure"),
    [
        ("downloading", NotFetched("It is too long.", final=True)),
        ("verifying", NotVerified("It is too long.")),
        ("admission", NotAdmitted("It is too long.")),
    ],
)
def test_a_final_failure_touches_no_pipeline_and_cleans_up(stage: str, failure: Stimulus) -> None:
    world = at(stage)
    done = follows(world, failure)
    assert CleanUp() in done
    assert not any(isinstance(one, Select) for one in done)
    world.ends("p", failure)
    assert (world.of().stage, world.of().reason, world.of().good) == ("failed", "It is too long.", OLD)
    assert set(world.files) == {OLD.file}
    world.want(NEWER)
    assert world.settle().good == NEWER


@pytest.mark.parametrize("failure", [NotVerified("It was killed.", final=False), NotPlaced("The disk is full.")])
def test_what_says_nothing_of_the_bundle_is_tried_again_later(failure: Stimulus) -> None:
    world = at("verifying")
    if isinstance(failure, NotPlaced):
        world.works()
    world.ends("p", failure)
    assert world.of().stage == "downloading"
    assert world.of().tried == 1
    assert world.settle().good == NEW


def test_an_admission_that_could_not_be_held_is_tried_again_but_not_for_ever() -> None:
    world = at("admission")
    for _ in range(MOST_CHECKS - 1):
        world.ends("p", NotAdmitted("It was killed.", final=False))
        assert world.of().stage == "admission"
        world.tick()
        assert world.at_work == {"p": Admit(NEW)}
    world.ends("p", NotAdmitted("It was killed.", final=False))
    assert world.of().reason == f"It was killed. This was attempt {MOST_CHECKS}."


def test_a_spent_byte_budget_delays_downloads_until_the_next_day_but_not_local_ones() -> None:
    world = device()
    world.per_day = 100
    world.conditions = Conditions(local=datetime(2026, 11, 28, 23, 30, tzinfo=timezone.utc))
    world.spent = {"2026-11-28": 100}
    world.want(NEW)
    assert world.of().reason.startswith("The byte budget of the day, 100 bytes, is spent.")
    assert not world.at_work
    assert machine.due(world.of(), world.facts) == 1801.0
    world.conditions = Conditions(local=datetime(2026, 11, 29, 0, 0, 1, tzinfo=timezone.utc))
    world.spent["2026-11-29"] = 30
    world.tick()
    assert world.at_work["p"] == Fetch(request(NEW), 70)
    world.spent["2026-11-29"] = 100
    world.want(NEWER, local=True)
    assert world.at_work["p"] == Fetch(request(NEWER), None)


# --- windows and operators


def test_a_staged_model_waits_for_its_window_without_polling() -> None:
    world = device()
    world.conditions = Conditions(local=datetime(2026, 11, 28, 1, 30, tzinfo=timezone.utc))
    form = request(NEW, window={"begin": "02:00", "end": "04:00"})
    world.want(NEW, form=form)
    while world.of().stage != "staged":
        world.go_on()
    world.do(Tick())
    assert world.of().reason == "The model waits for its window from 02:00 to 04:00."
    assert machine.due(world.of(), world.facts) == 1800.0
    world.conditions = Conditions(local=datetime(2026, 11, 28, 2, 0, tzinfo=timezone.utc))
    assert world.tick()
    assert world.of().stage == "admission"


def test_the_window_counts_again_before_a_model_takes_over_after_its_shadow() -> None:
    world = device()
    open_, closed = (Conditions(local=datetime(2026, 11, 28, hour, 30, tzinfo=timezone.utc)) for hour in (2, 5))
    world.conditions = open_
    world.want(NEW, form=request(NEW, policy=SHADOWED, window={"begin": "02:00", "end": "04:00"}))
    while world.of().stage != "shadow":
        world.go_on()
    world.conditions = closed
    world.do(Compared(Comparison(windows=5, results=5, agreement=1.0)))
    assert world.of().stage == "shadow"
    world.conditions = open_
    world.do(Tick())
    assert world.of().stage == "trial"


def test_nothing_is_looked_at_while_nothing_is_under_way() -> None:
    world = device()
    for command in ("rollback", "cancel"):
        assert machine.due(world.of(), world.facts) is None
        order(world, command)
    world.do(Refused("No."))
    assert machine.due(world.of(), world.facts) is None
    assert machine.due(at("downloading").of(), world.facts) is None


def test_a_model_that_waits_for_an_operator_is_installed_and_promoted_by_command() -> None:
    world = at("staged", {"start": "operator", "promote": "operator", "shadow_windows": 5})
    world.do(Tick())
    assert (world.of().stage, world.of().reason) == ("staged", "The model waits for the command install.")
    assert machine.due(world.of(), world.facts) is None
    assert not order(world, "install")
    world.works()
    world.do(Compared(Comparison(windows=5, results=5, agreement=1.0)))
    assert (world.of().stage, world.of().reason) == ("shadow", "The model waits for the command promote.")
    assert not order(world, "promote")
    assert world.of().stage == "trial"
    assert order(world, "promote") == "a 2 has no accepted result yet. Wait for one."
    world.report()
    world.accept(count=20)
    assert world.of().stage == "trial"
    assert not order(world, "promote")
    assert world.of().good == NEW


REFUSED = {
    "idle": {"install", "promote", "cancel"},
    "downloading": {"install", "promote", "rollback"},
    "verifying": {"install", "promote", "rollback"},
    "staged": {"promote", "rollback"},
    "admission": {"install", "promote", "rollback"},
    "shadow": {"install", "rollback"},
    "trial": {"install", "promote"},
    "good": {"install", "promote", "cancel"},
    "failed": {"promote", "cancel"},
    "rolled_back": {"promote", "cancel"},
}


@pytest.mark.parametrize("stage", REFUSED)
@pytest.mark.parametrize("command", ["install", "promote", "rollback", "cancel"])
def test_a_command_that_makes_no_sense_is_refused_and_changes_nothing(stage: str, command: str) -> None:
    match stage:
        case "idle":
            world = device()
            world.do(Cleared())
            world = World(saved=msgspec.json.encode(Updates()), files=world.files)
            world.boot()
            command_refused = REFUSED[stage] | {"rollback"}
        case "good":
            world, command_refused = device(), REFUSED[stage]
        case "failed" | "rolled_back":
            world, command_refused = at("trial" if stage == "rolled_back" else "staged"), REFUSED[stage]
            order(world, "cancel")
            world.report()
        case _:
            world, command_refused = at(stage), REFUSED[stage]
    assert world.of().stage == stage
    before = world.of()
    refused = order(world, command)
    assert bool(refused) == (command in command_refused)
    if refused:
        assert refused.endswith((".", stage + "."))
        assert world.of() == before
    else:
        assert world.of() != before


def test_a_download_that_waits_is_resumed_at_once_by_the_command_install() -> None:
    world = at("downloading")
    world.ends("p", LOST)
    assert not order(world, "install")
    assert isinstance(world.at_work["p"], Fetch)


def test_a_failed_request_that_was_signed_or_local_is_so_still_when_it_is_tried_again() -> None:
    for fields in ({"signed": True}, {"local": True}):
        world = device(NEW)
        world.want(OLD, form=request(OLD, serial=5, allow_older=True), **fields)
        world.ends("p", NotFetched("It is gone.", final=True))
        assert not order(world, "install")
        assert world.settle().good == OLD


def test_without_a_request_there_is_nothing_to_try_again() -> None:
    world = device()
    world.do(Cleared())
    world.do(Refused("The signature is wrong."))
    assert order(world, "install") == "No model waits to be installed. Send a request first."


def test_an_operator_without_a_name_is_an_operator() -> None:
    world = device()
    world.feed(Ordered("rollback", ""))
    assert world.of().reason == "An operator went back to the configuration's model."


def test_a_pinned_pipeline_keeps_its_model_until_the_pin_is_removed() -> None:
    reason = "A person pinned the model of this pipeline. Remove the pin first."
    world = device()
    world.pinned = True
    world.want(NEW)
    assert (world.of().stage, world.of().reason) == ("failed", reason)
    world.pinned = False
    world.want(NEW, form=request(NEW, policy=SHADOWED))
    while world.of().stage != "staged":
        world.go_on()
    world.pinned = True
    assert order(world, "install") == order(world, "rollback") == reason
    world.do(Tick())
    assert (world.of().stage, world.of().reason) == ("staged", reason)
    assert machine.due(world.of(), world.facts) == 3600.0
    world.pinned = False
    while world.of().stage != "shadow":
        world.go_on()
    world.pinned = True
    world.do(Compared(Comparison(windows=5, results=5, agreement=1.0)))
    assert (world.of().stage, world.of().reason) == ("shadow", reason)
    world.pinned = False
    assert world.settle().good == NEW


def test_a_trial_can_be_ended_although_the_pipeline_is_pinned() -> None:
    world = at("trial")
    world.pinned = True
    assert not order(world, "rollback")
    assert world.of().stage == "rolled_back"


def test_a_failed_update_is_tried_again_by_the_command_install() -> None:
    world = at("verifying")
    world.ends("p", NotVerified("The signature is wrong."))
    assert not order(world, "install")
    assert world.settle().good == NEW


def test_a_rollback_goes_to_the_previous_model_and_a_second_one_comes_back() -> None:
    world = device()
    world.want(NEW)
    world.settle()
    for good, previous in ((OLD, NEW), (NEW, OLD)):
        assert not order(world, "rollback")
        assert (world.of().stage, world.of().good, world.of().previous) == ("rolled_back", good, previous)
        assert world.of().reason == f"console went back to {good.model} {good.version}."
        assert world.runs["p"] == good
        assert selection(world.of()) == (good, previous, None)


def test_a_rollback_to_the_configuration_s_model_can_be_undone_as_well() -> None:
    world = device()
    order(world, "rollback")
    assert world.runs["p"] is None
    assert OLD.file in world.files
    world.boot()
    assert world.runs["p"] is None
    order(world, "rollback")
    assert world.runs["p"] == OLD


def test_cancel_also_drops_the_request_that_waits_for_a_rollback() -> None:
    world = at("trial")
    world.want(NEWER)
    assert order(world, "install").startswith("No model waits")
    assert order(world, "rollback") == "The pipeline goes back to its good model. Try again in a minute."
    assert not order(world, "cancel")
    world.report()
    assert world.of().stage == "rolled_back"


# --- shadow and trial


def test_a_shadow_that_is_worse_or_fails_is_given_up_and_touches_no_pipeline() -> None:
    for bad in (
        Compared(Comparison(windows=5, results=5, errors=5, agreement=1.0)),
        NotTakenOver("The model crashed."),
    ):
        world = at("shadow")
        world.do(bad)
        assert world.of().stage == "failed"
        assert world.runs["p"] == OLD
        assert not world.beside


@pytest.mark.parametrize(
    "bad",
    [
        NotTakenOver("The worker crashed."),
        TookOver(OLD.sha256),
        Compared(Comparison(results=1, errors=20)),
        Ordered("rollback", "console"),
        Ordered("cancel", "console"),
    ],
)
def test_a_trial_that_goes_wrong_rolls_back_by_itself(bad: Stimulus) -> None:
    world = at("trial")
    select = Select((OLD, None))
    assert select in follows(world, bad)
    world.do(bad)
    assert (world.of().stage, world.of().good) == ("rolled_back", OLD)
    assert world.of().reason
    world.report()
    assert world.runs["p"] == OLD
    assert set(world.files) == {OLD.file}


def test_a_model_that_does_not_start_never_becomes_good() -> None:
    world = device()
    world.broken.add(NEW.file_sha256)
    world.want(NEW)
    assert world.settle().stage == "rolled_back"
    assert world.of().reason == "It crashed."
    assert world.runs["p"] == OLD


def test_what_the_old_model_still_reports_before_the_new_one_takes_over_is_no_failure() -> None:
    world = at("admission", {})
    world.works()
    world.feed(TookOver(OLD.sha256))
    assert world.of().stage == "trial"


def test_a_trial_without_a_result_in_a_day_is_rolled_back() -> None:
    world = at("trial")
    while world.of().stage == "trial":
        assert world.tick()
    assert world.of().reason == "No result of the new model was accepted in 24 hours."


def test_limits_that_need_the_old_model_run_it_beside_the_new_one_on_trial() -> None:
    world = at("trial", {"least_agreement": 0.9})
    assert world.beside == {"p": OLD}
    world.accept(count=20)
    assert world.of().reason == "The model waits until it is compared with the old one."
    world.do(Compared(Comparison(windows=20, results=20, agreement=0.2)))
    assert world.of().stage == "rolled_back"
    assert not world.beside


# --- restarts


@pytest.mark.parametrize("stage", STAGES)
def test_a_restart_in_any_stage_begins_its_work_again(stage: str) -> None:
    world = at(stage)
    world.boot()
    again = {"verifying": "downloading"}.get(stage, stage)
    assert world.of().stage == again
    assert world.runs["p"] == (NEW if stage == "trial" else OLD)
    assert world.settle().good == NEW


def test_a_restart_while_a_bundle_is_put_into_its_place_goes_on_with_that() -> None:
    world = at("verifying")
    world.works()
    world.files[NEW.file] = NEW.file_sha256
    del world.downloads["p"]
    world.boot()
    assert world.works()
    assert world.of().stage == "staged"


@pytest.mark.parametrize("stage", ["admission", "shadow", "trial"])
def test_a_stage_that_runs_the_model_is_given_up_after_too_many_restarts(stage: str) -> None:
    world = at(stage)
    for _ in range(MOST_BOOTS):
        world.boot()
        assert world.of().stage == stage
    world.boot()
    assert world.of().stage == ("rolled_back" if stage == "trial" else "failed")
    assert world.of().reason == f"The machine started {MOST_BOOTS + 1} times during the {stage}."
    assert world.runs["p"] == OLD


def test_a_trial_that_ran_for_an_hour_is_allowed_more_restarts_and_its_time_counts() -> None:
    world = at("trial", {"trial_seconds": 22_000.0, "trial_windows": 20})
    for _ in range(2 * MOST_BOOTS):
        world.accept(count=5)
        world.passes(3600.0)
        world.do(Tick())
        world.boot()
        world.report()
        assert world.of().stage == "trial"
    assert (world.of().seconds, world.of().results) == (21600.0, 30)
    world.passes(400.0)
    world.accept()
    assert world.of().stage == "good"


@pytest.mark.parametrize("stage", ["admission", "shadow", "trial"])
def test_restarts_of_the_daemon_alone_are_forgiven_for_longer(stage: str) -> None:
    """A person or a watchdog restarts it. A model cannot end it."""
    world = at(stage)
    update = world.of()
    for _ in range(MOST_RESTARTS):
        update = machine.advance(update, Booted(machine=False), world.facts).update
        assert update.stage == stage
    step = machine.advance(update, Booted(machine=False), world.facts)
    assert step.update.stage in {"failed", "rolled_back"}
    assert f"The daemon started {MOST_RESTARTS + 1} times" in step.update.reason


def test_restarts_during_a_download_never_end_it_but_slow_it_down() -> None:
    world = at("downloading")
    for _ in range(MOST_BOOTS):
        world.boot()
        assert isinstance(world.at_work["p"], Fetch)
    for _ in range(20):
        world.boot()
        assert not world.at_work
        assert "so the download waits" in world.of().reason
    assert (machine.due(world.of(), world.facts) or 0) >= 1800.0
    assert world.settle().good == NEW


def test_restarts_while_verifying_count_with_those_of_the_download() -> None:
    world = at("verifying")
    for _ in range(MOST_BOOTS + 1):
        world.boot()
        while world.of().stage == "downloading":
            world.go_on()
        assert world.at_work == {"p": Verify(request(NEW, policy=SHADOWED))}
    assert world.of().boots == MOST_BOOTS + 1


def test_a_state_without_the_bundle_of_its_stage_is_a_failure_that_blocks_nothing() -> None:
    world = at("trial")
    damaged = msgspec.structs.replace(world.of(), candidate=None, previous=None)
    world.saved = msgspec.json.encode(Updates(pipelines={"p": msgspec.structs.replace(damaged, live=None)}))
    world.updates = msgspec.json.decode(world.saved, type=Updates)
    step = machine.advance(world.of(), Booted(), world.facts)
    assert step.update.reason == "The state on the disk names no bundle."
    assert selection(step.update) == (OLD, None)


def test_figures_and_results_of_a_trial_cause_no_writing() -> None:
    world = at("trial")
    before = on_disk(world.updates)
    world.accept(count=1)
    world.do(Compared(Comparison(windows=3, agreement=1.0)))
    assert on_disk(world.updates) == before


def test_the_latest_time_is_written_with_each_change_and_never_goes_back() -> None:
    world = device()
    assert world.updates.latest == world.now
    world.now -= 1000.0
    world.do(Refused("No."))
    assert world.updates.latest == world.now + 1000.0


def test_reasons_are_cut_to_what_the_state_can_hold() -> None:
    world = device()
    world.do(Refused("x" * 5000))
    world.boot()
    assert len(world.of().reason) == 1000


def test_a_version_below_the_one_of_the_configuration_is_older_too() -> None:
    world = device(good=None)
    facts = msgspec.structs.replace(world.facts, own=ModelName(NEW.model, NEW.version + 1))
    wanted = Wanted(desired=b"{}", request=request(NEW))
    assert "which was good here" in machine.advance(world.of(), wanted, facts).update.reason
    same = msgspec.structs.replace(facts, own=ModelName(NEW.model, NEW.version))
    assert machine.advance(world.of(), wanted, same).update.stage == "downloading"
    other = msgspec.structs.replace(facts, own=ModelName("other", NEW.version + 1))
    assert machine.advance(world.of(), wanted, other).update.stage == "downloading"


KILLED = NotTakenOver("Worker imu: killed by SIGKILL.", outside=True)


def test_a_trial_that_was_ended_from_outside_is_begun_again_by_itself() -> None:
    """The kernel, a person or a fault of the fork server may have done it."""
    world = at("trial")
    update = machine.advance(world.of(), KILLED, world.facts).update
    assert (update.stage, update.repeated, update.pending is not None) == ("rolled_back", 1, True)
    back = machine.advance(update, TookOver(OLD.sha256), world.facts)
    assert (back.update.stage, back.update.candidate, back.update.repeated) == ("downloading", None, 1)


def test_a_shadow_that_was_ended_from_outside_is_begun_again_by_itself_for_some_times() -> None:
    world = at("shadow")
    for number in range(machine.MOST_REPEATS):
        tried = msgspec.structs.replace(world.of(), repeated=number)
        step = machine.advance(tried, KILLED, world.facts)
        assert (step.update.stage, step.update.repeated) == ("downloading", number + 1)
    tried = msgspec.structs.replace(world.of(), repeated=machine.MOST_REPEATS)
    step = machine.advance(tried, KILLED, world.facts)
    assert (step.update.stage, step.update.reason) == ("failed", KILLED.reason)


@pytest.mark.parametrize(("stage", "end"), [("shadow", "failed"), ("trial", "rolled_back")])
def test_a_model_that_crashes_is_not_begun_again_nor_is_one_that_came_by_hand(stage: str, end: str) -> None:
    world = at(stage)
    crash = machine.advance(world.of(), NotTakenOver("killed by SIGSEGV"), world.facts).update
    assert (crash.stage, crash.pending) == (end, None)
    by_hand = msgspec.structs.replace(world.of(), local=True)
    assert machine.advance(by_hand, KILLED, world.facts).update.stage == end
