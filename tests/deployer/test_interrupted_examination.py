"""A download whose examination was interrupted is not fetched again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limpet.contracts.updates import BundleSource
from limpet.supervision.update_files import UpdateFiles
from support.fetcher import Fetcher, deploy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = bytes(range(256)) * 10


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    started = Fetcher()
    yield started
    started.close()


def test_a_download_that_was_examined_is_found_by_the_next_deployer(fetcher: Fetcher, tmp_path: Path) -> None:
    files = UpdateFiles(tmp_path)
    (files.make_download("p") / "bundle.part").write_bytes(BODY)
    assert files.whole("p") is not None
    assert (files.make_download("p") / "bundle.part").read_bytes() == BODY
    ended = fetcher.fetch(deploy(tmp_path, BODY, [BundleSource(url="https://nowhere.invalid/bundle")]))
    assert (ended.outcome, ended.received) == ("fetched", 0)
