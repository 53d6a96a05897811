"""Gaussian conditioning: what values that vary together say of one that is not known.

Known as kriging; Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", section 2.2. In plain Python:
some hundred values take milliseconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Matrix = list[list[float]]


class Known:
    """Values that are known, each a deviation from its expectation.

    Args:
        covariance: of the values with each other, noise on the diagonal included; positive definite.
        deviations: the values less their expectations.
    """

    def __init__(self, covariance: Matrix, deviations: Sequence[float]) -> None:
        self._root = _cholesky(covariance)
        self._weights = _backward(self._root, _forward(self._root, deviations))

    def about(self, covariance: Sequence[float], variance: float) -> tuple[float, float]:
        """Expected deviation and variance of another value.

        Args:
            covariance: of that value with each that is known.
            variance: of that value as long as nothing is known.
        """
        expected = math.fsum(a * b for a, b in zip(covariance, self._weights, strict=True))
        explained = math.fsum(part * part for part in _forward(self._root, covariance))
        return expected, max(variance - explained, 0.0)


def _cholesky(matrix: Matrix) -> Matrix:
    """The lower triangle L with L L' = `matrix`."""
    root: Matrix = []
    for number, line in enumerate(matrix):
        row: list[float] = []
        for column in range(number):
            above = root[column]
            row.append((line[column] - sum(a * b for a, b in zip(row, above, strict=False))) / above[column])
        row.append(math.sqrt(line[number] - sum(a * a for a in row)))
        root.append(row)
    return root


def _forward(root: Matrix, values: Sequence[float]) -> list[float]:
    """X with L x = `values`."""
    found: list[float] = []
    for row, value in zip(root, values, strict=True):
        found.append((value - sum(a * b for a, b in zip(row, found, strict=False))) / row[-1])
    return found


def _backward(root: Matrix, values: Sequence[float]) -> list[float]:
    """X with L' x = `values`."""
    found = list(values)
    for number in range(len(root) - 1, -1, -1):
        found[number] /= root[number][number]
        for column in range(number):
            found[column] -= root[number][column] * found[number]
    return found
