"""Where an object is and how it moves: a Kalman filter with constant velocity, for any time between two frames.

Centre, width and height are filtered each on its own, as in DeepSORT (Wojke and others, 2017) and ByteTrack (Zhang
and others, 2022). Their noises are by frame. Here they are by second, equal to theirs at 30 frames a second.
"""

from __future__ import annotations

from typing import TypeAlias

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom."""

_MEASURED = 1 / 20
"""Standard deviation of a measured place, by the size of the object."""
_MOVED = 30 / 20**2
"""Variance that a place gains in a second, by the square of the size."""
_TURNED = 30 * (30 / 160) ** 2
"""Variance that a velocity gains in a second, by the square of the size."""
_FIRST = (10 * 30 / 160) ** 2
"""Variance of the velocity of an object that was seen once, by the square of the size."""
_SMALLEST = 1e-4


class Motion:
    """The filter of one object. Lengths are in any unit, times in seconds."""

    __slots__ = ("_covariance", "_place", "_size", "_velocity")

    def __init__(self, box: Box) -> None:
        self._place = _measured(box)
        self._size = max(*self._place[2:], _SMALLEST)
        self._velocity = [0.0] * 4
        square = self._size**2
        self._covariance = [(2 * square * _MEASURED**2, 0.0, square * _FIRST) for _ in range(4)]

    def predict(self, seconds: float, *, seen: bool) -> None:
        """Go on for so many seconds. What is not seen keeps its size."""
        if not seen:
            self._velocity[2:] = [0.0, 0.0]
        square = self._size**2
        turned, moved = _TURNED * square * seconds, _MOVED * square * seconds
        for axis, (place, both, velocity) in enumerate(self._covariance):
            self._place[axis] += self._velocity[axis] * seconds
            self._covariance[axis] = (
                place + 2 * seconds * both + seconds**2 * velocity + moved + turned * seconds**2 / 3,
                both + seconds * velocity + turned * seconds / 2,
                velocity + turned,
            )

    def correct(self, box: Box) -> None:
        """Take note of where the object was seen."""
        noise = (self._size * _MEASURED) ** 2
        for axis, measured in enumerate(_measured(box)):
            place, both, velocity = self._covariance[axis]
            error = measured - self._place[axis]
            gain, gain_of_velocity = place / (place + noise), both / (place + noise)
            self._place[axis] += gain * error
            self._velocity[axis] += gain_of_velocity * error
            left = 1 - gain
            self._covariance[axis] = (left * place, left * both, velocity - gain_of_velocity * both)
        self._size = max(*self._place[2:], _SMALLEST)

    @property
    def box(self) -> Box:
        """Where the object should be now."""
        x, y, width, height = self._place
        half_width, half_height = max(width, _SMALLEST) / 2, max(height, _SMALLEST) / 2
        return x - half_width, y - half_height, x + half_width, y + half_height


def _measured(box: Box) -> list[float]:
    left, top, right, bottom = box
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
