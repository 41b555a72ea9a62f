"""A daemon for all tests of the client, with a model of a pipeline and a larger one of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import bundles, models
from support.api_daemon import api_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api_daemon import ApiDaemon

SIDE = 512
"""Width and height of the larger model's input: 1 MiB in float32."""


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    folder = tmp_path_factory.mktemp("client")
    store = folder / "state" / "models"
    store.mkdir(parents=True)
    content = models.same(folder / "wide.tflite", (1, SIDE, SIDE), "float32").read_bytes()
    larger = store / "mobilenet-1.limpet"
    bundles.bundle(larger, {"model.tflite": content}, name="mobilenet", version=1, model="model.tflite")
    with api_daemon(folder, api="load = true", commands='commands = ["ping", "capture", "threshold"]') as running:
        yield running
