"""`limpet-convert patch`: a small file that turns one version of a bundle into the next."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.contracts.updates import LARGEST_PATCHED
from limpet_convert import cli, patch

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
SHUTTLE = ROOT / "agent/limpet/demo_data/shuttle-1.limpet"
WORD = ROOT / "agent/limpet/demo_data/okay-nabu-1.limpet"


def next_version(path: Path, folder: Path) -> Path:
    """Write a bundle with other weights here and there, as after some more training."""
    content, chance = bytearray(path.read_bytes()), random.Random(1)
    for _ in range(20):
        at = chance.randrange(len(content) - 100)
        content[at : at + 100] = chance.randbytes(100)
    new = folder / "okay-nabu-2.limpet"
    new.write_bytes(content)
    return new


def test_a_patch_is_written_and_described_for_a_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = next_version(WORD, tmp_path)
    assert cli.main(["patch", str(WORD), str(new)]) == 0
    printed = capsys.readouterr().out
    written = tmp_path / "okay-nabu-1-to-okay-nabu-2.patch"
    assert written.stat().st_size < new.stat().st_size // 10
    assert patch.apply(WORD.read_bytes(), written.read_bytes(), new.stat().st_size) == new.read_bytes()
    source = json.loads(printed.splitlines()[-1])
    assert source["length"] == written.stat().st_size
    assert cli.main(["patch", str(WORD), str(new), "--output", str(tmp_path / "p"), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["pays"] is True
    assert {key: described[key] for key in ("patch_of", "sha256", "length")} == {
        key: source[key] for key in ("patch_of", "sha256", "length")
    }


def test_a_patch_that_does_not_pay_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "shuttle-2.limpet"
    new.write_bytes(random.Random(2).randbytes(50_000))
    assert cli.main(["patch", str(SHUTTLE), str(new)]) == 1
    assert "send the whole bundle" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["shuttle-2.limpet"]


def test_a_file_that_no_device_would_patch_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, size in (("empty", 0), ("huge", LARGEST_PATCHED + 1)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        assert cli.main(["patch", str(SHUTTLE), str(tmp_path / name)]) == 1
        assert f"{size:,} bytes" in capsys.readouterr().err


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=2000), st.binary(min_size=1, max_size=2000))
def test_a_patch_leads_from_any_file_to_any_other(old: bytes, new: bytes) -> None:
    assert patch.apply(old, patch.make(old, new), len(new)) == new
    assert len(patch.make(old + new, new)) < len(new) + 40
