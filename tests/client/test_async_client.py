from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.client import AsyncClient, RefusedError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from support.api_daemon import ApiDaemon


SIDE = 512
"""Of the model ``mobilenet``, see ``served``."""


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


def test_tasks_run_models_at_once_each_with_its_own_memory(served: ApiDaemon) -> None:
    async def use() -> None:
        async with AsyncClient(served.socket) as client:
            await client.load("mobilenet")
            pictures = [np.full((1, SIDE, SIDE), n, np.float32) for n in range(8)]
            answers = await asyncio.gather(*(client.infer("mobilenet", one) for one in pictures))
            for picture, answer in zip(pictures, answers, strict=True):
                np.testing.assert_array_equal(next(iter(answer.values())), picture)
            await client.unload("mobilenet")

    asyncio.run(use())
    assert served.request("/v2/systemsharedmemory/status", unix=True).json == []


def test_a_daemon_that_does_not_answer_is_not_waited_for_longer_than_the_timeout(tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncClient(tmp_path / "api.sock", timeout=0.05) as client:
            with pytest.raises(UnavailableError, match="did not answer in time"):
                await client.device()
            with pytest.raises(UnavailableError, match="did not answer in time"):
                await anext(client.results())

    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "api.sock"))
        silent.listen()
        asyncio.run(use())


def test_a_task_that_is_cancelled_leaves_the_client_usable(served: ApiDaemon) -> None:
    async def use() -> None:
        async with AsyncClient(served.socket) as client:
            tasks = [asyncio.create_task(client.device()) for _ in range(5)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            assert all(
                isinstance(one, BaseException) for one in await asyncio.gather(*tasks, return_exceptions=True)
            )
            assert (await client.device()).device == "press-07"

    asyncio.run(use())


def test_no_daemon_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncClient(tmp_path / "api.sock") as client:
            await client.device()

    with pytest.raises(UnavailableError, match=r"api\.sock"):
        asyncio.run(use())
