"""Reads a bundle's reference: what its model saw when it was verified. Its file is not to be trusted."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.fields import NAME_PATTERN, NAME_RULE
from limpet.contracts.reference import FORMAT, LARGEST_REFERENCE, MOST_DIMENSIONS, Reference
from limpet.errors import DeployError, LimpetError
from limpet.untrusted import read_file, reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from limpet.contracts.reference import ClassReference, EmbeddingReference, FeatureReference, Number


def read(path: Path, model: str) -> Reference:
    """Return the reference of a model from a file. ``DeployError`` says what is wrong with it."""
    try:
        with reading("it"):
            return parse(read_file(path, LARGEST_REFERENCE))
    except (LimpetError, OSError) as error:
        raise DeployError(f"the reference of {model}: {error}") from error


def parse(data: bytes) -> Reference:
    """Return a reference whose parts fit together. ``ValueError``, such as of msgspec, says what is wrong."""
    reference = msgspec.json.decode(data, type=Reference)
    if problem := next(_problems(reference), ""):
        raise ValueError(problem)
    return reference


def dump(reference: Reference) -> bytes:
    """Return the member. The same reference gives the same bytes."""
    return msgspec.json.encode(reference, order="sorted") + b"\n"


def _problems(reference: Reference) -> Iterator[str]:
    if reference.format > FORMAT:
        yield f"its format is {reference.format}; this version of Limpet reads up to {FORMAT}"
    names = [one.name for one in reference.features]
    if len(set(names)) != len(names):
        yield "two of its features have the same name"
    for one in (*reference.features, *([reference.score] if reference.score else [])):
        yield from _problems_of_feature(one)
    if strange := [kind for kind in reference.thresholds if re.match(NAME_PATTERN, kind) is None]:
        yield f"it has thresholds of a monitor {strange[0][:40]!r}; such names have {NAME_RULE}"
    if reference.embedding is not None:
        yield from _problems_of_embedding(reference.embedding)
    if reference.classes is not None:
        yield from _problems_of_classes(reference.classes)
    for name, group in reference.slices.items():
        if group.right > group.windows:
            yield f"in the slice {name!r}, {group.right} of {group.windows} windows are right"


def _problems_of_feature(one: FeatureReference) -> Iterator[str]:
    if not one.name.isprintable() or not one.channel.isprintable() or not one.unit.isprintable():
        yield f"a feature is called {one.name[:40]!r}"
    if any(after < before for before, after in pairwise(one.quantiles)):
        yield f"the quantiles of {one.name} do not rise"


def _problems_of_embedding(embedding: EmbeddingReference) -> Iterator[str]:
    size = min(embedding.of, MOST_DIMENSIONS)
    if len(embedding.mean) != size or not _is_square(embedding.precision, size):
        yield f"its embedding of {embedding.of} numbers needs a mean of {size} and a precision of {size} rows"


def _problems_of_classes(classes: ClassReference) -> Iterator[str]:
    size = len(classes.labels)
    if len(classes.priors) != size or not _is_square(classes.confusion, size):
        yield f"it has {size} classes; priors and confusion must have as many"
    if len(set(classes.labels)) != size:
        yield "two of its classes have the same label"


def _is_square(rows: Sequence[Sequence[Number]], size: int) -> bool:
    return len(rows) == size and all(len(row) == size for row in rows)
