"""What a plan allows and a person most likely does not mean, a sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.config import PipelineConfig
    from limpet.inference.inputs import StatePlan
    from limpet.models.manifest import Manifest


def warnings(wanted: PipelineConfig, manifest: Manifest, state: StatePlan) -> Iterator[str]:
    """Yield what is most likely not meant."""
    if wanted.transforms is not None:
        kept = {table.get("kind") for table in wanted.transforms}
        for table in manifest.transforms:
            if table["kind"] not in kept:
                own = ", ".join(f"{key} = {_toml(value)}" for key, value in table.items())
                yield (
                    f"transforms replaces the model's own, which has {{ {own} }}; without it the model sees other "
                    "values than in training"
                )
    if state.lasting and wanted.every > 1:
        yield f"the model remembers windows, and every = {wanted.every} leaves most of them out"


def _toml(value: Any) -> str:
    """Return a value as it is written in TOML, on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        shown = [_toml(entry) for entry in value[:4]] + ["..."] * (len(value) > 4)
        return f"[{', '.join(shown)}]"
    return msgspec.json.encode(value).decode()
