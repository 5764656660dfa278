"""Where to write the names of points so that they cover neither each other, nor a curve, nor the plot's edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router_ml.evaluation.inputs import FloatArray

__all__ = ["Box", "place_labels"]

# Where to try, seen from the point: directions in the order of preference, then further out.
_ANGLES = np.deg2rad([-45, 45, -90, 90, 0, 180, -135, 135, -20, 20, -160, 160])
_DISTANCES = (9.0, 18.0, 30.0, 45.0, 65.0, 90.0, 120.0, 160.0)

_DOT = 4.0
"""How near to a point's middle its dot reaches, in points of type, and a little more."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels: left, bottom, right, top."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def grown(self, by: float) -> Box:
        """The same with a margin around it."""
        return Box(self.left - by, self.bottom - by, self.right + by, self.top + by)

    def covered(self, points: FloatArray) -> int:
        """How many of the points [P, 2] lie inside."""
        x, y = points[:, 0], points[:, 1]
        return int(((x > self.left) & (x < self.right) & (y > self.bottom) & (y < self.top)).sum())


def place_labels(
    anchors: FloatArray, sizes: Sequence[tuple[float, float]], avoid: FloatArray, frame: Box, scale: float = 1.0
) -> list[Box]:
    """A box for each label, greedily: the first place near its point that costs least.

    Parameters
    ----------
    anchors : array [K, 2]
        The points in pixels; no box touches the dot of one, where that can be had.
    sizes : sequence of K (width, height)
        Of the labels, in pixels.
    avoid : array [P, 2]
        Points along the curves, in pixels.
    frame : Box
        Boxes stay inside.
    scale : float
        Pixels per point of type.

    Returns
    -------
    list of K Box
    """
    placed: list[Box] = []
    for anchor, (width, height) in zip(anchors, sizes, strict=True):
        best: tuple[float, Box] | None = None
        for distance in _DISTANCES:
            for angle in _ANGLES:
                box = _inside(_beside(anchor, angle, distance * scale, width, height), frame)
                cost = (
                    10.0 * sum(box.overlap(other) for other in placed) / height**2
                    + 10.0 * box.grown(_DOT * scale).covered(anchors)
                    + 0.5 * box.covered(avoid)
                    + 0.02 * distance
                )
                if best is None or cost < best[0]:
                    best = cost, box
        placed.append(best[1] if best else Box(*anchor, *anchor))
    return placed


def _beside(anchor: FloatArray, angle: float, distance: float, width: float, height: float) -> Box:
    """The box of which the nearest edge or corner lies at that distance in that direction."""
    dx, dy = np.cos(angle), np.sin(angle)
    x = float(anchor[0] + dx * distance + (dx - 1) / 2 * width)
    y = float(anchor[1] + dy * distance + (dy - 1) / 2 * height)
    return Box(x, y, x + width, y + height)


def _inside(box: Box, frame: Box) -> Box:
    right = min(max(frame.left - box.left, 0.0) + box.right, frame.right) - box.right
    up = min(max(frame.bottom - box.bottom, 0.0) + box.top, frame.top) - box.top
    return Box(box.left + right, box.bottom + up, box.right + right, box.top + up)
