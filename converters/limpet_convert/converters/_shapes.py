"""The option ``shape`` of all converters: the shape of a model's input, with the batch or without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Sequence


def closed(given: Sequence[int] | None, sizes: Sequence[int | None] | None, inputs: int = 1) -> list[int]:
    """Return the sizes of a model's input behind its batch of 1.

    ``given``: ``options.shape``. ``sizes``: what the model's file says, with the batch. ``None`` is an open size;
    ``None`` in place of all says that the number of axes is unknown. ``inputs``: how many the model has.
    ``ConvertError`` if a size stays open, or if the option goes against the file.
    """
    if given is None:
        return _as_in_file(sizes)
    if inputs > 1:
        raise ConvertError(f"options.shape is for a model with one input; this one has {inputs}")
    if not given or any(size < 1 for size in given):
        raise ConvertError(f"options.shape is {list(given)}; each size must be at least 1")
    if sizes is None:
        return list(given[1:] if given[0] == 1 and len(given) > 1 else given)
    if len(given) == len(sizes):
        if given[0] != 1:
            raise ConvertError(
                f"options.shape is {list(given)}, a batch of {given[0]}. A device runs one window at a time. Set "
                f"model.options.shape to {list(given[1:])}"
            )
        given = given[1:]
    _refuse_other(given, sizes)
    return list(given)


def _as_in_file(sizes: Sequence[int | None] | None) -> list[int]:
    wanted = [] if sizes is None else [size for size in sizes[1:] if size is not None]
    if sizes is None or len(wanted) < len(sizes) - 1:
        shape = "an unknown shape" if sizes is None else f"shape {_shown(sizes)}, with sizes left open"
        example = [100, 6] if sizes is None else [size or 100 for size in sizes[1:]]
        raise ConvertError(
            f"the model's input has {shape}. A model for devices has fixed sizes. Set them in [model], such as "
            f"options = {{ shape = {example} }}"
        )
    return wanted


def _refuse_other(given: Sequence[int], sizes: Sequence[int | None]) -> None:
    fixed = sizes[1:]
    if len(given) != len(fixed) or any(size not in {None, one} for one, size in zip(given, fixed, strict=True)):
        closed = [size or one for one, size in zip([*given, *[100] * len(fixed)], fixed, strict=False)]
        raise ConvertError(
            f"options.shape is {list(given)}, and the model's input has shape {_shown(sizes)}, the batch first. "
            f"Set model.options.shape to {closed}" + ("" if None in fixed else ", or leave it out")
        )


def _shown(sizes: Sequence[int | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"
