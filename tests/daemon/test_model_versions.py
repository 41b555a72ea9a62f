"""Bundles in the store: which version runs, and that `check`, `run` and health agree on it."""

from __future__ import annotations

import os
import re
import shutil
import signal
from typing import TYPE_CHECKING, Any

from daemon.conftest import Configure, pipeline, replay
from limpet.doctor.check import inspect
from limpet.models import deployed
from support import bundles, models
from support.broker import wait_until
from support.daemon import Consumer, Daemon, daemon, missing

if TYPE_CHECKING:
    from pathlib import Path


def put(folder: Path, version: int, *, damaged: bool = False, **fields: Any) -> Path:
    """Put a version of the bundle ``motion`` into the store, in one step as an installer does."""
    store = folder / "state" / "models"
    store.mkdir(parents=True, exist_ok=True)
    model = (folder / "dense.tflite").read_bytes()
    part = bundles.bundle(store / ".part", {"model.tflite": model}, name="motion", version=version, **fields)
    if damaged:
        data = bytearray(part.read_bytes())
        data[data.index(model) + len(model) // 2] ^= 1
        part.write_bytes(data)
    return part.replace(store / f"motion-{version}.limpet")


def check(path: Path) -> str:
    """Return what ``limpet check`` finds."""
    found = inspect(deployed.read_config(path))
    return "\n".join([*found.lines, *found.problems])


def runs(consumer: Consumer, version: int) -> bool:
    health = consumer.last("health/one") or {}
    return (health.get("state"), health.get("version")) == ("running", version)


def reload_until_skipped(running: Daemon, consumer: Consumer) -> str:
    before = len(consumer.events("one", "skipped"))
    running.signal(signal.SIGHUP)
    wait_until(lambda: len(consumer.events("one", "skipped")) > before)
    return str(consumer.events("one", "skipped")[-1]["reason"])


def test_a_new_bundle_is_taken_on_sighup_and_a_damaged_newer_one_is_skipped(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    put(tmp_path, 1)
    path = configure(replay("left"), pipeline("one", "left", "motion"))
    with daemon(path) as running:
        wait_until(lambda: runs(consumer, 1))
        put(tmp_path, 2)
        running.signal(signal.SIGHUP)
        wait_until(lambda: runs(consumer, 2))
        worker = running.pid_of("left")
        put(tmp_path, 3, damaged=True)
        reason = reload_until_skipped(running, consumer)
        assert re.search(r"motion-3\.limpet.*; runs motion-2\.limpet", reason)
        consumer.wait_results("one", len(consumer.results("one")) + 20)
        assert running.pid_of("left") == worker
        said = check(path)
        assert "left -> motion 2 on cpu" in said
        assert re.search(r"one: warning: skipped .*motion-3\.limpet", said)
        running.stop()
        assert not missing(consumer.results("one"))
        running.start()
        wait_until(lambda: len(consumer.events("one", "skipped")) == 2)
        wait_until(lambda: runs(consumer, 2))
    assert {result["version"] for result in consumer.results("one")} == {1, 2}


def test_a_pipeline_that_names_a_version_or_a_file_runs_that_one(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    for version in (1, 2, 3):
        put(tmp_path, version)
    path = configure(
        replay("left"),
        pipeline("pinned", "left", "motion@2"),
        pipeline("file", "left", "state/models/motion-1.limpet"),
        pipeline("highest", "left", "motion"),
        pipeline("absent", "left", "motion@7"),
    )
    with daemon(path):
        for name, version in (("pinned", 2), ("file", 1), ("highest", 3)):
            consumer.wait_results(name, 1)
            assert consumer.results(name)[0]["version"] == version
        wait_until(lambda: consumer.events("absent", "failed"))
    assert "no version 7 of 'motion'" in consumer.events("absent", "failed")[0]["reason"]
    assert "there are: 3, 2, 1" in check(path)


def test_a_file_that_changed_after_it_was_examined_is_refused_until_the_next_reload(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    put(tmp_path, 1)
    path = configure(replay("left"), pipeline("one", "left", "motion"))
    with daemon(path) as running:
        wait_until(lambda: runs(consumer, 1))
        put(tmp_path, 1, description="another bundle under the same name")
        os.kill(running.pid_of("left"), signal.SIGKILL)
        wait_until(lambda: consumer.events("one", "failed"))
        assert "changed since the models were examined" in consumer.events("one", "failed")[0]["reason"]
        running.signal(signal.SIGHUP)
        wait_until(lambda: runs(consumer, 1))


def test_what_runs_goes_on_while_its_model_is_nowhere_to_be_found(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    bundle = put(tmp_path, 1)
    path = configure(replay("left"), pipeline("one", "left", "motion"))
    with daemon(path) as running:
        consumer.wait_results("one", 20)
        bundle.unlink()
        reason = reload_until_skipped(running, consumer)
        assert re.search(r"there is no model 'motion' in .*; runs motion-1\.limpet", reason)
        consumer.wait_results("one", len(consumer.results("one")) + 20)
        running.stop()
    assert not missing(consumer.results("one"))
    assert not consumer.events("one", "failed")


def test_a_newer_bundle_that_cannot_run_here_takes_down_no_older_one_not_even_at_the_start(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    put(tmp_path, 1)
    store = tmp_path / "state" / "models"
    for version, content in ((2, b"no model"), (3, (tmp_path / "dense.tflite").read_bytes())):
        decoder = {"kind": "of the future"} if version == 3 else {}
        bundles.bundle(
            store / f"motion-{version}.limpet",
            {"model.tflite": content},
            name="motion",
            version=version,
            decoder=decoder,
        )
    parts = (
        pipeline("one", "left", "motion").replace("decoder", "# decoder"),
        pipeline("other", "left", "motion@1"),
    )
    put(tmp_path, 1, decoder={"kind": "regress"})
    path = configure(replay("left"), *parts)
    with daemon(path):
        wait_until(lambda: runs(consumer, 1))
        consumer.wait_results("other", 1)
        reason = consumer.events("one", "skipped")[-1]["reason"]
        assert re.search(r"motion-3\.limpet: .*of the future", reason)
        assert re.search(r"motion-2\.limpet: .*; runs motion-1\.limpet", reason)
        said = check(path)
    assert "one: left -> motion 1 on cpu" in said
    assert re.search(r"one: warning: skipped motion-3\.limpet: .*of the future", said)


def test_file_names_of_the_store_reach_no_message_unchecked(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    put(tmp_path, 1)
    os.close(
        os.open(os.fsencode(tmp_path) + b"/state/models/\xff\x1b[2Jmotion-1.limpet", os.O_CREAT | os.O_WRONLY)
    )
    path = configure(replay("left"), pipeline("one", "left", "motion"), pipeline("absent", "left", "door"))
    with daemon(path):
        consumer.wait_results("one", 1)
        wait_until(lambda: consumer.events("absent", "failed"))
    reason = consumer.events("absent", "failed")[0]["reason"]
    assert "there is no model 'door'" in reason
    assert reason.isprintable()


def test_a_store_or_a_file_that_was_replaced_under_its_name_is_read_by_a_new_worker(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    put(tmp_path, 1)
    store, beside = tmp_path / "state" / "models", tmp_path / "beside"
    path = configure(replay("left"), pipeline("one", "left", "motion"), pipeline("two", "left"))
    with daemon(path) as running:
        wait_until(lambda: runs(consumer, 1))
        consumer.wait_results("two", 20)
        shutil.copytree(store, beside)
        shutil.rmtree(store)
        beside.rename(store)
        put(tmp_path, 2)
        running.signal(signal.SIGHUP)
        wait_until(lambda: runs(consumer, 2))
        consumer.wait_results("two", 20)
        # The folder of the configuration is closed to a worker, but for the file.
        models.dense(tmp_path / "new", inputs=3, outputs=3, int8=False)
        (tmp_path / "new").replace(tmp_path / "dense.tflite")
        worker = running.pid_of("left")
        running.signal(signal.SIGHUP)
        wait_until(lambda: running.pid_of("left") != worker)
        consumer.wait_results("two", 20)
        # What was unpacked is gone, and its folder.
        shutil.rmtree(tmp_path / "state" / "cache")
        put(tmp_path, 3)
        running.signal(signal.SIGHUP)
        wait_until(lambda: runs(consumer, 3))
        consumer.wait_results("two", 20)
        # What is damaged takes down nothing: no worker starts again for it.
        worker = running.pid_of("left")
        (tmp_path / "new").write_bytes(b"no model")
        (tmp_path / "new").replace(tmp_path / "dense.tflite")
        running.signal(signal.SIGHUP)
        wait_until(lambda: consumer.events("two", "skipped"))
        consumer.wait_results("two", 20)
        assert running.pid_of("left") == worker
        running.stop()
    for name in ("one", "two"):
        assert not missing(consumer.results(name))
        assert not consumer.events(name, "swap_failed")


def test_a_refused_configuration_loses_no_search_for_a_lower_version(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    put(tmp_path, 1)
    put(tmp_path, 2, window={"size": 7})
    parts = replay("left"), pipeline("one", "left", "motion"), pipeline("other", "left", "motion@1")
    path = configure(*parts)
    with daemon(path) as running:
        consumer.wait_results("other", 1)
        configure(*parts, "[nonsense]\n")
        running.signal(signal.SIGHUP)
        wait_until(lambda: consumer.events_of_device("refused"))
        wait_until(lambda: runs(consumer, 1))
