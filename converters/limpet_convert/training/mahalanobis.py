"""Mahalanobis' distance as one dense layer whose reconstruction error is the distance. Pure functions.

The layer computes x + W x, where W whitens what is normal. Its mean squared error to its input is |W x|^2 / d: the
squared distance divided by the number of elements. The decoder ``anomaly`` computes it as for any autoencoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.data import FloatArray

_LEAST = 1e-3
"""Smallest variance of a direction, as a share of the mean variance: int8 cannot show smaller ones."""


def layer(normal: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return kernel ``(d, d)``, for ``x @ kernel``, and bias ``(d,)`` from normal windows ``(n, d)``."""
    centred = normal.astype(np.float64) - normal.mean(axis=0, dtype=np.float64)
    variances, directions = np.linalg.eigh(shrunk(centred))
    floor = max(_LEAST * float(variances.mean()), 1e-9)
    whitening = directions / np.sqrt(np.maximum(variances, floor))
    kernel = np.eye(centred.shape[1]) + whitening
    bias = -(normal.mean(axis=0, dtype=np.float64) @ whitening)
    return kernel.astype(np.float32), bias.astype(np.float32)


def shrunk(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance of centred rows, moved towards a multiple of the identity as far as the data are few.

    Source: O. Ledoit, M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004.
    """
    count, size = centred.shape
    sample: NDArray[np.float64] = centred.T @ centred / count
    mean = float(np.trace(sample)) / size
    distance = float(((sample - mean * np.eye(size)) ** 2).sum())
    squares = centred**2
    spread = float((squares.T @ squares / count - sample**2).sum()) / count
    weight = min(1.0, spread / distance) if distance > 0 else 1.0
    found: NDArray[np.float64] = (1 - weight) * sample + weight * mean * np.eye(size)
    return found
