from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from limpet.client import AsyncClient, RefusedError, UnavailableError
from support.api_daemon import api_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.api_daemon import ApiDaemon


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    with api_daemon(tmp_path_factory.mktemp("client")) as running:
        yield running


def test_several_tasks_share_a_client(served: ApiDaemon) -> None:
    async def use() -> None:
        async with AsyncClient(served.socket) as client:
            devices = await asyncio.gather(*(client.device() for _ in range(20)))
            assert {each.device for each in devices} == {"press-07"}
            (listed,) = await client.pipelines()
            assert listed.health.pipeline == "motion"
            with pytest.raises(RefusedError, match="nothing"):
                await client.pipeline("nothing")

    asyncio.run(use())


def test_results_come_in_a_loop(served: ApiDaemon) -> None:
    async def use() -> list[int]:
        found = []
        async with AsyncClient(served.socket) as client:
            results = client.results("motion")
            async for result in results:
                found.append(result.sequence)
                if len(found) == 3:
                    break
            await results.aclose()
            async with client.events() as events:
                assert (await anext(events)).device == "press-07"
            async with client.health("motion") as health:
                assert (await anext(health)).device == "press-07"
        return found

    first, *others = asyncio.run(use())
    assert others == [first + 1, first + 2]


def test_no_daemon_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncClient(tmp_path / "api.sock") as client:
            await client.device()

    with pytest.raises(UnavailableError, match=r"api\.sock"):
        asyncio.run(use())
