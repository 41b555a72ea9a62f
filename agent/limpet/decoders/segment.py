"""Which part of a picture is what: the masks of segmentation models to outlines, run lengths and shares."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.decoder import Abilities
from limpet.contracts.fields import Count, Share
from limpet.contracts.outputs import Mask, Region, Segmentation
from limpet.decoders._activation import Activation
from limpet.decoders._detection.boxes import DIGITS, Measure
from limpet.decoders._scores import class_name
from limpet.decoders._segmentation.areas import areas, coarse
from limpet.decoders._segmentation.encoding import png, run_lengths
from limpet.decoders._segmentation.layouts import Layout, layout_of, maps_of, prototypes_of
from limpet.decoders._segmentation.masks import CLASSES, ProbabilityMap, place_of
from limpet.decoders._segmentation.places import box_around, outlined, rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.data import Cut, Window
    from limpet.contracts.stage import Spec
    from limpet.decoders._segmentation.areas import Area, Kinds
    from limpet.decoders._segmentation.layouts import Maps
    from limpet.decoders._segmentation.masks import Prototypes
    from limpet.decoders._segmentation.places import Box, Polygon

ABILITIES = Abilities(output=Segmentation, reads_inputs=False, threshold=True, outlives_gaps=True)
"""Labels that were there before a gap have a share after it, too: 0 if they are gone."""

_POINTS = 3000
"""Corners of the polygons of a result: so many fit into a message."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the outputs are read, and what is reported. docs/reference/decoders.md has the layouts."""

    labels: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=CLASSES)] = []
    """Names of the classes. Default: the model's. Example: `["background", "person"]`."""
    layout: Layout = "auto"
    """What the outputs are. `"auto"` finds it by their shapes and the number of labels."""
    ignore: list[str] = msgspec.field(default_factory=lambda: ["background", "???"])
    """Labels that are no regions and have no share. Default: `["background", "???"]`. Example: `["sky"]`."""
    pixels: list[Count] = []
    """`[width, height]` of the picture in whose pixels a YOLO gives boxes. Default: that of the model's picture if
    boxes are larger than 2, else boxes are fractions. Example: `[640, 640]`."""
    activation: Activation = "none"
    """What the model left out of its scores."""
    threshold: float | None = None
    """Lowest probability of a pixel that counts, or lowest score of an object of a YOLO. Default: 0.5, of a YOLO
    0.25. Example: `0.7`."""
    form: Literal["polygons", "rle", "none"] = "polygons"
    """What a region has: `"polygons"` an outline for each connected area, `"rle"` run lengths of the mask of each
    label. `"none"`: there are only shares."""
    tolerance: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    """Pixels of the mask that an outline may be off to have fewer corners."""
    points: Annotated[int, Meta(ge=3, le=1000)] = 60
    """Corners of an outline, at most. A result has at most 3000."""
    least: Share = 0.001
    """Smallest share of a region that is reported."""
    most: Annotated[int, Meta(ge=1, le=100)] = 20
    """How many regions are reported, largest first; of a YOLO, best first."""
    png: bool = False
    """Whether the result has the mask as PNG of at most 48 kB, a coarser one if need be."""

    def __post_init__(self) -> None:
        if self.threshold is not None and isnan(self.threshold):
            raise ValueError("threshold must be a number")
        if len(self.pixels) not in {0, 2}:
            raise ValueError(f"pixels must be [width, height], as [320, 320], not {self.pixels}")


def open(config: Config, spec: Spec) -> SegmentClasses | SegmentObjects:
    """Prepare to decode. ``ValueError`` where the outputs are of no such layout."""
    labels = list(config.labels or spec.labels)
    layout = layout_of(spec.outputs, len(labels)) if config.layout == "auto" else config.layout
    if layout == "yolo":
        return SegmentObjects(config, prototypes_of(spec.outputs, len(labels), config.activation), labels, spec)
    maps, classes = maps_of(spec.outputs, layout, len(labels), config.activation)
    if layout == "probability":
        labels = [config.ignore[0] if config.ignore else "background", *(labels or ["object"])][:2]
    elif labels and classes and len(labels) != classes:
        raise ValueError(f"{len(labels)} labels for the {classes} classes of the mask")
    return SegmentClasses(config, maps, labels, spec)


class SegmentClasses:
    """Takes a class, scores or a probability for each pixel."""

    def __init__(self, config: Config, maps: Maps, labels: list[str], spec: Spec) -> None:
        self.spec = spec
        self._config = config
        self._maps = maps
        self._labels = labels
        self._threshold = 0.5 if config.threshold is None else config.threshold
        self._reported = np.array([class_name(labels, kind) not in config.ignore for kind in range(CLASSES)])
        if isinstance(maps, ProbabilityMap):
            self._reported[0] = False
        self._seen: set[int] = set()

    def __call__(self, window: Window) -> Window:
        """Return the window with the shares and regions of its classes."""
        kinds = self._maps.kinds(window.outputs, self._threshold)
        place = place_of(self._maps.shape, window.cut)
        kinds = kinds[place.rows, place.columns]
        mask = self._mask(kinds, place.cut) if self._config.png and kinds.size else None
        kinds = np.where((kinds >= 0) & self._reported[kinds], kinds, -1)
        shares = self._shares(kinds)
        rle = self._config.form == "rle" and bool(shares)
        regions = self._run_lengths(kinds, shares, place.cut) if rle else []
        if self._config.form == "polygons" and kinds.size:
            regions = self._polygons(kinds, place.cut)
        named = {class_name(self._labels, kind): share for kind, share in shares.items()}
        window.result = Segmentation(named, regions, rounded(place.cut) if rle else None, mask)
        return window

    def reset(self) -> None:
        """Forget which labels were there."""
        self._seen = set()

    def set_threshold(self, value: float) -> None:
        """Use another lowest probability, from the next window on. ``ValueError`` if the model gives none."""
        if not isinstance(self._maps, ProbabilityMap):
            raise ValueError("the best class of a pixel counts, and no score that a threshold could be for")
        self._threshold = value

    def _shares(self, kinds: Kinds) -> dict[int, float]:
        """Return the share of each class that is there or was there."""
        counts = np.bincount(kinds[kinds >= 0], minlength=CLASSES)
        self._seen.update(np.flatnonzero(counts).tolist())
        return {kind: round(float(counts[kind]) / max(kinds.size, 1), DIGITS) for kind in sorted(self._seen)}

    def _run_lengths(self, kinds: Kinds, shares: dict[int, float], cut: Cut) -> list[Region]:
        there = sorted((kind for kind, share in shares.items() if share), key=lambda kind: -shares[kind])
        chosen = [kind for kind in there if shares[kind] >= self._config.least][: self._config.most]
        if not chosen:
            return []
        masks = [kinds == kind for kind in chosen]
        return [
            Region(class_name(self._labels, kind), shares[kind], box_around(mask, cut), rle=lengths)
            for kind, mask, lengths in zip(chosen, masks, run_lengths(masks), strict=True)
        ]

    def _polygons(self, kinds: Kinds, cut: Cut) -> list[Region]:
        kinds = coarse(kinds)
        regions = []
        for area in areas(kinds)[: self._config.most]:
            share = area.pixels / kinds.size
            if share < self._config.least:
                break
            box, polygon = _outlined(kinds, area, cut, self._config)
            regions.append(Region(class_name(self._labels, area.kind), round(share, DIGITS), box, polygon=polygon))
        return regions

    def _mask(self, kinds: Kinds, cut: Cut) -> Mask:
        data = png(np.where(kinds >= 0, kinds, 0).astype(np.uint8))
        return Mask(data, self._labels, rounded(cut))


class SegmentObjects:
    """Takes boxes with weights, and prototype masks."""

    def __init__(self, config: Config, prototypes: Prototypes, labels: list[str], spec: Spec) -> None:
        self.spec = spec
        self._config = config
        self._prototypes = prototypes
        self._labels = labels
        self._threshold = 0.25 if config.threshold is None else config.threshold
        self._measure = Measure(config.pixels, spec.picture)
        self._seen: set[str] = set()

    def __call__(self, window: Window) -> Window:
        """Return the window with a region for each object, best first."""
        found, masks = self._prototypes.objects(window.outputs, self._threshold, self._measure, self._config.most)
        place = place_of(self._prototypes.shape, window.cut)
        masks = masks[:, place.rows, place.columns]
        kinds, scores = found.classes.tolist(), found.scores.astype(np.float64).round(DIGITS).tolist()
        sizes = [float(mask.mean()) if mask.size else 0.0 for mask in masks]
        chosen = [n for n, size in enumerate(sizes) if size > 0 and self._reports(kinds[n], size)]
        names = [class_name(self._labels, kinds[n]) for n in chosen]
        masks = masks[chosen]
        shares = self._shares(names, masks)
        regions = [
            Region(name, round(sizes[n], DIGITS), box_around(mask, place.cut), scores[n])
            for n, name, mask in zip(chosen, names, masks, strict=True)
        ]
        rle = self._config.form == "rle" and bool(regions)
        if rle:
            for region, lengths in zip(regions, run_lengths(list(masks)), strict=True):
                region.rle = lengths
        elif self._config.form == "polygons":
            for region, mask in zip(regions, masks, strict=True):
                region.polygon = _largest(mask, place.cut, self._config)
        mask = self._mask(masks, [kinds[n] for n in chosen], place.cut) if self._config.png else None
        window.result = Segmentation(shares, regions, rounded(place.cut) if rle else None, mask)
        return window

    def reset(self) -> None:
        """Forget which labels were there."""
        self._seen = set()
        self._measure.forget()

    def set_threshold(self, value: float) -> None:
        """Leave out what scores below another threshold, from the next window on."""
        self._threshold = value

    def _reports(self, kind: int, size: float) -> bool:
        return size >= self._config.least and class_name(self._labels, kind) not in self._config.ignore

    def _shares(self, names: list[str], masks: NDArray[np.bool_]) -> dict[str, float]:
        """Return the share of each label that is there or was there."""
        self._seen.update(names)
        shares = dict.fromkeys(sorted(self._seen), 0.0)
        for label in set(names):
            some = masks[[n for n, name in enumerate(names) if name == label]]
            shares[label] = round(float(some.any(axis=0).mean()), DIGITS)
        return shares

    def _mask(self, masks: NDArray[np.bool_], kinds: list[int], cut: Cut) -> Mask | None:
        """Return all masks in one: 0 for nothing, then the classes; the best object is in front."""
        pixels = np.zeros(masks.shape[1:], np.uint8)
        if not pixels.size:
            return None
        for mask, kind in zip(masks[::-1], kinds[::-1], strict=True):
            pixels[mask] = min(kind + 1, CLASSES - 1)
        return Mask(png(pixels), ["", *self._labels], rounded(cut))


def _largest(mask: NDArray[np.bool_], cut: Cut, config: Config) -> Polygon:
    """Return the outline of the largest area of a mask."""
    kinds = coarse(np.where(mask, 0, -1).astype(np.int32))
    found = areas(kinds)
    return _outlined(kinds, found[0], cut, config)[1] if found else []


def _outlined(kinds: Kinds, area: Area, cut: Cut, config: Config) -> tuple[Box, Polygon]:
    """Return the box and the outline of an area in the source's picture."""
    return outlined(kinds, area, cut, config.tolerance, max(min(config.points, _POINTS // config.most), 3))
