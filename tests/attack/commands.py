"""Attempts of an MQTT client that may publish to the device's commands, and may read answers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from attack.spy import ANSWERS, BYSTANDER, DEVICE, ROOT
from support.broker import wait_until
from support.caller import Caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attack.ground import Ground
    from attack.report import Attempt

BORDER = "commands over MQTT"
PATIENCE = 2.0
ASKED = 8
"""Times that it asks: a flood before may leave some questions without an answer."""


class Intruder(Caller):
    """A client that sends what it likes. ``heard`` has the answers."""

    def __init__(self, port: int) -> None:
        super().__init__(port, "5", [ANSWERS], DEVICE)
        self._asked = 0

    def publish(
        self, name: str, payload: bytes, *, answer: str = ANSWERS, retain: bool = False, **more: Any
    ) -> None:
        """Send a command. ``answer`` is the response topic; ``more``: other properties."""
        make: Any = Properties
        properties = make(PacketTypes.PUBLISH)
        if answer:
            properties.ResponseTopic = answer
        for key, value in more.items():
            setattr(properties, key, value)
        sent = self._client.publish(f"{ROOT}/command/{name}", payload, 1, retain, properties)
        with contextlib.suppress(ValueError, RuntimeError):
            sent.wait_for_publish(5)

    def flood(self, name: str, times: int) -> None:
        """Send an empty command again and again, and wait for no acknowledgement."""
        for _ in range(times):
            self._client.publish(f"{ROOT}/command/{name}", b"{}", 1)

    def tell(self, name: str, payload: bytes) -> None:
        """Send a command, and wait for no acknowledgement."""
        make: Any = Properties
        properties = make(PacketTypes.PUBLISH)
        properties.ResponseTopic = ANSWERS
        self._client.publish(f"{ROOT}/command/{name}", payload, 1, properties=properties)

    def proof(self, ground: Ground, before: int) -> str:
        """Ask something sound after all that was sent: commands arrive in order, so its answer proves the rest.

        A daemon that gave up the connection since there were ``before`` of them has read it as well.
        """
        for _ in range(ASKED):
            self._asked += 1
            mark = b"proof %d" % self._asked
            self.publish("ping", b"{}", CorrelationData=mark)
            with contextlib.suppress(AssertionError):
                wait_until(lambda mark=mark: ground.relay.connections > before or mark in self._marks(), PATIENCE)
                gone = ground.relay.connections > before
                return "the daemon gave up the connection" if gone else "the daemon answered the command after it"
        return ""

    def _marks(self) -> set[bytes]:
        return {getattr(message.properties, "CorrelationData", b"") for message in list(self.heard)}


def infer(**windows: Any) -> bytes:
    return msgspec.json.encode({"pipeline": BYSTANDER, "windows": windows})


def of(pipeline: str) -> bytes:
    return msgspec.json.encode({"pipeline": pipeline})


def labelled(label: Any, **more: Any) -> bytes:
    return msgspec.json.encode({"pipeline": BYSTANDER, "label": label, **more})


def explain(**options: Any) -> bytes:
    return msgspec.json.encode({"pipeline": BYSTANDER, **options})


PAYLOADS: dict[str, tuple[str, bytes]] = {
    "a payload with a key that is not UTF-8": ("ping", b'{"\xff":1}'),
    "a payload with a text that is not UTF-8": ("capture", b'{"pipeline":"\xc3\x28"}'),
    "a payload with half a surrogate": ("capture", b'{"pipeline":"\\ud800"}'),
    "a payload in UTF-16": ("ping", "{}".encode("utf-16")),
    "a payload of msgpack": ("ping", msgspec.msgpack.encode({"x": {"y": 1}})),
    "a payload that announces 4 billion entries in msgpack": ("infer", b"\xdf\xff\xff\xff\xff"),
    "100,000 nested lists as a payload": ("ping", b"[" * 100_000),
    "100,000 nested maps as a payload": ("ping", b'{"a":' * 100_000),
    "a payload of 2 MB and a byte": ("infer", b" " * ((1 << 21) + 1)),
    "a payload of 16 MB": ("infer", b"[" + b"1," * 8_000_000 + b"1]"),
    "a payload that is null": ("ping", b"null"),
    "a payload that is a number of 100,000 digits": ("ping", b"9" * 100_000),
    "a command for a pipeline a/#": ("capture", of("a/#")),
    "a command for a pipeline with a NUL": ("capture", of("a\0b")),
    "a command for a pipeline of 70,000 letters": ("restart", of("x" * 70_000)),
    "a command for a pipeline that is a list": ("restart", b'{"pipeline":["bystander"]}'),
    "a threshold of 1e999": ("threshold", b'{"pipeline":"bystander","value":1e999}'),
    "a threshold that is NaN": ("threshold", b'{"pipeline":"bystander","value":NaN}'),
    "a log level that does not exist": ("log_level", b'{"level":"\\u0000"}'),
    "a window of 2^248 values": ("infer", infer(shape=[(1 << 31) - 1] * 8, values=[1.0])),
    "a window of a dimension of 2^62": ("infer", infer(shape=[1 << 62, 3], values=[1.0])),
    "a window of no dimension": ("infer", infer(shape=[], values=[])),
    "a window of a negative dimension": ("infer", infer(shape=[-1, 3], values=[1.0, 2.0, 3.0])),
    "a window whose values do not fit": ("infer", infer(shape=[1, 1, 4], values=[1.0])),
    "a window for another input": ("infer", infer(shape=[1, 7, 7, 7], values=[1.0] * 343)),
    "a window of infinite values": ("infer", infer(shape=[1, 1, 3], values=[1e39, -1e39, 1e308])),
    "a window of broken base64": ("infer", infer(shape=[1, 3], data="!!!!")),
    "a window of base64 that does not fit": ("infer", infer(shape=[2, 3], data="AAAA")),
    "a window of objects": ("infer", infer(shape=[1, 3], dtype="object", data="AAAA")),
    "256 windows at once": ("infer", infer(shape=[256, 1, 3], values=[1.0] * 768)),
    "a picture of a pipeline that takes none": ("snapshot", of(BYSTANDER)),
    "a picture of the pipeline a/#": ("snapshot", of("a/#")),
    "a label that moves the cursor": ("enrol", labelled("\x1b[2J")),
    "a label of 70,000 letters": ("enrol", labelled("x" * 70_000)),
    "a label of nothing": ("enrol", labelled("")),
    "a label with half a surrogate": ("enrol", b'{"pipeline":"bystander","label":"\\ud800"}'),
    "a label in another writing direction": ("enrol", labelled("\u202egnorw")),
    "2^62 examples of a label": ("enrol", labelled("x", windows=1 << 62)),
    "minus one example of a label": ("enrol", labelled("x", windows=-1)),
    "a label that is a map, to be forgotten": ("forget", labelled({"a": 1})),
    "a label that is not enrolled, to be forgotten": ("forget", labelled("../../mqtt-password")),
    "an explanation of 2^62 invokes": ("explain", explain(invokes=1 << 62)),
    "an explanation of minus one invoke": ("explain", explain(invokes=-1)),
    "an explanation by a path": ("explain", explain(by="../../mqtt-password")),
    "an explanation of a label of 70,000 letters": ("explain", explain(label="x" * 70_000)),
    "an explanation of a label that moves the cursor": ("explain", explain(label="\x1b[2J")),
    "an explanation of pixels of what is no picture": ("explain", explain(by="pixels")),
    "the longest explanation": ("explain", explain(by="cells", method="rise", invokes=10_000)),
    "feedback for a result of another device": ("feedback", b'{"id":"other/a/b/1","truth":"x"}'),
    "feedback for an id of 70,000 letters": ("feedback", b'{"id":"' + b"x" * 70_000 + b'","truth":"x"}'),
    "feedback for a number of 200 digits": ("feedback", b'{"id":"d/a/b/' + b"9" * 200 + b'","truth":1e308}'),
    "a truth that is a tree": ("feedback", b'{"id":"d/a/b/1","truth":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "feedback for a group whose name is a path": (
        "feedback", b'{"id":"d/a/b/1","truth":"x","groups":{"../..":"x"}}'
    ),
    "feedback for 1,000 groups": (
        "feedback",
        b'{"id":"d/a/b/1","truth":"x","groups":{' + b",".join(b'"g%d":"x"' % n for n in range(1000)) + b"}}",
    ),
    "an adaptation that was never made, to be undone": ("undo", b'{"pipeline":"bystander","number":7}'),
    "adaptation 2^62, to be undone": ("undo", b'{"pipeline":"bystander","number":4611686018427387904}'),
    "an adaptation of the pipeline ../a": ("undo", b'{"pipeline":"../a"}'),
    "the command of an empty name": ("", b"{}"),
    "the command ../status": ("..%2fstatus", b"{}"),
    "a command whose name has 10,000 letters": ("x" * 10_000, b"{}"),
}  # fmt: skip

RESPONSES: dict[str, str] = {
    "x/#": "x/#",
    "+": "+",
    "#": "#",
    "the device's status": f"{ROOT}/status",
    "the device's health": f"{ROOT}/health",
    "the results of a pipeline": f"{ROOT}/result/{BYSTANDER}",
    "the device's own commands": f"{ROOT}/command/ping",
    "the desired state of a model": f"{ROOT}/model/{BYSTANDER}/desired",
    "a topic like the device's, with an empty level": f"{ROOT}//status",
    "a topic of 2,000 letters": "y" * 2000,
    "the broker's own topics": "$SYS/broker/uptime",
    "a topic of another device": "limpet/other/command/restart",
}
"""Where the device is told to send its answer."""


def run(ground: Ground, names: Iterable[str] | None = None) -> None:
    """Make these attempts, all if none are named, each with a client of its own."""
    sent = {name: (command, payload, ANSWERS) for name, (command, payload) in PAYLOADS.items()}
    sent |= {f"an answer to {name}": ("ping", b"{}", topic) for name, topic in RESPONSES.items()}
    for name in names or sent:
        command, payload, topic = sent[name]
        with ground.attempt(name, BORDER) as attempt, _intruder(ground) as client:
            before = ground.relay.connections
            client.publish(command, payload, answer=topic)
            attempt.reached = client.proof(ground, before)
    if names is None:
        for name, attack in OTHERS.items():
            with ground.attempt(name, BORDER, restart=attack is _retained) as attempt, _intruder(ground) as client:
                before = ground.relay.connections
                attack(ground, client, attempt)
                attempt.reached = client.proof(ground, before)


@contextlib.contextmanager
def _intruder(ground: Ground) -> Iterator[Intruder]:
    client = Intruder(ground.broker.port)
    try:
        yield client
    finally:
        client.close()


def _retained(ground: Ground, client: Intruder, attempt: Attempt) -> None:
    del ground, attempt
    client.publish("restart", of(BYSTANDER), retain=True)


def _correlation(ground: Ground, client: Intruder, attempt: Attempt) -> None:
    del ground, attempt
    client.publish("restart", b"", retain=True)
    client.publish("ping", b"{}", CorrelationData=b"c" * 60_000)


def _properties(ground: Ground, client: Intruder, attempt: Attempt) -> None:
    del ground, attempt
    client.publish("ping", b"{}", UserProperty=[("k" * 20, "v" * 20)] * 1000)


def _flood(ground: Ground, client: Intruder, attempt: Attempt) -> None:
    del ground, attempt
    client.flood("health", 3000)


def _feedback(ground: Ground, client: Intruder, attempt: Attempt) -> None:
    """Say what is true of results: of the same ones again and again, of others, and of none."""
    known = [one["id"] for one in ground.spy.results()[-50:]]
    answered = len(client.heard)
    for number in range(10_000):
        result = known[number % len(known)] if number % 2 else f"{DEVICE}/p{number}/b/{number}"
        truth = "\u202e" * 200 if number % 3 else float(number)
        said = {"id": result, "truth": truth, "tolerance": 1e300, "groups": {f"g{number % 16}": f"v{number}"}}
        client.tell("feedback", msgspec.json.encode(said))
    with contextlib.suppress(AssertionError):
        wait_until(lambda: len(client.heard) > answered, PATIENCE)
    attempt.happened = f"{len(client.heard) - answered} answers"


def _pictures(ground: Ground, client: Intruder, attempt: Attempt) -> None:
    del ground, attempt
    for name in ("snapshot", "enrol", "forget"):
        client.flood(name, 1000)


def _queued(ground: Ground, client: Intruder, attempt: Attempt) -> None:
    ground.end()
    for payload in (b'{"\xff":1}', b"[" * 100_000, b"{}"):
        for topic in ("x/#", f"{ROOT}/status", ANSWERS):
            client.publish("ping", payload, answer=topic)
    ground.start(attempt)


OTHERS = {
    "a retained command": _retained,
    "60,000 bytes to correlate an answer by": _correlation,
    "1,000 properties of a user": _properties,
    "a flood of 3,000 commands": _flood,
    "a flood of 10,000 messages of feedback": _feedback,
    "a flood of 1,000 commands each to take, enrol and forget": _pictures,
    "commands that wait in the session for the next start": _queued,
}
