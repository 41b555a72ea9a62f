"""Names of the points that people's models find, and which of them a line joins."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple


class Body(NamedTuple):
    """What has points: its label, their names, and which are joined, as pairs of places in the names."""

    label: str
    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]


def _body(label: str, lines: str, *names: str) -> Body:
    """Return a body. ``lines``: chains of places, as ``0-1-2``."""
    chains = [[int(place) for place in chain.split("-")] for chain in lines.split()]
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    return Body(label, tuple(name for some in names for name in some.split()), tuple(pairs))


COCO = _body(
    "person",
    "3-1-0-2-4 9-7-5-6-8-10 5-11-12-6 11-13-15 12-14-16",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist",
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
)
BLAZEPOSE = _body(
    "person",
    "0-1-2-3-7 0-4-5-6-8 9-10 11-12 11-13-15-17-19-15-21 12-14-16-18-20-16-22 "
    "11-23-24-12 23-25-27-29-31-27 24-26-28-30-32-28",
    "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear",
    "mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist",
    "left_pinky right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee",
    "left_ankle right_ankle left_heel right_heel left_foot_index right_foot_index",
)
HAND = _body(
    "hand",
    "0-1-2-3-4 0-5-6-7-8 5-9-10-11-12 9-13-14-15-16 13-17-18-19-20 0-17",
    "wrist thumb_cmc thumb_mcp thumb_ip thumb_tip index_mcp index_pip index_dip index_tip",
    "middle_mcp middle_pip middle_dip middle_tip ring_mcp ring_pip ring_dip ring_tip",
    "little_mcp little_pip little_dip little_tip",
)
FACE = Body("face", tuple(f"point_{number}" for number in range(468)), ())
BODIES = {len(body.names): body for body in (COCO, BLAZEPOSE, HAND, FACE)}
"""Bodies by how many points they have."""
