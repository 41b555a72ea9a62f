"""What the decoders of Limpet make of a window. JSON Schemas of these are in docs/schemas/output/.

No numpy here: programs that only read results use these types, too.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec


class ScoredLabel(msgspec.Struct, gc=False):
    """A class and its score, null where that is not finite or the model gives none."""

    label: str
    score: float | None


class Rate(msgspec.Struct, gc=False, omit_defaults=True):
    """How often something comes: the share of the windows, and the ends between which it is with some credibility.

    ``windows``: how many counted, less those that were forgotten. ``exceeds``: the probability that the share is
    above the limit.
    """

    share: float
    low: float
    high: float
    windows: float
    exceeds: float | None = None


class Classification(msgspec.Struct, gc=False, omit_defaults=True):
    """The best class and its score; ``top`` has the best few, best first.

    ``score`` is null where the model gives an index alone. ``abstained``: the score is below the threshold, or the
    model gave NaN or infinity (then ``score`` is null and ``top`` empty). ``label`` is null then. ``set``, behind
    ``conformal``: the classes that hold the true one with the stated coverage. ``posterior``, behind ``bayes``:
    the probability of each class, given all windows so far. ``rate``, behind ``rate``: how often labels come.
    """

    label: str | None
    score: float | None
    top: list[ScoredLabel]
    abstained: bool
    set: list[str] | None = None
    posterior: dict[str, float] | None = None
    rate: Rate | None = None


class Anomaly(msgspec.Struct, gc=False, omit_defaults=True):
    """Whether there is an anomaly, by the score of this window and those before.

    ``score`` is null where it is not finite. ``threshold`` is what it was compared with, null while there is none.
    Only models that learn on the device have the rest. ``untrained``: the model still learns what is normal, so
    ``anomalous`` is false whatever the score. ``learned``: share of its learning time that is over, 0 to 1.
    ``rate``, behind ``rate``: how often there are anomalies.
    """

    anomalous: bool
    score: float | None
    threshold: float | None
    untrained: bool | None = None
    learned: float | None = None
    rate: Rate | None = None


class Detection(msgspec.Struct, gc=False, omit_defaults=True):
    """A box: left, top, right and bottom as fractions, 0 to 1, of the width and height of the source's picture.

    Only a pipeline with tracking has the rest. ``id``: the number of the object, the same from frame to frame.
    ``zones``: names of the zones that the object is in.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    id: int | None = None
    zones: list[str] = []


class Crossings(msgspec.Struct, gc=False):
    """How many objects crossed a line so far, from its left to its right (``forward``) and back."""

    forward: int
    backward: int


class Detections(msgspec.Struct, gc=False, omit_defaults=True):
    """What is in the picture, best first.

    ``counts`` has how many there are of each label, 0 of one that was there earlier. With ``track`` it has
    objects that were not seen for a moment, too, and ``totals`` has how many different ones there were so far.
    ``zones``: how many objects of each label are in each zone. ``lines``: how many crossed each line so far.
    """

    detections: list[Detection]
    counts: dict[str, int]
    totals: dict[str, int] | None = None
    zones: dict[str, dict[str, int]] = {}
    lines: dict[str, Crossings] = {}


class Keypoint(msgspec.Struct, gc=False):
    """A named point: ``x`` and ``y`` as fractions of the width and height of the source's picture.

    A point may be outside of the picture: below 0 or above 1. ``score`` is null where the model gives none.
    """

    name: str
    x: float
    y: float
    score: float | None


class Pose(msgspec.Struct, gc=False, omit_defaults=True):
    """The points of one person, hand or face. The ``box`` is as in ``Detection``, and so are ``id`` and ``zones``.

    A model that gives no box has the smallest one around the points.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    points: list[Keypoint]
    id: int | None = None
    zones: list[str] = []


class Keypoints(msgspec.Struct, gc=False, omit_defaults=True):
    """The poses in the picture, best first.

    ``counts`` has how many there are of each label, 0 of one that was there earlier. ``skeleton``: which points
    are joined by a line, as pairs of their places in ``points``. ``totals``, ``zones`` and ``lines`` are as in
    ``Detections``.
    """

    poses: list[Pose]
    counts: dict[str, int]
    skeleton: list[tuple[int, int]]
    totals: dict[str, int] | None = None
    zones: dict[str, dict[str, int]] = {}
    lines: dict[str, Crossings] = {}


class RunLengths(msgspec.Struct, gc=False):
    """A mask as COCO's uncompressed run lengths: pixels in columns from the left, each from the top down.

    ``size`` is height and width. ``counts`` are lengths of runs, of zeros and of ones by turns, first of zeros.
    """

    size: tuple[int, int]
    counts: list[int]


class Region(msgspec.Struct, gc=False, omit_defaults=True):
    """An area of one label. ``share`` is its share, 0 to 1, of the part of the picture that the model sees.

    ``box`` is as in ``Detection``. ``score`` is that of its box if the model finds single objects. ``polygon``:
    corners of its outline as fractions of the width and height of the source's picture. ``rle``: its pixels in the
    mask.
    """

    label: str
    share: float
    box: tuple[float, float, float, float]
    score: float | None = None
    polygon: list[tuple[float, float]] = []
    rle: RunLengths | None = None


class Mask(msgspec.Struct, gc=False):
    """A grey PNG: each pixel is the number of a class. Results have it as base64. ``labels`` names the numbers.

    ``box``: left, top, right and bottom of the mask as fractions of the width and height of the source's picture.
    """

    png: bytes
    labels: list[str]
    box: tuple[float, float, float, float]


class Segmentation(msgspec.Struct, gc=False, omit_defaults=True):
    """Which part of the picture is what.

    ``shares``: share, 0 to 1, of each label in the part of the source's picture that the model sees. It is 0 for
    one that was there earlier. ``regions`` are the areas, largest first. ``cut``: left, top, right and bottom of
    the masks of ``rle``, as in ``Mask``.
    """

    shares: dict[str, float]
    regions: list[Region]
    cut: tuple[float, float, float, float] | None = None
    mask: Mask | None = None


class Regression(msgspec.Struct, gc=False, omit_defaults=True):
    """The quantities by name, in the unit of the same name in ``units``; those without a unit have none there.

    A value is null where the model gave NaN or infinity. ``out_of_range`` names the values that are null or
    outside what can be believed, and ``in_range`` says that there are none. ``intervals``, behind ``conformal`` or
    ``kalman``: lower and upper limit of each quantity. ``abstained``: an interval is wider than allowed.
    """

    values: dict[str, float | None]
    units: dict[str, str]
    in_range: bool
    out_of_range: list[str]
    intervals: dict[str, tuple[float, float]] | None = None
    abstained: bool = False


class Keyword(msgspec.Struct, gc=False):
    """Whether a keyword was heard: ``keyword`` has it in the one window in which it was recognised, else null.

    ``scores`` has the mean score of each keyword over the last windows, and ``score`` that of the best one. A
    score is null while there are too few windows, and where the model gave NaN or infinity.
    """

    keyword: str | None
    score: float | None
    scores: dict[str, float | None]


class Labels(msgspec.Struct, gc=False, omit_defaults=True):
    """All labels that apply, best first. A window may have none or several.

    ``abstained``: the model gave NaN or infinity for at least one label; such labels are left out. ``rate``,
    behind ``rate``: how often some labels apply.
    """

    labels: list[ScoredLabel]
    abstained: bool
    rate: Rate | None = None


class Cluster(msgspec.Struct, gc=False):
    """The cluster whose centre is nearest, null if that is further away than its radius.

    ``nearest`` is its name in any case, ``distance`` how far away the centre is. Both are null if the model gave
    NaN or infinity.
    """

    label: str | None
    nearest: str | None
    distance: float | None


class Embedding(msgspec.Struct, gc=False, omit_defaults=True):
    """What the window is most like, by the cosine of its embedding and those that were enrolled.

    ``label`` is null if that is below the threshold, if nothing is enrolled, or if the model gave NaN or infinity.
    ``similarity``, -1 to 1, is that of the best label, and ``top`` has the best few. ``vector``: the embedding,
    scaled to length 1.
    """

    label: str | None
    similarity: float | None
    top: list[ScoredLabel]
    vector: list[float] = []


class TensorValues(msgspec.Struct, gc=False):
    """One output of a model: its numbers row by row, null for NaN and infinity."""

    name: str
    shape: list[int]
    dtype: str
    values: list[float | int | bool | None]


class Tensors(msgspec.Struct, gc=False):
    """The outputs of a model as they are, real values where they are quantized."""

    tensors: list[TensorValues]


Output: TypeAlias = (
    Classification
    | Anomaly
    | Detections
    | Keypoints
    | Segmentation
    | Regression
    | Keyword
    | Labels
    | Cluster
    | Embedding
    | Tensors
    | dict[str, Any]
)
"""What a result's ``output`` may be; a mapping comes from a decoder of another package."""
