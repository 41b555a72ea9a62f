"""Which model files are examined, and what is known then: no file is opened."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.assignment import FoundModel
from limpet.deployment.survey import MOST_AT_ONCE, MOST_DAMAGED, Survey


def candidate(version: int, name: str = "motion") -> FoundModel:
    return FoundModel(Path(f"/store/{name}-{version}.limpet"), name, version)


def sound(one: FoundModel) -> FoundModel:
    return msgspec.structs.replace(one, sha256=f"sha-{one.name}-{one.version}")


def damaged(one: FoundModel) -> FoundModel:
    return FoundModel(one.path, "", 0, problem="damaged")


def test_versions_are_examined_from_the_highest_down_to_the_first_sound_one() -> None:
    three, two, one = (candidate(version) for version in (3, 2, 1))
    survey = Survey({"motion": [three, two, one]})
    assert survey.due() == [three.path]
    assert survey.due() == []
    survey.take(damaged(three))
    assert survey.due() == [two.path, one.path]
    assert not survey.done
    survey.take(sound(two))
    assert survey.done
    assert survey.due() == []
    found = survey.found["motion"]
    assert [(each.version, each.problem) for each in found] == [(3, "damaged"), (2, "")]
    assert found[1].sha256 == "sha-motion-2"


def test_below_a_model_that_failed_the_survey_goes_on() -> None:
    three, two, one = (candidate(version) for version in (3, 2, 1))
    survey = Survey({"motion": [three, two, one]}, {"sha-motion-3"})
    survey.take(sound(three))
    assert survey.due() == [two.path, one.path]
    survey.take(sound(two))
    assert survey.done
    assert [each.version for each in survey.found["motion"]] == [3, 2]


def test_a_file_that_two_models_mean_is_examined_once() -> None:
    one = candidate(1)
    survey = Survey({"motion": [one], "models/motion-1.limpet": [one]})
    assert survey.due() == [one.path]
    survey.take(sound(one))
    assert survey.done


def test_a_name_in_the_store_must_be_that_of_the_bundle() -> None:
    one = candidate(1)
    other = FoundModel(one.path, "door", 7, "sha")
    by_path = msgspec.structs.replace(one, any_name=True)
    survey = Survey({"motion": [one], "models/motion-1.limpet": [by_path]})
    survey.take(other)
    (wrong,) = survey.found["motion"]
    assert wrong.problem.endswith("it holds door version 7; rename it to door-7.limpet")
    assert survey.found["models/motion-1.limpet"] == [msgspec.structs.replace(other, any_name=True)]


def test_a_deployed_model_must_be_the_one_that_was_deployed_under_its_name() -> None:
    one = msgspec.structs.replace(candidate(1), sha256="sha-motion-1")
    survey = Survey({"same": [one]})
    survey.take(sound(one))
    assert [(each.sha256, each.problem) for each in survey.found["same"]] == [("sha-motion-1", "")]
    survey = Survey({"other": [one]})
    survey.take(msgspec.structs.replace(one, sha256="another"))
    (wrong,) = survey.found["other"]
    assert wrong.problem.endswith("it is not the model that was deployed under this name")


def test_only_some_files_are_examined_at_the_same_time() -> None:
    survey = Survey({f"m{number}": [candidate(1, f"m{number}")] for number in range(MOST_AT_ONCE + 2)})
    begun = survey.due()
    assert len(begun) == MOST_AT_ONCE
    survey.take(sound(candidate(1, "m0")))
    assert survey.due() == [candidate(1, f"m{MOST_AT_ONCE}").path]
    assert not survey.done


def test_what_is_not_there_needs_no_examination() -> None:
    absent = FoundModel(Path("/store"), "motion", 0, problem="there is no model 'motion'")
    survey = Survey({"motion": [absent]})
    assert survey.done
    assert survey.found == {"motion": [absent]}


def test_only_so_many_damaged_versions_are_skipped() -> None:
    survey = Survey({"motion": [candidate(version) for version in range(100, 0, -1)]})
    examined = 0
    while due := survey.due():
        examined += len(due)
        for path in due:
            survey.take(FoundModel(path, "", 0, problem="damaged"))
    assert examined == MOST_DAMAGED
    assert survey.done


def test_versions_that_take_long_do_not_keep_the_sound_one_below_from_being_examined() -> None:
    """Each round is one in which all that are examined take as long as they may."""
    versions = [candidate(version) for version in range(9, 0, -1)]
    survey = Survey({"motion": versions})
    rounds = 0
    while due := survey.due():
        rounds += 1
        for path in due:
            survey.take(
                sound(versions[-1]) if path == versions[-1].path else FoundModel(path, "", 0, problem="slow")
            )
    assert rounds == 3
    assert [one.version for one in survey.found["motion"] if not one.problem] == [1]


def test_models_whose_versions_are_damaged_do_not_hold_up_others() -> None:
    hostile = {
        f"h{number}": [candidate(version, f"h{number}") for version in (2, 1)] for number in range(MOST_AT_ONCE)
    }
    survey = Survey({**hostile, "door": [candidate(1, "door")]})
    for path in survey.due():
        survey.take(FoundModel(path, "", 0, problem="slow"))
    assert survey.due()[0] == candidate(1, "door").path


def test_no_version_below_a_sound_one_is_examined() -> None:
    versions = [candidate(version) for version in range(8, 0, -1)]
    survey = Survey({"motion": versions})
    survey.due()
    survey.take(damaged(versions[0]))
    begun = survey.due()
    assert begun == [one.path for one in versions[1 : 1 + MOST_AT_ONCE]]
    survey.take(sound(versions[2]))
    assert survey.due() == []
    assert not survey.done
    survey.take(damaged(versions[1]))
    assert survey.done
    assert [one.version for one in survey.found["motion"] if not one.problem] == [6]


def test_files_that_were_not_examined_in_time_do_not_run() -> None:
    two, one = candidate(2), candidate(1)
    survey = Survey({"motion": [two, one], "door": [candidate(1, "door")]})
    survey.take(sound(candidate(1, "door")))
    survey.give_up("not examined")
    assert survey.done
    assert [each.problem for each in survey.found["motion"]] == [
        f"{each.path}: not examined" for each in (two, one)
    ]
    assert survey.found["door"][0].problem == ""


@given(
    st.lists(st.booleans(), max_size=12),
    st.lists(st.booleans(), max_size=12),
)
def test_the_highest_sound_version_is_always_found(first: list[bool], second: list[bool]) -> None:
    good = {"motion": first, "door": second}
    files = {name: [candidate(number, name) for number in range(len(each), 0, -1)] for name, each in good.items()}
    survey = Survey(files)
    while due := survey.due():
        for path in due:
            (one,) = (each for group in files.values() for each in group if each.path == path)
            survey.take(sound(one) if good[one.name][one.version - 1] else damaged(one))
    assert survey.done
    for name, each in good.items():
        highest = max((number for number, whole in enumerate(each, 1) if whole), default=None)
        found = [one.version for one in survey.found[name] if not one.problem]
        assert found == ([] if highest is None else [highest])
