"""The state directory is kept within bounds, and nothing that is named goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet import config
from limpet.config import ReporterTable
from limpet.contracts.assignment import FoundModel
from limpet.device import state_files
from limpet.errors import DeployError
from limpet.models import bundle, housekeeping
from limpet.models.housekeeping import DAMAGED, DRIVERS, HOUR, UNCONFIGURED, File, look
from support import bundles

if TYPE_CHECKING:
    from pathlib import Path

NOW = time.time()


def wanted(tmp_path: Path, *models: str, ladder: str = "", **device: Any) -> config.Config:
    rungs = [{"model": ladder}] if ladder else []
    tables = {
        "device": {"id": "d", "state": str(tmp_path / "state"), **device},
        "sources": {"s": {"kind": "replay", "path": "x"}},
        "pipelines": {f"p{i}": {"source": "s", "model": name, "ladder": rungs} for i, name in enumerate(models)},
    }
    return config.build(tables, tmp_path)


def store(tmp_path: Path, *names: str) -> None:
    """Put bundles of some 1,000 bytes into the store, the first the oldest, and unpack each."""
    folder = tmp_path / "state/models"
    folder.mkdir(parents=True, exist_ok=True)
    for age, name in enumerate(reversed(names)):
        model = name.encode().ljust(600)
        path = bundles.bundle(folder / f"{name}.limpet", {"model.tflite": model}, model="model.tflite")
        when = NOW - (age + 2) * HOUR
        unpacked = bundle.load(path, tmp_path / "state/cache/models/s").model
        for made in (path, unpacked):
            os.utime(made, (when, when))


def unpacked(tmp_path: Path) -> set[str]:
    return {path.read_bytes().decode().strip() for path in (tmp_path / "state/cache/models/s").iterdir()}


def clean(config: config.Config) -> list[str]:
    """Delete what can be deleted; return which bundles."""
    found = [file.path for file in housekeeping.waste(config, NOW)]
    for path in found:
        path.unlink()
    return sorted(path.name for path in found if path.suffix == ".limpet")


def test_within_the_budget_every_bundle_stays_and_only_named_ones_stay_unpacked(tmp_path: Path) -> None:
    store(tmp_path, "motion-1", "motion-2", "motion-10", "door-1", "spare-7")
    assert clean(wanted(tmp_path, "motion", ladder="door")) == []
    # The version before stays, so that there is a way back.
    assert unpacked(tmp_path) == {"motion-2", "motion-10", "door-1"}


def test_beyond_the_budget_the_oldest_go_that_nothing_names(tmp_path: Path) -> None:
    store(tmp_path, "motion-1", "motion-2", "motion-10", "spare-7", "spare-8")
    size = sum(path.stat().st_size for path in (tmp_path / "state/models").iterdir())
    each = size // 5
    assert clean(wanted(tmp_path, "motion", models_bytes=size)) == []
    assert clean(wanted(tmp_path, "motion", models_bytes=size - each - 100)) == [
        "motion-1.limpet",
        "spare-7.limpet",
    ]
    assert clean(wanted(tmp_path, "motion", models_bytes=1)) == ["spare-8.limpet"]
    left = sorted(path.name for path in (tmp_path / "state/models").iterdir())
    assert left == ["motion-10.limpet", "motion-2.limpet"]


def test_damaged_newer_versions_do_not_cost_the_sound_ones_their_place(tmp_path: Path) -> None:
    store(tmp_path, "motion-1", "motion-2", "motion-3", "spare-8")
    for version in (4, 5):
        path = tmp_path / f"state/models/motion-{version}.limpet"
        path.write_bytes(
            (tmp_path / "state/models/motion-3.limpet").read_bytes().replace(b"motion-3 ", b"motion-x ")
        )
    kept = housekeeping.needed(wanted(tmp_path, "motion", models_bytes=1))
    assert sorted(path.name for path in kept) == [f"motion-{version}.limpet" for version in (2, 3, 4, 5)]


def test_a_version_that_is_named_stays_and_the_two_highest_to_go_to(tmp_path: Path) -> None:
    store(tmp_path, "motion-1", "motion-2", "motion-3", "motion-4")
    assert clean(wanted(tmp_path, "motion@1", models_bytes=1)) == ["motion-2.limpet"]


def test_a_store_elsewhere_is_its_owners(tmp_path: Path) -> None:
    store(tmp_path, "motion-1", "spare-8")
    elsewhere = wanted(tmp_path, "motion", models=str(tmp_path / "state/models"), models_bytes=1)
    assert clean(elsewhere) == []


def test_a_model_named_by_its_path_stays_unpacked(tmp_path: Path) -> None:
    store(tmp_path, "motion-1", "spare-8")
    assert clean(wanted(tmp_path, "state/models/spare-8.limpet", models_bytes=1)) == ["motion-1.limpet"]
    assert unpacked(tmp_path) == {"spare-8"}


def test_a_path_that_leads_into_the_store_by_another_way_names_it(tmp_path: Path) -> None:
    store(tmp_path, "motion-1", "door-1", "spare-8")
    (tmp_path / "link").symlink_to(tmp_path / "state/models")
    by_ways = wanted(tmp_path, "state/../state/models/motion-1.limpet", "link/door-1.limpet", models_bytes=1)
    assert clean(by_ways) == ["spare-8.limpet"]
    assert unpacked(tmp_path) == {"motion-1", "door-1"}


def test_what_drivers_have_compiled_stays_within_its_budget(tmp_path: Path) -> None:
    folder = tmp_path / "state/cache/drivers/p0/kernels"
    folder.mkdir(parents=True)
    for age, name in enumerate(("new", "old", "oldest")):
        with (folder / name).open("wb") as file:
            file.truncate(DRIVERS // 2)  # a hole, that takes no room
        os.utime(folder / name, (NOW - (age + 2) * HOUR,) * 2)
    os.utime(folder.parent, (NOW - 2 * HOUR,) * 2)
    found = list(housekeeping.waste(wanted(tmp_path, "motion"), NOW))
    assert [(file.path.name, file.reason.partition(" have")[0]) for file in found] == [("oldest", "drivers")]


def test_a_link_goes_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    for target in ("precious", "nothing"):
        (tmp_path / f"to-{target}").symlink_to(tmp_path / target)
        assert housekeeping.look(tmp_path / f"to-{target}").size < 4096
        state_files.remove(tmp_path / f"to-{target}")
    assert {path.name for path in tmp_path.iterdir()} == {"precious"}
    assert (tmp_path / "precious/file").exists()
    state_files.remove(tmp_path / "precious")
    state_files.remove(tmp_path / "precious")
    assert not list(tmp_path.iterdir())


def test_what_is_young_may_be_about_to_be_used(tmp_path: Path) -> None:
    store(tmp_path, "motion-1")
    cache = tmp_path / "state/cache"
    young, old, compiled = (
        cache / name for name in (".new.tflite.77", ".half.tflite.78", f"{'0' * 64}-1.mlmodelc")
    )
    for path in (young, old):
        path.touch()
    compiled.mkdir()
    os.utime(old, (NOW - 2 * HOUR, NOW - 2 * HOUR))
    os.utime(compiled, (NOW - 2 * HOUR, NOW - 2 * HOUR))
    assert {file.path for file in housekeeping.waste(wanted(tmp_path, "motion"), NOW)} == {old, compiled}


def test_a_damaged_outbox_is_kept_for_a_month(tmp_path: Path) -> None:
    outbox = tmp_path / "state/reporters/mqtt"
    outbox.mkdir(parents=True)
    for name, age in (
        ("outbox.db.damaged", DAMAGED + HOUR),
        ("outbox.db.damaged-wal", HOUR),
        ("outbox.db", DAMAGED * 2),
    ):
        (outbox / name).touch()
        os.utime(outbox / name, (NOW - age, NOW - age))
    found = [file.path.name for file in housekeeping.waste(wanted(tmp_path, "motion"), NOW)]
    assert found == ["outbox.db.damaged"]


def test_the_outbox_of_a_reporter_that_is_no_longer_configured_is_kept_for_a_month(tmp_path: Path) -> None:
    reporters = tmp_path / "state/reporters"
    for name, written in (("mqtt", 1.0), ("cloud", NOW - UNCONFIGURED - HOUR), ("recent", NOW - HOUR)):
        (reporters / name).mkdir(parents=True)
        (reporters / name / "outbox.db").touch()
        os.utime(reporters / name / "outbox.db", (written, written))
        os.utime(reporters / name, (1.0, 1.0))
    changed = msgspec.structs.replace(
        wanted(tmp_path, "motion"), reporters={"mqtt": ReporterTable("mqtt", {}, "mqtt")}
    )
    assert [file.path for file in housekeeping.waste(changed, NOW)] == [reporters / "cloud"]


def test_where_a_needed_bundle_cannot_be_read_nothing_unpacked_goes(tmp_path: Path) -> None:
    store(tmp_path, "motion-1", "spare-1")
    (tmp_path / "state/models/motion-2.limpet").write_bytes(b"no zip")
    found = housekeeping.waste(wanted(tmp_path, "motion", models_bytes=1), NOW)
    assert next(found).path.name == "spare-1.limpet"
    with pytest.raises(DeployError, match=r"motion-2\.limpet: not a bundle"):
        next(found)


def test_ties_and_an_empty_store(tmp_path: Path) -> None:
    files = [File(tmp_path / name, 10, 0.0, "") for name in "abc"]
    assert [file.path.name for file in housekeeping.beyond(files, {files[0].path}, 20)] == ["b"]
    assert list(housekeeping.beyond([], set(), 0)) == []
    assert list(housekeeping.waste(wanted(tmp_path, "motion"), NOW)) == []


def test_the_command_says_what_it_deletes(tmp_path: Path) -> None:
    store(tmp_path, "motion-1", "spare-8")
    (tmp_path / "limpet.toml").write_text(
        '[device]\nid = "d"\nstate = "state"\nmodels_bytes = 1000\n[sources.s]\nkind = "replay"\npath = "x"\n'
        '[pipelines.p]\nsource = "s"\nmodel = "motion"\n'
    )
    command = [sys.executable, "-m", "limpet", "housekeeping", tmp_path / "limpet.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "spare-8.limpet: deleted" in done.stdout
    assert len(done.stdout.splitlines()) == 2
    assert sorted(path.name for path in (tmp_path / "state/models").iterdir()) == ["motion-1.limpet"]
    assert unpacked(tmp_path) == {"motion-1"}
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


CONFIGURATION = (
    '[device]\nid = "d"\nstate = "state"\nmodels_bytes = 1000\n[sources.s]\nkind = "replay"\npath = "x"\n[mqtt]\n'
    '[pipelines.p]\nsource = "s"\nmodel = "motion"\n'
)


@pytest.mark.parametrize(
    "name",
    [
        "models",
        "cache",
        "cache/drivers",
        "cache/models",
        "cache/drivers/p",
        "cache/models/s",
        "reporters",
        "reporters/mqtt",
    ],
)
def test_nothing_is_deleted_through_a_link(tmp_path: Path, name: str) -> None:
    """A person may run it as root, in a directory that the user of the service has prepared."""
    store(tmp_path, "motion-1", "spare-8")
    (tmp_path / "limpet.toml").write_text(CONFIGURATION)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for victim in ("spare-9.limpet", "passwd", "outbox.db.damaged", f"{'a' * 64}.tflite"):
        (elsewhere / victim).write_bytes(b"x" * 2000)
        os.utime(elsewhere / victim, (1, 1))
    folder = tmp_path / "state" / name
    if folder.exists():
        folder.rename(tmp_path / "aside")
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(elsewhere)
    command = [sys.executable, "-m", "limpet", "housekeeping", tmp_path / "limpet.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{folder} is a symbolic link; nothing is deleted through it" in done.stderr
    assert len(list(elsewhere.iterdir())) == 4


def test_a_fifo_among_the_models_holds_up_nothing(tmp_path: Path) -> None:
    store(tmp_path, "motion-1")
    os.mkfifo(tmp_path / "state/models/motion-2.limpet")
    assert clean(wanted(tmp_path, "motion")) == []


def nested(folder: Path, depth: int) -> None:
    """Make folders in each other, deeper than a path can be long, as a worker can in its cache."""
    code = "import os\nfor _ in range({}):\n os.mkdir('d'); os.chdir('d')\nopen('file', 'w').close()"
    subprocess.run([sys.executable, "-c", code.format(depth)], cwd=folder, check=True)


def test_folders_nested_without_end_are_measured_and_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    (folder / "closed" / "inner").mkdir(parents=True)
    nested(folder, 3000)
    (folder / "closed" / "inner").chmod(0)
    (folder / "closed").chmod(0)
    (folder / "link").symlink_to(tmp_path)
    assert look(folder).size > 0
    state_files.remove(folder)
    assert not folder.exists()
    assert tmp_path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_root_it_works_as_the_owner_of_the_state_directory(tmp_path: Path) -> None:
    store(tmp_path, "motion-1", "spare-8")
    state = tmp_path / "state"
    os.chown(state, 65534, 65534)
    (tmp_path / "limpet.toml").write_text(CONFIGURATION)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    command = [sys.executable, "-m", "limpet", "housekeeping", tmp_path / "limpet.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # The store is root's, so this user may not delete from it.
    assert "spare-8.limpet: Permission denied" in done.stderr
    assert (state / "models/spare-8.limpet").exists()


def test_a_name_that_a_worker_chose_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    store(tmp_path, "motion-1")
    strange = tmp_path / "state/cache/models/s" / f"{'0' * 64}\x1b[2J"
    strange.touch()
    os.utime(strange, (NOW - 99 * HOUR, NOW - 99 * HOUR))
    (tmp_path / "limpet.toml").write_text(CONFIGURATION)
    command = [sys.executable, "-m", "limpet", "housekeeping", tmp_path / "limpet.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "\\x1b[2J: deleted" in done.stdout
    assert not strange.exists()


def test_what_was_unpacked_of_an_update_stays_and_a_copy_that_an_install_left_goes(tmp_path: Path) -> None:
    store(tmp_path, "motion-1")
    placed = tmp_path / "state/deployed/motion-2.limpet"
    placed.parent.mkdir()
    model = b"two".ljust(600)
    bundles.bundle(placed, {"model.tflite": model}, model="model.tflite", version=2)
    path = bundle.load(placed, tmp_path / "state/cache/models/s").model
    os.utime(path, (NOW - 2 * HOUR, NOW - 2 * HOUR))
    (tmp_path / "state/requests").mkdir()
    for name, age in ((".12.limpet", 2 * HOUR), (".13.limpet", 0), ("motion.limpet", 2 * HOUR)):
        (tmp_path / "state/requests" / name).touch()
        os.utime(tmp_path / "state/requests" / name, (NOW - age, NOW - age))
    found = msgspec.structs.replace(
        wanted(tmp_path, "motion"), selected={"p0": (FoundModel(placed, "motion", 2), None)}
    )
    assert clean(found) == [".12.limpet"]
    assert unpacked(tmp_path) == {"motion-1", "two"}
    assert clean(wanted(tmp_path, "motion")) == []
    assert unpacked(tmp_path) == {"motion-1"}
