"""What a plan allows and a person most likely does not mean, a sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.assignment import PipelineOptions
    from limpet.inference.inputs import StatePlan
    from limpet.models.manifest import Manifest


def warnings(wanted: PipelineOptions, manifest: Manifest, state: StatePlan) -> Iterator[str]:
    """Yield what is most likely not meant."""
    if wanted.transforms is not None:
        kept = {table.get("kind") for table in wanted.transforms}
        for table in manifest.transforms:
            if table["kind"] not in kept:
                options = ", ".join(key for key in table if key != "kind")
                yield (
                    f"transforms replaces the model's own, and leaves out its {table['kind']!r} ({options}); "
                    "without it the model sees other values than in training. `limpet inspect` shows its options"
                )
    own, decoder = manifest.decoder, wanted.decoder or manifest.decoder
    left = [key for key in own if key not in decoder] if own.get("kind") == decoder.get("kind") else []
    if left:
        yield (
            f"decoder replaces the model's own, and leaves out its {', '.join(left)}; without that, outputs may "
            "be read wrongly. `limpet inspect` shows it"
        )
    if state.lasting and wanted.every > 1:
        yield f"the model remembers windows, and every = {wanted.every} leaves most of them out"
