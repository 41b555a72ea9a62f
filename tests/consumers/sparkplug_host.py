"""A Sparkplug host made of pysparkplug: follows one node and prints what it decoded as a line of JSON each.

It runs in an environment of its own, as pysparkplug needs an old paho: sparkplug_host.py PORT GROUP NODE.
It asks for one rebirth when the first data have come, and ends with the node's death.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import pysparkplug as psp

PORT, GROUP, NODE = int(sys.argv[1]), sys.argv[2], sys.argv[3]

dead = threading.Event()
asked = threading.Event()


def say(**content: Any) -> None:
    print(json.dumps(content), flush=True)  # noqa: T201 - its output is what it is for


def ask_for_rebirth(client: psp.Client) -> None:
    now = psp.get_current_timestamp()
    wish = psp.Metric(timestamp=now, name="Node Control/Rebirth", datatype=psp.DataType.BOOLEAN, value=True)
    topic = psp.Topic(group_id=GROUP, message_type=psp.MessageType.NCMD, edge_node_id=NODE)
    command = psp.NCmd(timestamp=now, metrics=(wish,))
    client.publish(psp.Message(topic=topic, payload=command, qos=psp.QoS(0), retain=False), include_dtypes=True)


def heard(client: psp.Client, message: psp.Message) -> None:
    kind = str(message.topic.message_type.value)
    if kind not in {"NBIRTH", "NDATA", "NDEATH"}:
        return
    if isinstance(message.payload, psp.NDeath):
        say(kind=kind, bd_seq=message.payload.bd_seq_metric.value, qos=int(message.qos))
        dead.set()
        return
    metrics = [
        {
            "name": m.name,
            "value": m.value,
            "historical": m.is_historical,
            "type": m.datatype.name,
        }
        for m in message.payload.metrics
    ]
    say(kind=kind, seq=message.payload.seq, qos=int(message.qos), metrics=metrics)
    if kind == "NDATA" and not asked.is_set():
        asked.set()
        ask_for_rebirth(client)


client = psp.Client()
client.subscribe(psp.Topic(group_id=GROUP, message_type="+", edge_node_id=NODE), psp.QoS(1), heard)
client.connect("127.0.0.1", port=PORT)
time.sleep(0.5)
say(kind="ready")
dead.wait(30)
client.disconnect()
