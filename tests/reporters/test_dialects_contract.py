"""What every dialect must do, third parties' too."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet import plugins
from support import dialects, reports

if TYPE_CHECKING:
    from limpet.contracts.dialect import Dialect, Publish

DIALECTS = plugins.names("dialects")

text = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)
outputs = st.dictionaries(
    text,
    st.recursive(
        st.none() | st.booleans() | numbers | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=10,
    ),
    max_size=6,
)
units = st.fixed_dictionaries(
    {"values": st.dictionaries(text, st.none() | numbers, max_size=4), "units": st.dictionaries(text, text) | text}
)


@pytest.fixture(params=DIALECTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def everything(dialect: Dialect) -> list[Publish]:
    said = list(dialect.results(list(reports.results(3))))
    for message in reports.one_of_each():
        if isinstance(message, reports.messages.ResultMessage):
            said += dialect.results([message])
        elif isinstance(message, reports.messages.EventMessage):
            said += dialect.event(message)
        else:
            said += dialect.state(message)
    said += dialect.snapshot(reports.picture(), "limpet/press-07/snapshot/motion")
    said += dialect.snapshot(reports.picture(jpeg=b""), "limpet/press-07/snapshot/motion")
    said += [*dialect.removed("motion"), *dialect.removed("never seen")]
    will = dialect.connecting("5")
    return [*said, *([will] if will else []), *dialect.connected(), *dialect.leaving()]


def check(publish: Publish) -> None:
    assert publish.topic
    assert not set(publish.topic) & set("+#\0")
    assert not publish.topic.startswith(("/", "$"))
    assert len(publish.topic.encode()) < 65_536
    assert publish.qos in {0, 1}
    assert isinstance(publish.payload, bytes)


def test_the_dialects_are_there() -> None:
    assert {"json", "msgpack", "homeassistant", "sparkplug", "cloudevents", "azure_iot_hub"} <= set(DIALECTS)


def test_it_does_no_input_or_output_and_has_no_numpy(kind: str) -> None:
    code = (
        f"import sys; from limpet import plugins; plugins.load('dialects', {kind!r});"
        "print({'numpy', 'paho', 'socket', 'sqlite3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_all_that_it_says_can_be_published(kind: str) -> None:
    said = everything(dialects.opened(kind))
    assert said
    for publish in said:
        check(publish)


def test_two_dialects_never_say_something_different_on_one_topic() -> None:
    topics = {kind: {p.topic for p in everything(dialects.opened(kind))} for kind in DIALECTS}
    for kind, own in topics.items():
        others = [topic for other in DIALECTS if other != kind for topic in topics[other]]
        assert own.isdisjoint(others)


def test_what_has_been_replayed_says_so(kind: str) -> None:
    dialect = dialects.opened(kind)
    old = [msgspec.structs.replace(result, replayed=True) for result in reports.results(3)]
    said = [*dialect.results(old), *dialect.results([reports.result(3)])]
    received = dialects.received(kind, said)
    assert dialects.Received("press-07/motion/boot1/2", replayed=True) in received
    assert received[-1] == dialects.Received("press-07/motion/boot1/3", replayed=False)


def test_every_result_of_a_batch_is_published_or_at_least_the_newest(kind: str) -> None:
    received = dialects.received(kind, dialects.opened(kind).results(list(reports.results(50))))
    ids = [result.id for result in received]
    every = [f"press-07/motion/boot1/{sequence}" for sequence in range(50)]
    assert ids == (every[-1:] if kind == "homeassistant" else every)


def test_a_new_connection_gets_the_current_state(kind: str) -> None:
    dialect = dialects.opened(kind)
    everything(dialect)
    dialect.connecting("3.1.1")
    again = dialect.connected()
    assert bool(again) == (kind in {"homeassistant", "sparkplug", "azure_iot_hub"})
    for publish in again:
        check(publish)


@settings(max_examples=50)
@given(st.lists(outputs | units, min_size=1, max_size=5))
def test_any_output_can_be_published(made: list[Any]) -> None:
    results = [reports.result(number, output=output) for number, output in enumerate(made)]
    for kind in DIALECTS:
        dialect = dialects.opened(kind)
        said = [*dialect.results(results[:1]), *dialect.results(results)]
        for publish in said:
            check(publish)
        assert dialects.received(kind, said)[-1].id == results[-1].id


@settings(max_examples=50)
@given(text, text, st.booleans(), st.datetimes(timezones=st.just(timezone.utc)))
def test_any_event_can_be_published(name: str, reason: str, replayed: bool, when: datetime) -> None:  # noqa: FBT001
    event = msgspec.structs.replace(reports.event(), event=name, reason=reason, replayed=replayed, time=when)
    for kind in DIALECTS:
        said = dialects.opened(kind).event(event)
        assert said
        for publish in said:
            check(publish)


@given(st.binary(max_size=200), text)
def test_what_comes_in_is_not_trusted(payload: bytes, topic: str) -> None:
    for kind in DIALECTS:
        dialect = dialects.opened(kind)
        assert dialect.received(topic, payload) == []
        for wanted in dialect.subscriptions:
            for publish in dialect.received(wanted, payload):
                check(publish)
