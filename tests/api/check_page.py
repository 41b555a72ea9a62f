"""The page in Chromium, as a person uses it: run by ``make api``, not by ``make test``.

``tests/api/page/look.mjs`` has the checks. Its pictures are in build/pictures.
Those in docs/pictures are from there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.page_device import TOKEN, PageDevice, page_device

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
SCRIPT = Path(__file__).parent / "page" / "look.mjs"
VENDOR = ROOT / "agent" / "limpet" / "gateway" / "page" / "vendor"
CHECKS = re.findall(r'^check\("([^"]+)"', SCRIPT.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageDevice]:
    with page_device(tmp_path_factory.mktemp("page")) as running:
        running.start_update()
        yield running


@pytest.fixture(scope="module")
def problems(device: PageDevice) -> dict[str, str]:
    """What each check found wrong, "" if nothing."""
    pictures = ROOT / "build" / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["node", SCRIPT, device.url, pictures],
        env={
            **os.environ,
            "PAGE_MODULES": str(ROOT / "build" / "browser"),
            "PAGE_TOKEN": TOKEN,
            "PAGE_GATEWAY": str(device.daemon.pid_of("limpet-api")),
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=500,
    )
    return {found["name"]: found["problem"] for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CHECKS)
def test_the_page(problems: dict[str, str], name: str) -> None:
    assert problems[name] == ""


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("preact.js", "preact/dist/preact.mjs"),
        ("hooks.js", "preact/hooks/dist/hooks.mjs"),
        ("htm.js", "htm/dist/htm.mjs"),
    ],
)
def test_the_libraries_are_those_of_their_makers(ours: str, theirs: str) -> None:
    """Only addresses of source maps are left out, and modules are found by their path."""
    made = (ROOT / "build" / "browser" / "node_modules" / theirs).read_text()
    expected = re.sub(r"//# sourceMappingURL=.*", "", made).replace('from"preact"', 'from"./preact.js"')
    assert (VENDOR / ours).read_text().strip() == expected.strip()


def test_the_device_goes_on_after_all_that(problems: dict[str, str], device: PageDevice) -> None:
    assert set(problems) == set(CHECKS)
    assert device.daemon.process.poll() is None
