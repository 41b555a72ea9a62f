"""The audit journal of a real daemon: who commanded what, which configuration it took, and that a change shows."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from daemon.conftest import Configure, pipeline, replay
from support.broker import Mosquitto, wait_until
from support.caller import caller
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path


def limpet(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "limpet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def lines(state: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (state / "audit.jsonl").read_bytes().splitlines()]


def test_it_says_what_ran_who_commanded_and_which_configuration_was_taken(
    configure: Configure, consumer: Consumer, broker: Mosquitto, tmp_path: Path
) -> None:
    path, state = configure(replay("left"), pipeline("press", "left")), tmp_path / "state"
    allowed = '[device]\ncommands = ["ping", "restart"]\n'
    path.write_text(path.read_text().replace("[device]\n", allowed))
    first = path.read_bytes()

    def head() -> dict[str, Any]:
        return (consumer.last("health") or {}).get("audit") or {"seq": 0}

    with daemon(path) as running:
        consumer.wait_results("press", 2)
        with caller(broker.port) as operator:
            assert operator.call("ping")["ok"]
            assert operator.call("restart", pipeline="press")["ok"]
            assert not operator.call("log_level", level="DEBUG")["ok"]
        path.write_text("[device")
        running.signal(signal.SIGHUP)
        wait_until(lambda: consumer.events_of_device("refused"))
        path.write_bytes(first + b"\n")
        running.signal(signal.SIGHUP)
        wait_until(lambda: sum(line["event"] == "config_taken" for line in lines(state)) == 2)
        wait_until(lambda: head()["seq"] == lines(state)[-1]["seq"])
        assert running.stop() == 0
    every = lines(state)
    assert {one["boot"] for one in every} == {consumer.results("press")[0]["boot"]}
    assert every[0]["event"] == "start"
    activated = next(one for one in every if one["event"] == "activated")
    digest = hashlib.sha256((tmp_path / "dense.tflite").read_bytes()).hexdigest()
    assert (activated["pipeline"], activated["what"]["sha256"]) == ("press", digest)
    commands = [(one["what"]["command"], one["who"], one["what"]["reason"]) for one in every if "who" in one]
    sender = {"reporter": "mqtt", "topic": "operators/anna"}
    assert commands == [
        ("restart", sender, "obeyed"),
        ("log_level", sender, "refused: not allowed here: 'log_level' is not among device.commands"),
    ]
    taken = [one["what"]["sha256"] for one in every if one["event"] == "config_taken"]
    assert taken == [hashlib.sha256(content).hexdigest() for content in (first, first + b"\n")]
    (refused,) = [one for one in every if one["event"] == "config_refused"]
    assert refused["what"]["sha256"] == hashlib.sha256(b"[device").hexdigest()
    assert every[-1]["what"] == {"counts": {"ping": 1}}

    known = head()
    verified = limpet("audit", "verify", "--head", f"{known['seq']}:{known['sha256']}", path)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert f"lines 1 to {every[-1]['seq']} are one chain" in verified.stdout
    shown = limpet("audit", "show", path)
    assert "press: command restart; obeyed; through mqtt, answer to operators/anna" in shown.stdout
    assert shown.stdout.count("\n") == len(every)


def test_a_changed_line_is_found_by_the_command_and_at_the_next_start(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    path, state = configure(replay("left"), pipeline("press", "left")), tmp_path / "state"
    with daemon(path) as running:
        consumer.wait_results("press", 2)
        wait_until(lambda: (consumer.last("health") or {}).get("audit"))
        assert running.stop() == 0
    before = lines(state)
    data = (state / "audit.jsonl").read_bytes()
    (state / "audit.jsonl").write_bytes(data.replace(b'"model":"dense"', b'"model":"fine!"'))
    verified = limpet("audit", "verify", path)
    assert verified.returncode == 1
    assert f"{state / 'audit.jsonl'}: line" in verified.stderr
    with daemon(path) as running:
        wait_until(lambda: consumer.events_of_device("state_damaged"))
        consumer.wait_results("press", 2)
        assert running.stop() == 0
    assert "the audit journal begins again" in consumer.events_of_device("state_damaged")[0]["reason"]
    after = lines(state)
    assert (after[0]["event"], after[1]["event"]) == ("begun", "start")
    assert before[0]["seq"] < after[0]["seq"] <= before[-1]["seq"] + 1
    assert limpet("audit", "verify", path).returncode == 0
    assert "the journal was begun again" in limpet("audit", "verify", path).stdout


def test_a_factory_reset_keeps_the_journal_unless_it_is_to_be_begun_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    for _ in range(2):
        assert limpet("reset", "--yes", "--state", state).returncode == 0
    assert [(one["event"], bool(one["who"]["user"])) for one in lines(state)] == [("reset", True)] * 2
    old = hashlib.sha256((state / "audit.jsonl").read_bytes().splitlines()[-1]).hexdigest()
    assert limpet("reset", "--yes", "--audit", "--state", state).returncode == 0
    first, second = lines(state)
    assert (first["event"], first["seq"], first["prev"], second["event"]) == ("begun", 3, old, "reset")
    verified = limpet("audit", "verify", "--head", f"2:{old}", "--state", state)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "it ended at number 2 before" in verified.stdout
    assert limpet("reset", "--yes", "--audit", "--learned", "--state", state).returncode == 1
    assert len(lines(state)) == 2


def test_a_damaged_journal_does_not_stop_a_reset(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "audit.jsonl" / "inside").mkdir(parents=True)
    done = limpet("reset", "--yes", "--state", state)
    assert done.returncode == 0
    assert "the audit journal begins again" in done.stderr
    assert [one["event"] for one in lines(state)] == ["begun", "reset"]
