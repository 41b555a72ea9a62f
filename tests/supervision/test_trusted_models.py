"""A device with a root of trust, by real processes: which models are found, and which new roots are taken."""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet.config import build
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import Rollout, desired
from limpet.fork.launch import ForkServerProcess
from limpet.supervision.fleet import Fleet
from limpet.supervision.guests import Guests
from limpet.tables import ApiTable
from limpet.trust import settings
from support import models, trusting
from support.trusting import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.config import Config
    from limpet.supervision.checking import Checking

KEYS = Keys()


class Device:
    """The processes of a supervisor, and what it hears of roots."""

    def __init__(self, fleet: Fleet, selector: selectors.BaseSelector) -> None:
        self.fleet = fleet
        self._selector = selector
        self.taken: list[int] = []
        self.refused: list[str] = []

    def root_taken(self, version: int) -> None:
        self.taken.append(version)

    def root_refused(self, reason: str) -> None:
        self.refused.append(reason)

    def until(self, done: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not done():
            assert time.monotonic() < end
            for key, _ in self._selector.select(0.1):
                key.data()
            self.fleet.tend()

    def check(self, config: Config) -> Checking:
        checking = self.fleet.check(config)
        self.until(lambda: checking.done)
        return checking


@pytest.fixture(scope="module")
def processes() -> Iterator[tuple[Fleet, selectors.BaseSelector]]:
    with selectors.DefaultSelector() as selector:
        made = Fleet(selector, ForkServerProcess(), lambda *_: None)
        yield made, selector
        made.close()


@pytest.fixture
def device(processes: tuple[Fleet, selectors.BaseSelector]) -> Device:
    return Device(*processes)


def config(folder: Path, *, rooted: bool = True) -> Config:
    (folder / "recording.csv").write_text("a,b,c\n" + "1,2,3\n" * 8)
    (folder / "root.json").write_bytes(trusting.root(KEYS))
    (folder / "state" / "models").mkdir(parents=True, exist_ok=True)
    tables: dict[str, Any] = {
        "device": {"id": "d", "state": "state"},
        "sources": {"s": {"kind": "replay", "path": "recording.csv", "rate": 10}},
        "pipelines": {"p": {"source": "s", "model": "motion"}, "bare": {"source": "s", "model": "dense.tflite"}},
    }
    return build(tables | ({"trust": {"root": "root.json"}} if rooted else {}), folder)


def put(folder: Path, version: int, **fields: Any) -> Path:
    return trusting.bundle(
        folder / f"state/models/motion-{version}.limpet", [KEYS.maker], version=version, **fields
    )


def test_only_signed_models_are_found_and_those_in_date_are_remembered(device: Device, tmp_path: Path) -> None:
    wanted = config(tmp_path)
    models.dense(tmp_path / "dense.tflite", 3, 3)
    put(tmp_path, 2)
    trusting.bundle(tmp_path / "state/models/motion-3.limpet", [trusting.key()])
    found = device.check(wanted).found
    three, two = found["motion"]
    assert "is unknown to this device" in three.problem
    assert (two.problem, two.signed_by) == ("", (KEYS.maker.public_key.keyid,))
    assert "only signed models run" in found["dense.tflite"][0].problem
    assert settings.accepted(tmp_path / "state/trust") == [two.sha256]


def test_new_roots_are_stored_and_older_ones_are_refused(device: Device, tmp_path: Path) -> None:
    device.fleet.roots.use(config(tmp_path), device)
    device.until(lambda: device.fleet.roots.report.root)
    assert device.fleet.roots.report.models == "signed"
    second, third = trusting.root(KEYS, 2), trusting.root(KEYS, 3, targets=[KEYS.maker2])
    device.fleet.roots.take(b"[" + second + b"," + third + b"]")
    device.until(lambda: device.taken)
    assert device.taken == [3]
    assert sorted(path.name for path in (tmp_path / "state/trust").iterdir()) == ["2.root.json", "3.root.json"]
    device.until(lambda: device.fleet.roots.report.roles["models"].keys == [KEYS.maker2.public_key.keyid])
    assert device.fleet.roots.report.roles["models"].keys == [KEYS.maker2.public_key.keyid]
    device.fleet.roots.take(second)
    device.until(lambda: device.refused)
    assert "root 2 is not newer than root 3" in device.refused[0]
    device.fleet.roots.take(b"[" * 100_000)
    device.until(lambda: len(device.refused) == 2)
    assert device.fleet.roots.report.root == 3


def test_a_running_model_whose_key_is_revoked_does_not_go_on(device: Device, tmp_path: Path) -> None:
    wanted = config(tmp_path)
    put(tmp_path, 2)
    before = desired(wanted, device.check(wanted).found)
    running = next(cell.pipelines["p"] for cell in assignments(before).values() if "p" in cell.pipelines)
    device.fleet.roots.use(wanted, device)
    device.fleet.roots.take(trusting.root(KEYS, 2, targets=[KEYS.maker2]))
    device.until(lambda: device.taken)
    after = desired(wanted, device.check(wanted).found, Rollout(running={"p": running}))
    assert after.pipelines["p"].model is None
    assert "it is revoked" in after.pipelines["p"].problem


def test_a_running_model_goes_on_if_a_file_that_is_not_trusted_takes_its_place(
    device: Device, tmp_path: Path
) -> None:
    wanted = config(tmp_path)
    put(tmp_path, 2)
    before = desired(wanted, device.check(wanted).found)
    running = next(cell.pipelines["p"] for cell in assignments(before).values() if "p" in cell.pipelines)
    trusting.bundle(tmp_path / "state/models/motion-2.limpet", [trusting.key()], version=2, description="other")
    after = desired(wanted, device.check(wanted).found, Rollout(running={"p": running}))
    assert after.pipelines["p"].model == running.model


def test_a_device_without_a_root_takes_no_roots(device: Device, tmp_path: Path) -> None:
    device.fleet.roots.use(config(tmp_path, rooted=False), device)
    device.fleet.roots.take(trusting.root(KEYS))
    assert "no root of trust" in device.refused[0]
    assert device.fleet.roots.report.models == "unsigned"


def test_clients_get_only_signed_models_and_none_whose_key_is_revoked(device: Device, tmp_path: Path) -> None:
    rooted = config(tmp_path)
    put(tmp_path, 2)
    trusting.bundle(tmp_path / "state/models/other-1.limpet", [trusting.key()], name="other", version=1)
    wanted = msgspec.structs.replace(rooted, api=ApiTable(models=["motion", "other"]))
    device.check(rooted)
    guests = Guests(device.fleet, list)

    def reasons() -> dict[str, str]:
        return {model.name: model.reason for model in guests.models(1).models}

    guests.use(wanted)
    device.until(lambda: reasons()["motion"] == "" and "loaded" not in reasons()["other"])
    assert "signed" in reasons()["other"]
    device.fleet.roots.use(wanted, device)
    device.fleet.roots.take(trusting.root(KEYS, 2, targets=[KEYS.maker2]))
    device.until(lambda: device.taken)
    guests.use(wanted)
    device.until(lambda: reasons()["motion"])
    assert "signed" in reasons()["motion"]
    assert not any(name.startswith("guest") for name in device.fleet.pids())
