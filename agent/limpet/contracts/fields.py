"""Typed fields that configuration, manifests and the options of plugins share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
NAME_RULE = 'letters, digits, ".", "_" and "-", at most 64 characters, the first one a letter or a digit'
"""What can stand in an MQTT topic, a path, a file name and a result's id; and how to say so."""
Positive = Annotated[float, Meta(gt=0, le=1e9)]
"""Also no infinity: as nanoseconds it must fit into 64 bits."""
Count = Annotated[int, Meta(ge=1, le=1 << 31)]
Share = Annotated[float, Meta(ge=0, le=1)]
SampleCount = Annotated[int, Meta(ge=1, le=1 << 24)]
"""Samples of a window. How many bytes they may take depends on the source, see ``limpet.inference.window``."""
Dimension = Annotated[int, Meta(ge=-1, le=1 << 31)]
_MANY = Meta(max_length=65_536)
"""Numbers or names for the channels of one tensor, at most."""


class WindowSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How samples become windows: by count (``size``, ``hop``) or by time (``seconds``, ``hop_seconds``)."""

    size: SampleCount | None = None
    """Samples in a window. With `seconds`, the window is resampled to that many samples by linear interpolation.
    Example: `128`."""
    hop: Count | None = None
    """Samples from the start of one window to the next. Default: `size`. Example: `64`."""
    seconds: Positive | None = None
    """Length of a window in seconds. Example: `2.0`."""
    hop_seconds: Positive | None = None
    """Seconds from the start of one window to the next. Default: `seconds`. Example: `0.5`."""
    max_gap: Positive | None = None
    """Seconds between two samples above which there is a gap between them. Default: no limit. Example: `0.1`."""
    span_gaps: bool = False
    """Whether a window may span a gap. Otherwise the samples before it count as `gap`."""

    def __post_init__(self) -> None:
        if self.size is None and self.seconds is None:
            raise ValueError("a window needs a size (samples) or seconds")
        if self.seconds is None and self.hop_seconds is not None:
            raise ValueError("hop_seconds goes with seconds; use hop with size")
        if self.seconds is not None and self.hop is not None:
            raise ValueError("hop goes with a window by count; use hop_seconds with seconds")


class UnwindowedInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an input of a model gets that is no part of a window."""

    state: str = ""
    """The model's output of the run before, by its name. It is zeros at the start and after a gap. Example:
    `"hidden_out"`."""
    constant: float | list[float] | None = None
    """One number, or as many as the input holds. Example: `16000`."""

    def __post_init__(self) -> None:
        if bool(self.state) == (self.constant is not None):
            raise ValueError("an input gets either a state or a constant")


InputValue: TypeAlias = list[str] | UnwindowedInput
"""Channels of the source, all as they are if the list is empty; or something else."""


class TensorInfo(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An input or output tensor as the model's maker knows it.

    ``shape`` has -1 for a dimension that may vary. ``channels`` are the channels of the source, in order, that
    this input takes; empty for all. ``unit`` is that of its real values. ``state`` and ``constant``: what an input
    gets in place of channels, see ``UnwindowedInput``.
    """

    name: str
    shape: Annotated[list[Dimension], Meta(max_length=16)]
    dtype: str
    scale: Annotated[list[float], _MANY] = []
    zero_point: Annotated[list[int], _MANY] = []
    channels: Annotated[list[str], _MANY] = []
    unit: str = ""
    state: str = ""
    constant: float | list[float] | None = None

    def __post_init__(self) -> None:
        if bool(self.channels) + bool(self.state) + (self.constant is not None) > 1:
            raise ValueError("an input gets channels, a state or a constant")
