"""Region similarity J and contour accuracy F of one object in one frame, and DAVIS's statistics over frames.

They follow the official DAVIS 2017 tool.  J is intersection over union; F compares contours with a tolerance of 0.8 % of
the image diagonal.  MOSE v2's F (arXiv:2508.05630; `MOSEv2/sam2_rcms/tools` of github.com/henghuiding/MOSE-api) is stricter
with small objects: its tolerance is at most a tenth of the square root of the object's area.
"""

import itertools
import math
from typing import NamedTuple

import cv2
import numpy as np

CONTOUR_TOLERANCE = 0.008  # of the diagonal
ADAPTIVE_TOLERANCE = 0.1  # of the square root of the area


class Measures(NamedTuple):
    """Of one object in one frame: J and both F, in [0, 1]."""

    j: float
    f: float
    f_adaptive: float  # MOSE v2's
    union: int  # pixels that truth or result show


class Statistics(NamedTuple):
    """DAVIS's statistics of a measure over an object's frames."""

    mean: float
    recall: float  # fraction of frames above 0.5
    decay: float  # mean of the first quarter minus mean of the last


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower-right neighbour: (H, W) bool -> (H, W) bool.

    Neighbours outside the image do not count.
    """
    result = np.zeros_like(mask)
    result[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    result[:-1] |= mask[:-1] ^ mask[1:]
    result[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return result


def contour_radius(height: int, width: int) -> int:
    """The tolerance of F, in pixels."""
    return math.ceil(CONTOUR_TOLERANCE * math.hypot(height, width))


def disk(radius: int) -> np.ndarray:
    """The disk x^2 + y^2 <= r^2 as (2r+1, 2r+1) uint8."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def score_masks(truth: np.ndarray, result: np.ndarray) -> tuple[float, float]:
    """J and F of one object in one frame, from masks (H, W) bool: the first two of `measure_masks`."""
    return measure_masks(truth, result)[:2]


def measure_masks(truth: np.ndarray, result: np.ndarray) -> Measures:
    """The measures of one object in one frame, from masks (H, W) bool, or of numbers, of which all but 0 are the object.

    J is 1 if both masks are empty.  Both F are 1 if neither mask has a boundary, and 0 if only one has.
    """
    truth, result = truth.astype(bool, copy=False), result.astype(bool, copy=False)
    height, width = truth.shape
    radius = contour_radius(height, width)
    x, y, w, h = cv2.boundingRect((truth | result).view(np.uint8))
    if w == 0:
        return Measures(1.0, 1.0, 1.0, 0)
    margin = 1  # the boundary reaches one pixel above and to the left of the masks, and F counts only boundary pixels
    window = np.s_[max(0, y - margin) : y + h + margin, max(0, x - margin) : x + w + margin]
    truth, result = truth[window], result[window]
    union = int(np.count_nonzero(truth | result))
    j = np.count_nonzero(truth & result) / union
    boundaries = boundary(truth), boundary(result)
    f = contour_accuracy(*boundaries, radius)
    adaptive = min(radius, math.ceil(ADAPTIVE_TOLERANCE * math.sqrt(np.count_nonzero(truth))))
    return Measures(j, f, f if adaptive == radius else contour_accuracy(*boundaries, adaptive), union)


def contour_accuracy(truth_boundary: np.ndarray, result_boundary: np.ndarray, radius: int) -> float:
    """F of boundaries (H, W) bool that may lie `radius` pixels apart."""
    truth_size, result_size = np.count_nonzero(truth_boundary), np.count_nonzero(result_boundary)
    if truth_size == 0 or result_size == 0:
        return float(truth_size == result_size)
    both = np.dstack([truth_boundary, result_boundary]).view(np.uint8)
    dilated = cv2.dilate(both, disk(radius)).view(bool)
    precision = np.count_nonzero(result_boundary & dilated[..., 0]) / result_size
    recall = np.count_nonzero(truth_boundary & dilated[..., 1]) / truth_size
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def statistics(values: np.ndarray) -> Statistics:
    """DAVIS's statistics of an object's scores (T,)."""
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    quarters = [values[first : last + 1] for first, last in itertools.pairwise(edges)]
    return Statistics(
        mean=float(np.mean(values)),
        recall=float(np.mean(values > 0.5)),
        decay=float(np.mean(quarters[0]) - np.mean(quarters[3])),
    )
