"""What each dialect says, word for word where a standard lays it down."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import jsonschema
import msgspec
import pytest

from limpet.contracts.accuracy import AccuracyHealth, RightShare
from limpet.contracts.detected_events import KeywordEvent, ObjectEvent
from limpet.contracts.drift import AlarmHealth, DriftEvent, MonitorHealth, MonitorsHealth, Moved
from limpet.contracts.messages import State
from limpet.contracts.outputs import Keypoint, Keypoints, Mask, Pose, Region, Segmentation
from limpet.contracts.updates import ModelName
from limpet.reporters.dialects import _sparkplug_payload as spb
from limpet.reporters.dialects import cloudevents, homeassistant, sparkplug
from support import dialects, reports

SCHEMAS = Path(__file__).parent.parent.parent / "docs" / "schemas"

REGRESS = {
    "values": {"oil temp": 81.5, "wear": None},
    "units": {"oil temp": "°C"},
    "in_range": True,
    "out_of_range": [],
}
DETECT = {
    "detections": [{"label": "person", "score": 0.9, "box": [0.1, 0.2, 0.3, 0.4]}],
    "counts": {"person": 1, "traffic light": 0},
}
ANOMALY = {"anomalous": True, "score": 1.5, "threshold": 1.0}

# --- JSON and MessagePack


def test_json_is_as_the_schemas_say() -> None:
    dialect = dialects.opened("json")
    for name, publishes in {
        "result": [*dialect.results(list(reports.results(2))), *dialect.results([reports.result()])],
        "event": dialect.event(reports.event()),
        "health": dialect.state(reports.device_health()),
        "pipeline-health": dialect.state(reports.pipeline_health()),
        "model-reported": dialect.state(reports.model_reported()),
    }.items():
        validator = jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_bytes()))
        for publish in publishes:
            validator.validate(json.loads(publish.payload))
            assert publish.retain == (name not in {"result", "event"})


def test_msgpack_has_what_json_has_and_is_smaller() -> None:
    results = list(reports.results(3))
    [packed] = dialects.opened("msgpack").results(results)
    [plain] = dialects.opened("json").results(results)
    assert msgspec.msgpack.decode(packed.payload, type=list[reports.messages.ResultMessage]) == results
    assert packed.topic == "limpet/press-07/msgpack/result/motion"
    assert len(packed.payload) < len(plain.payload)


# --- CloudEvents

STRUCTURED = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "type": {"type": "string", "pattern": r"^io\.limpet\."},
        "time": {"type": "string", "format": "date-time"},
        "subject": {"type": "string", "minLength": 1},
        "replayed": {"type": "boolean"},
        "datacontenttype": {"const": "application/json"},
        "data": {"type": "object"},
    },
    "propertyNames": {"pattern": "^[a-z0-9]{1,20}$"},
    "additionalProperties": False,
}


def test_cloudevents_are_binary_in_mqtt_5() -> None:
    result = reports.result(7)
    [publish] = dialects.opened("cloudevents").results([result])
    assert dict(publish.user_properties) == {
        "specversion": "1.0",
        "id": result.id,
        "source": "/limpet/press-07",
        "type": "io.limpet.result",
        "time": "2026-11-21T12:30:15.250000Z",
        "subject": "motion",
    }
    assert publish.content_type == "application/json"
    assert msgspec.json.decode(publish.payload, type=reports.messages.ResultMessage) == result


def test_cloudevents_are_structured_in_mqtt_3() -> None:
    dialect = dialects.opened("cloudevents")
    dialect.connecting("3.1.1")
    replayed = msgspec.structs.replace(reports.result(7), replayed=True)
    said = [
        *dialect.results([replayed]),
        *dialect.event(reports.event("")),
        *dialect.state(reports.device_health()),
    ]
    for publish in said:
        assert publish.content_type == "application/cloudevents+json"
        assert publish.user_properties == ()
        jsonschema.Draft202012Validator(STRUCTURED).validate(json.loads(publish.payload))
    assert json.loads(said[0].payload)["replayed"] is True
    assert "subject" not in json.loads(said[1].payload)


def test_a_redelivered_event_has_the_same_id_and_another_has_another() -> None:
    dialect = dialects.opened("cloudevents")
    said = [dialect.event(event)[0] for event in (reports.event(), reports.event(), reports.event(name="failed"))]
    first, second, third = (dict(publish.user_properties)["id"] for publish in said)
    assert first == second != third


def test_the_source_of_cloudevents_is_a_uri() -> None:
    dialect = cloudevents.open(cloudevents.Config(), reports.ORIGIN, "my plant/press-07")
    assert dict(dialect.event(reports.event())[0].user_properties)["source"] == "/my%20plant/press-07"


# --- Home Assistant

COMMON = {"device", "origin", "availability", "qos"}
ENTITY = {
    "unique_id", "name", "state_topic", "value_template", "device_class", "entity_category",
    "json_attributes_topic", "json_attributes_template", "availability", "availability_mode",
}  # fmt: skip
FIGURE = {"unit_of_measurement", "state_class", "options", "suggested_display_precision"}
OPTIONS = {
    "sensor": ENTITY | FIGURE,
    "binary_sensor": ENTITY,
    "event": ENTITY | {"event_types"},
    "update": ENTITY | {"command_topic", "payload_install"},
}
"""Keys that the documentation of the platforms has."""


def discovered(said: list[Any]) -> dict[str, dict[str, Any]]:
    """Return the entities by name, after the rules of discovery per entity."""
    found = {}
    for publish in said:
        if not publish.topic.startswith("homeassistant/"):
            continue
        prefix, platform, node, entity, config = publish.topic.split("/")
        assert (prefix, node, config, publish.retain) == ("homeassistant", "press-07", "config", True)
        assert not set(entity) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
        content = json.loads(publish.payload)
        assert not set(content) - COMMON - OPTIONS[platform]
        found[content["name"]] = {"platform": platform, **content}
    return found


def test_entities_appear_with_the_first_result() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    said = dialect.results([reports.result(0, "press", ANOMALY)])
    entities = discovered(said)
    assert set(entities) == {"press anomalous", "press score", "press threshold", "press latency"}
    assert entities["press anomalous"]["platform"] == "binary_sensor"
    assert entities["press anomalous"]["device_class"] == "problem"
    assert entities["press threshold"]["entity_category"] == "diagnostic"
    assert [each["topic"] for each in entities["press score"]["availability"]] == [
        "limpet/press-07/status",
        "limpet/press-07/homeassistant/health/press",
    ]
    state = said[-1]
    assert state.topic == entities["press score"]["state_topic"]
    assert state.retain
    assert json.loads(state.payload)["fields"] == {"anomalous": "ON", "score": 1.5, "threshold": 1.0}


def test_a_model_that_still_learns_raises_no_problem_in_home_assistant() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    output = {"anomalous": False, "score": 9.5, "threshold": 1.0, "untrained": True, "learned": 0.5}
    said = dialect.results([reports.result(0, "press", output)])
    entities = discovered(said)
    assert entities["press untrained"]["platform"] == "binary_sensor"
    assert {entities[f"press {name}"]["entity_category"] for name in ("untrained", "learned")} == {"diagnostic"}
    fields = json.loads(said[-1].payload)["fields"]
    assert (fields["anomalous"], fields["untrained"], fields["learned"]) == ("OFF", "ON", 0.5)


def test_scores_have_three_digits_and_milliseconds_are_no_duration() -> None:
    """Home Assistant shows a duration in whole seconds: a latency of half a millisecond would be 0."""
    dialect = dialects.opened("homeassistant", discovery="entity")
    output = {"anomalous": True, "score": 0.000778666, "threshold": 1.0}
    entities = discovered(dialect.results([reports.result(0, "press", output)]))
    assert entities["press score"]["suggested_display_precision"] == 3
    latency = entities["press latency"]
    assert (latency["unit_of_measurement"], latency["suggested_display_precision"]) == ("ms", 2)
    assert "device_class" not in latency


def test_units_come_from_the_decoder_and_a_value_that_was_null_appears_later() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    entities = discovered(dialect.results([reports.result(0, "oil", REGRESS)]))
    assert entities["oil oil temp"]["unit_of_measurement"] == "°C"
    assert entities["oil oil temp"]["device_class"] == "temperature"
    assert (
        entities["oil oil temp"]["value_template"]
        == '{{ value_json.fields.get("values/oil temp") if value else None }}'
    )
    assert "oil wear" not in entities
    later = REGRESS | {"values": {"oil temp": 80.0, "wear": 3}}
    assert list(discovered(dialect.results([reports.result(1, "oil", later)]))) == ["oil wear"]
    assert discovered(dialect.results([reports.result(2, "oil", later)])) == {}


def test_of_detections_there_is_how_many_there_are_of_each_label() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    said = dialect.results([reports.result(0, "gate", DETECT)])
    entities = discovered(said)
    counts = {"gate counts person", "gate counts traffic light"}
    assert set(entities) == {*counts, "gate person occupied", "gate traffic light occupied", "gate latency"}
    assert entities["gate counts person"]["state_class"] == "measurement"
    assert entities["gate person occupied"]["platform"] == "binary_sensor"
    assert entities["gate person occupied"]["device_class"] == "occupancy"
    assert json.loads(said[-1].payload)["fields"] == {
        "occupied/labels/person": "ON",
        "occupied/labels/traffic light": "OFF",
        "counts/person": 1,
        "counts/traffic light": 0,
    }
    birth, _ = dialects.opened("sparkplug").results([reports.result(0, "gate", DETECT)])
    assert metrics(birth)["Pipelines/gate/counts/person"].double_value == 1
    assert json.loads(metrics(birth)["Pipelines/gate/detections"].string_value) == DETECT["detections"]


TRACKED = {
    "detections": [{"label": "person", "score": 0.9, "box": [0.1, 0.2, 0.3, 0.4], "id": 7, "zones": ["drive"]}],
    "counts": {"person": 1},
    "totals": {"person": 4},
    "zones": {"drive": {"person": 1}, "front lawn": {}, "drive 2": {}},
    "lines": {"gate": {"forward": 3, "backward": 1}},
}


def details(**changes: Any) -> reports.messages.EventMessage:
    new = ObjectEvent(
        type="new", id=7, label="person", score=0.9, box=(0.1, 0.2, 0.3, 0.4), zones=[], age_s=0.2, unseen_s=0.0
    )
    return msgspec.structs.replace(
        reports.event("door", "object"), reason="", details=msgspec.structs.replace(new, **changes)
    )


def test_of_a_camera_there_are_occupancy_counts_and_events() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    said = dialect.results([reports.result(0, "door", TRACKED)])
    entities = discovered(said)
    occupied = {f"door {name} occupied" for name in ("drive", "drive 2", "front lawn", "person")}
    counted = {"door totals person", "door lines gate forward", "door lines gate backward"}
    now = {"door counts person", "door zones drive person"}
    events = {"door object", "door zone", "door line"}
    assert set(entities) == occupied | counted | now | events | {"door latency"}
    assert {entities[name]["device_class"] for name in occupied} == {"occupancy"}
    assert {entities[name]["state_class"] for name in counted} == {"total_increasing"}
    assert {entities[name]["state_class"] for name in now} == {"measurement"}
    fields = json.loads(said[-1].payload)["fields"]
    assert fields["occupied/zones/drive/any"] == "ON"
    assert fields["occupied/zones/front lawn/any"] == "OFF"
    assert fields["zones/drive/person"] == 1
    assert entities["door object"]["event_types"] == ["new", "update", "end"]
    assert "value_template" not in entities["door object"]


def test_an_event_of_an_object_is_sent_once_and_not_late() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    entity = discovered(dialect.results([reports.result(0, "door", TRACKED)]))["door object"]
    (said,) = dialect.event(details())
    assert said.topic == entity["state_topic"]
    assert not said.retain
    content = json.loads(said.payload)
    assert (content["event_type"], content["id"], content["label"]) == ("new", 7, "person")
    late = details()
    late.replayed = True
    assert dialect.event(late) == []
    assert said.topic not in [publish.topic for publish in dialect.connected()]
    dialect.removed("door")
    assert dialect.event(details()) == []


def test_an_event_announces_its_entity_if_no_result_did() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    announced, said = dialect.event(details())
    assert discovered([announced])["door object"]["state_topic"] == said.topic


def test_the_event_entity_of_a_wake_word_is_there_before_the_word() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    quiet = {"keyword": None, "score": 0.01, "scores": {"okay nabu": 0.01}}
    entities = discovered(dialect.results([reports.result(0, "wake", quiet)]))
    assert set(entities) == {"wake keyword", "wake scores okay nabu", "wake latency"}
    assert entities["wake keyword"]["event_types"] == ["heard"]
    heard = reports.event("wake", "keyword")
    (said,) = dialect.event(
        msgspec.structs.replace(heard, reason="", details=KeywordEvent(label="okay nabu", score=0.9))
    )
    assert said.topic == entities["wake keyword"]["state_topic"]
    content = json.loads(said.payload)
    assert (content["event_type"], content["label"], content["score"]) == ("heard", "okay nabu", 0.9)


@pytest.mark.parametrize("discovery", ["device", "entity"])
def test_entities_of_a_zone_that_is_removed_are_removed(discovery: str) -> None:
    dialect = dialects.opened("homeassistant", discovery=discovery)
    dialect.results([reports.result(0, "door", TRACKED)])
    before = {publish.topic for publish in dialect.connected()}
    fewer = TRACKED | {"zones": {"front lawn": {"person": 1}, "drive 2": {}}}
    del fewer["lines"]
    said = dialect.results([reports.result(1, "door", fewer)])
    gone = ["door__occupied__zones__drive__any", "door__zones__drive__person"]
    gone += ["door__lines__gate__forward", "door__lines__gate__backward", "door_line"]
    if discovery == "device":
        removed = json.loads(said[0].payload)["components"]
        assert {key: removed[key] for key in gone} == {
            gone[0]: {"platform": "binary_sensor"},
            gone[-1]: {"platform": "event"},
            **{key: {"platform": "sensor"} for key in gone[1:-1]},
        }
        left = json.loads(dialect.connected()[0].payload)["components"]
        assert not set(gone) & set(left)
    else:
        assert {publish.topic.split("/")[3] for publish in said if not publish.payload} == set(gone)
        assert len(before - {publish.topic for publish in dialect.connected()}) == 5
    fields = json.loads(said[-1].payload)["fields"]
    assert "occupied/zones/drive/any" not in fields
    assert fields["occupied/zones/front lawn/any"] == "ON"
    back = dialect.results([reports.result(2, "door", TRACKED)])
    assert json.loads(back[-1].payload)["fields"]["occupied/zones/drive/any"] == "ON"


def test_labels_of_a_model_are_safe_in_topics_and_templates_and_zones_come_before_them() -> None:
    """A model may have 80 labels and any text as one."""
    odd = ["a/b", "+#", '{{ 1 }}"', "é\n", "x" * 300, "", "occupied/zones/drive/any"]
    counts = dict.fromkeys([*odd, *(f"label {number}" for number in range(80))], 1)
    dialect = dialects.opened("homeassistant", discovery="entity")
    said = dialect.results([reports.result(0, "door", TRACKED | {"counts": counts})])
    entities = discovered(said)
    assert {"door drive occupied", "door front lawn occupied"} <= set(entities)
    assert len(entities) == homeassistant.FIELDS + 4  # the latency and three kinds of events
    fields = json.loads(said[-1].payload)["fields"]
    for entity in entities.values():
        if "value_template" in entity and entity["name"] != "door latency":
            assert _rendered_value(entity["value_template"], fields) in {"ON", "OFF", 1}


def _rendered_value(template: str, fields: dict[str, Any]) -> Any:
    return _rendered(template, {"fields": fields})


@pytest.mark.parametrize("counts", [{"person": None}, {"person": "many"}, {"person": {}}, [], None])
def test_counts_of_a_decoder_of_another_package_may_be_anything(counts: Any) -> None:
    output = {"detections": [], "counts": counts, "zones": {"a": 1, "b": {"c": []}}, "totals": {}}
    for discovery in ("device", "entity"):
        assert dialects.opened("homeassistant", discovery=discovery).results([reports.result(0, "door", output)])


def test_of_a_mask_there_is_the_share_of_each_label_and_no_picture() -> None:
    region = Region("floor", 0.5, (0.0, 0.5, 1.0, 1.0), polygon=[(0.0, 0.5), (1.0, 0.5), (1.0, 1.0)])
    mask = Mask(b"\x89PNG", ["floor"], (0.0, 0.0, 1.0, 1.0))
    output = json.loads(msgspec.json.encode(Segmentation({"floor": 0.5}, [region], mask=mask)))
    said = dialects.opened("homeassistant", discovery="entity").results([reports.result(0, "room", output)])
    assert set(discovered(said)) == {"room shares floor", "room latency"}
    assert json.loads(said[-1].payload)["fields"] == {"shares/floor": 0.5}


def test_of_poses_there_is_how_many_there_are() -> None:
    pose = Pose("person", 0.9, (0.0, 0.5, 1.0, 1.0), [Keypoint("nose", 0.5, 0.6, None)])
    output = json.loads(msgspec.json.encode(Keypoints([pose], {"person": 1}, [])))
    said = dialects.opened("homeassistant", discovery="entity").results([reports.result(0, "gym", output)])
    assert json.loads(said[-1].payload)["fields"] == {"counts/person": 1, "occupied/labels/person": "ON"}


def test_discovery_by_device_has_all_in_one_message() -> None:
    dialect = dialects.opened("homeassistant")
    first = dialect.results([reports.result()])
    said = dialect.state(reports.pipeline_health())
    assert first[0].topic == said[0].topic == "homeassistant/device/press-07/config"
    before, after = (json.loads(publish.payload) for publish in (first[0], said[0]))
    assert set(after) == COMMON | {"components"}
    assert set(before["components"]) < set(after["components"])
    assert after["components"]["motion__score"]["unique_id"] == "limpet_press-07_motion/score"
    for component in after["components"].values():
        assert not set(component) - {"platform"} - OPTIONS[component["platform"]]


def update_shown(discovery: str, *reported: reports.messages.ModelReported) -> dict[str, Any]:
    """Return the last state of the update entity."""
    dialect = dialects.opened("homeassistant", discovery=discovery)
    said = [publish for one in reported for publish in dialect.state(one)]
    assert said[-1].topic == "limpet/press-07/homeassistant/update/motion"
    shown: dict[str, Any] = json.loads(said[-1].payload)
    return shown


def test_a_pipeline_has_an_update_entity_once_there_was_an_update() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    assert dialect.state(reports.model_reported()) == []
    entity = discovered(dialect.state(reports.model_reported(stage="staged")))["motion model"]
    assert entity["command_topic"] == "limpet/press-07/command/install"
    assert json.loads(entity["payload_install"]) == {"pipeline": "motion"}
    assert not set(entity) - COMMON - OPTIONS["update"] - {"platform"}
    gone = dialect.removed("motion")
    assert {one.topic for one in gone if not one.payload} >= {
        "homeassistant/update/press-07/motion_update/config",
        "limpet/press-07/homeassistant/update/motion",
    }


def test_a_model_is_offered_while_it_is_under_way_and_no_longer_once_it_failed() -> None:
    staged = update_shown("entity", reports.model_reported(stage="staged", reason="waits for an operator"))
    assert (staged["installed_version"], staged["latest_version"]) == ("motion 3", "motion 4")
    assert staged["release_summary"] == "staged: waits for an operator"
    failed = update_shown("entity", reports.model_reported(stage="failed", reason="x" * 500))
    assert failed["installed_version"] == failed["latest_version"] == "motion 3"
    assert len(failed["release_summary"]) == 255


def test_a_model_on_trial_is_not_installed_yet() -> None:
    """Without the key, Home Assistant keeps the version that it knows."""
    first = reports.model_reported(stage="trial")
    assert "installed_version" not in update_shown("entity", first)
    later = reports.model_reported(stage="trial", good=ModelName("motion", 2))
    assert update_shown("entity", later)["installed_version"] == "motion 2"
    assert update_shown("entity", first)["latest_version"] == "motion 4"


def test_progress_is_published_where_home_assistant_may_know_it() -> None:
    loading = reports.model_reported(stage="downloading", progress=0.4217)
    assert "in_progress" not in update_shown("entity", loading)
    shown = update_shown("device", loading)
    assert (shown["in_progress"], shown["update_percentage"]) == (True, 42.2)
    done = update_shown("device", loading, reports.model_reported(stage="good"))
    assert (done["in_progress"], done["update_percentage"]) == (False, None)


def _rendered(template: str, content: dict[str, Any]) -> Any:
    """Fill in a template; those in use here are expressions of Python as well."""
    return eval(template.strip("{} "), {"value": "{}", "value_json": SimpleNamespace(**content)})  # noqa: S307


def is_available(entity: dict[str, Any], retained: dict[str, bytes]) -> bool:
    """Return what Home Assistant shows, by its rules: every topic must say online."""
    said = [
        _rendered(each["value_template"], json.loads(retained[each["topic"]]))
        for each in entity["availability"]
        if each["topic"] in retained
    ]
    return said == ["online"] * len(entity["availability"])


def test_a_pipeline_without_a_reason_has_an_empty_one() -> None:
    """Home Assistant would show the word None for null."""
    said = dialects.opened("homeassistant", discovery="entity").state(reports.pipeline_health())
    (state,) = (publish for publish in said if not publish.topic.startswith("homeassistant/"))
    assert json.loads(state.payload)["reason"] == ""


def test_drift_is_a_problem_that_says_what_moved() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    assert "motion drift" not in discovered(dialect.state(reports.pipeline_health()))
    health = reports.pipeline_health()
    states = []
    for alarm in (None, AlarmHealth(since=health.time, moved=[Moved(name="x.mean", before=1, now=2)])):
        health.monitors = MonitorsHealth(monitors={"univariate": MonitorHealth(level=0.5, alarm=alarm)})
        said = dialect.state(health)
        states.append(json.loads(said[-1].payload))
        if alarm is None:
            assert discovered(said)["motion drift"]["device_class"] == "problem"
    assert [state["drift"] for state in states] == ["OFF", "ON"]
    assert states[1]["drift_reason"] == "univariate: x.mean moved from 1 to 2"
    event = reports.event(name="drift")
    event.details = DriftEvent(type="new", monitor="univariate")
    assert json.loads(dialect.event(event)[-1].payload)["details"]["monitor"] == "univariate"
    ids = set()
    for monitor in ("univariate", "sensor"):
        event.details = DriftEvent(type="new", monitor=monitor)
        ids.add(dict(dialects.opened("cloudevents").event(event)[0].user_properties)["id"])
    assert len(ids) == 2


def test_accuracy_is_a_figure_once_people_gave_feedback_and_goes_with_the_pipeline() -> None:
    dialect = dialects.opened("homeassistant", discovery="entity")
    health = reports.pipeline_health()
    assert "motion accuracy" not in discovered(dialect.state(health))
    recent = RightShare(answers=80, right=70, low=0.7897, high=0.9334)
    health.accuracy = AccuracyHealth(all=RightShare(answers=900, right=890, low=0.98, high=0.995), recent=recent)
    said = dialect.state(health)
    entity = discovered(said)["motion accuracy"]
    assert (entity["unit_of_measurement"], entity["state_class"]) == ("%", "measurement")
    state = json.loads(said[-1].payload)
    assert (state["accuracy"], state["accuracy_low"], state["accuracy_high"]) == (87.5, 79.0, 93.3)
    assert state["accuracy_answers"] == 80
    health.accuracy.recent = RightShare(answers=0, right=0, low=0.0, high=1.0)
    assert json.loads(dialect.state(health)[-1].payload)["accuracy"] is None
    assert any("accuracy" in publish.topic and not publish.payload for publish in dialect.removed("motion"))


@pytest.mark.parametrize("discovery", ["device", "entity"])
@pytest.mark.parametrize("state", get_args(State))
def test_results_are_available_while_their_pipeline_gives_them(discovery: str, state: State) -> None:
    dialect = dialects.opened("homeassistant", discovery=discovery)
    health = reports.pipeline_health()
    health.state = state
    said = [*dialect.results([reports.result()]), *dialect.state(health)]
    retained = {publish.topic: publish.payload for publish in said} | {
        "limpet/press-07/status": b'{"status": "online"}'
    }
    if discovery == "device":
        content = json.loads(retained["homeassistant/device/press-07/config"])
        common = {key: value for key, value in content.items() if key != "components"}
        entities = {entity["name"]: common | entity for entity in content["components"].values()}
    else:
        entities = discovered(said)
    shown = {name: is_available(entity, retained) for name, entity in entities.items()}
    for name in ("motion score", "motion label", "motion latency"):
        assert shown[name] == (state == "running")
    assert shown["motion state"]
    assert shown["motion model"]
    offline = retained | {"limpet/press-07/status": b'{"status": "offline"}'}
    assert not any(is_available(entity, offline) for entity in entities.values())


def test_unique_ids_are_unique_and_the_same_after_a_restart() -> None:
    def ids() -> list[str]:
        dialect = dialects.opened("homeassistant")
        said = [
            *dialect.results([reports.result(0, "a_b", {"c": 1.0})]),
            *dialect.state(reports.pipeline_health()),
        ]
        said += [*dialect.results([reports.result(0, "a", {"b_c": 1.0})]), *dialect.state(reports.device_health())]
        components = json.loads(dialect.connected()[0].payload)["components"]
        return [component["unique_id"] for component in components.values()]

    assert len(ids()) == len(set(ids())) > 8
    assert ids() == ids()


@pytest.mark.parametrize("discovery", ["device", "entity"])
def test_entities_of_a_removed_pipeline_are_removed(discovery: str) -> None:
    dialect = dialects.opened("homeassistant", discovery=discovery)
    said = [*dialect.results([reports.result()]), *dialect.state(reports.pipeline_health())]
    dialect.state(reports.device_health())
    announced = {publish.topic for publish in said if publish.topic.startswith("homeassistant/")}
    removed = dialect.removed("motion")
    if discovery == "entity":
        assert {publish.topic for publish in removed if not publish.payload} >= announced
    else:
        changes, left = (json.loads(publish.payload)["components"] for publish in removed[:2])
        assert changes["motion_state"] == {"platform": "sensor"}
        assert left == {key: value for key, value in changes.items() if len(value) > 1}
        assert left
        assert not [key for key in left if key.startswith("motion")]
    assert not [publish for publish in dialect.connected() if "motion" in publish.topic.split("/")]
    assert dialect.results([reports.result()]) == [], "a result that waited in the outbox brings nothing back"
    dialect.state(reports.pipeline_health())
    assert dialect.results([reports.result()])


@pytest.mark.parametrize("discovery", ["device", "entity"])
def test_entities_of_a_pipeline_of_an_earlier_run_are_removed(discovery: str) -> None:
    dialect = dialects.opened("homeassistant", discovery=discovery)
    dialect.state(reports.device_health())
    before = [
        publish.topic
        for publish in dialects.opened("homeassistant", discovery=discovery).state(reports.pipeline_health())
    ]
    cleared = [publish.topic for publish in dialect.removed("motion") if not publish.payload]
    assert set(cleared) >= set(before)


def test_home_assistant_that_starts_gets_everything() -> None:
    dialect = dialects.opened("homeassistant")
    dialect.results([reports.result()])
    assert dialect.received("homeassistant/status", b"online") == dialect.connected()
    assert len(dialect.connected()) == 2
    assert dialect.received("homeassistant/status", b"offline") == []


def test_a_state_never_goes_back_to_an_older_result() -> None:
    dialect = dialects.opened("homeassistant")
    old_boot = msgspec.structs.replace(reports.result(900), boot="boot0", replayed=True)
    assert len(dialect.results([old_boot])) == 2
    assert len(dialect.results([reports.result(5)])) == 1
    assert dialect.results([reports.result(4)]) == []
    assert dialect.results([old_boot]) == []
    assert len(dialect.results([reports.result(5)])) == 1, "a redelivery does no harm"


def test_texts_are_no_longer_than_a_state_may_be() -> None:
    said = dialects.opened("homeassistant").results([reports.result(output={"label": "x" * 300})])
    assert json.loads(said[-1].payload)["fields"]["label"] == "x" * homeassistant.LONGEST


# --- Sparkplug B


def parse(publish: Any) -> Any:
    return spb.Payload.FromString(publish.payload)


def metrics(publish: Any) -> dict[str, Any]:
    return {metric.name: metric for metric in parse(publish).metrics}


def test_birth_and_death_have_the_same_number_and_each_connection_another() -> None:
    dialect = sparkplug.open(sparkplug.Config(group="plant"), reports.ORIGIN, dialects.ROOT)
    numbers = []
    for _ in range(258):
        will = dialect.connecting("5")
        [birth] = dialect.connected()
        [farewell] = dialect.leaving()
        assert (will.topic, will.qos, will.retain) == ("spBv1.0/plant/NDEATH/press-07", 1, False)
        assert not parse(will).HasField("seq")
        assert (birth.topic, birth.qos, birth.retain) == ("spBv1.0/plant/NBIRTH/press-07", 0, False)
        same = {metrics(p)["bdSeq"].long_value for p in (will, birth, farewell)}
        assert len(same) == 1
        numbers += same
    assert numbers == [*range(256), 0, 1]


def test_the_sequence_goes_round_and_begins_anew_with_a_birth() -> None:
    dialect, host = dialects.opened("sparkplug"), dialects.SparkplugHost()
    for number in range(600):
        for publish in dialect.results([reports.result(number)]):
            host.take(publish)
    assert host.births == 1
    assert [received.id for received in host.received] == [
        f"press-07/motion/boot1/{number}" for number in range(600)
    ]


def test_what_is_new_is_born_before_it_has_data() -> None:
    dialect = dialects.opened("sparkplug")
    birth, data = dialect.results([reports.result(0, "oil", REGRESS)])
    assert (birth.topic.split("/")[2], data.topic.split("/")[2]) == ("NBIRTH", "NDATA")
    born = metrics(birth)
    assert born["Node Control/Rebirth"].datatype == spb.BOOLEAN
    assert not born["Node Control/Rebirth"].HasField("alias")
    temperature = born["Pipelines/oil/values/oil temp"]
    assert (temperature.datatype, temperature.double_value) == (spb.DOUBLE, 81.5)
    assert list(temperature.properties.keys) == ["engUnit"]
    assert temperature.properties.values[0].string_value == "°C"
    assert [p.topic.split("/")[2] for p in dialect.results([reports.result(1, "oil", REGRESS)])] == ["NDATA"]


def test_metrics_of_a_removed_pipeline_are_not_born_again() -> None:
    dialect = dialects.opened("sparkplug")
    dialect.connected()
    dialect.results([reports.result()])
    [birth] = dialect.removed("motion")
    assert b"Pipelines/motion" not in birth.payload
    assert dialect.removed("motion") == []
    [again, _] = dialect.results([reports.result()])
    assert b"Pipelines/motion" in again.payload


def test_a_host_can_ask_for_a_birth() -> None:
    dialect = dialects.opened("sparkplug")
    dialect.results([reports.result()])
    [topic] = dialect.subscriptions
    assert topic == "spBv1.0/limpet/NCMD/press-07"
    wish = spb.encode([spb.Metric(True, spb.BOOLEAN, 1, name=spb.REBIRTH)], 1)
    [birth] = dialect.received(topic, wish)
    assert parse(birth).seq == 0
    assert metrics(birth)["Pipelines/motion/score"].double_value == pytest.approx(0.93)
    other = spb.encode([spb.Metric(False, spb.BOOLEAN, 1, name=spb.REBIRTH)], 1)
    assert dialect.received(topic, other) == []


def test_what_is_replayed_is_historical_and_no_current_value() -> None:
    dialect, host = dialects.opened("sparkplug"), dialects.SparkplugHost()
    old = msgspec.structs.replace(reports.result(0, output={"score": 0.1}), replayed=True)
    for publish in dialect.results([reports.result(1, output={"score": 0.9}), old]):
        host.take(publish)
    scores = [(value, historical) for name, value, historical in host.values if name.endswith("/score")]
    assert scores == [(0.9, False), (0.1, True)]
    assert metrics(dialect.connected()[0])["Pipelines/motion/score"].double_value == pytest.approx(0.9)


def test_a_value_that_changes_its_type_is_null() -> None:
    dialect, host = dialects.opened("sparkplug"), dialects.SparkplugHost()
    for number, value in enumerate([1.5, "high", True, 2]):
        for publish in dialect.results([reports.result(number, output={"score": value})]):
            host.take(publish)
    assert [value for name, value, _ in host.values if name.endswith("/score")] == [1.5, None, None, 2.0]
    assert host.births == 1


def test_names_without_end_are_not_born_without_end() -> None:
    dialect = dialects.opened("sparkplug")
    for number in range(30):
        dialect.results([reports.result(number, output={f"n{number}-{i}": 1.0 for i in range(100)})])
    assert len(metrics(dialect.connected()[0])) == sparkplug.METRICS + 4


@pytest.mark.parametrize("discovery", ["device", "entity"])
def test_home_assistant_shows_the_last_picture_of_a_pipeline_as_an_image(discovery: str) -> None:
    dialect = dialects.opened("homeassistant", discovery=discovery)
    topic = "limpet/press-07/snapshot/motion"
    [announced] = dialect.snapshot(reports.picture(), topic)
    content = json.loads(announced.payload)
    image = content["components"]["motion_snapshot"] if discovery == "device" else content
    assert (image["image_topic"], image["content_type"]) == (topic, "image/jpeg")
    assert image["unique_id"] == "limpet_press-07_motion:snapshot"
    assert not image.keys() & {"state_topic", "value_template"}
    assert dialect.snapshot(reports.picture(), topic) == [], "it is announced once"
    assert dialect.connected()
    [gone] = dialect.snapshot(reports.picture(jpeg=b""), topic)
    if discovery == "device":
        assert json.loads(gone.payload)["components"] == {"motion_snapshot": {"platform": "image"}}
    else:
        assert (gone.topic, gone.payload) == (announced.topic, b"")
    assert not [publish for publish in dialect.connected() if b"image" in publish.payload]


@pytest.mark.parametrize("kind", ["json", "msgpack", "cloudevents", "sparkplug"])
def test_other_dialects_leave_pictures_out(kind: str) -> None:
    assert dialects.opened(kind).snapshot(reports.picture(), "limpet/press-07/snapshot/motion") == []


@pytest.mark.parametrize("kind", ["homeassistant", "sparkplug"])
def test_a_name_of_any_length_is_no_message_of_any_size(kind: str) -> None:
    """A worker that was taken over makes its outputs as it likes: each of 50 values would have a long path."""
    dialect = dialects.opened(kind)
    long = {"\x01" * 60_000: {str(number): 1 for number in range(50)}}
    output = {**long, "values": {"score": 1.0}, "units": {"score": "V" * 9000}}
    said = [*dialect.results([reports.result(0, "press", output)]), *dialect.connected()]
    assert sum(len(publish.payload) for publish in said) < 10_000
    assert all(b"score" in publish.payload for publish in said[-1:])


@pytest.mark.parametrize("discovery", ["device", "entity"])
def test_zones_and_units_that_change_with_each_result_are_not_announced_each_time(discovery: str) -> None:
    dialect = dialects.opened("homeassistant", discovery=discovery)
    announced = 0
    for number in range(500):
        zones = {f"zone {number} {i}": {"person": 1} for i in range(16)}
        for output in (TRACKED | {"zones": zones}, REGRESS | {"units": {"oil temp": f"{number}"}}):
            said = dialect.results([reports.result(number, "door", output)])
            assert said[-1].topic == "limpet/press-07/homeassistant/result/door"
            announced += len(said) > 1
    assert announced <= homeassistant.CHANGES_AT_ONCE + 10
    # Other pipelines are announced as ever.
    assert len(dialect.results([reports.result(0, "press", ANOMALY)])) > 1
