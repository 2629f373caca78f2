"""Values in a mask that are no objects, but edges between others: found, refused, or given to what is nearest."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from util.errors import InputError, names_some
from util.label_map import WHITE, count_values

BOX, BIG_BOX = np.ones((3, 3), np.uint8), np.ones((7, 7), np.uint8)
SHORTEST_OUTLINE, FEW = 24, 32  # pixels


def edge_values(values: np.ndarray, counts: np.ndarray, *, least: int = 24) -> list[int]:
    """The values that are no objects but edges between others: antialiased, dithered, interpolated, or outlines.

    least: pixels that several such values have together; fewer may be small objects
    """
    solid = cv2.erode(values, BOX) == cv2.dilate(values, BOX)
    inside = np.bincount(values[solid], minlength=len(counts)) if values.dtype != np.uint8 else _counts_in(values, solid)
    present = np.flatnonzero(counts)
    thin = present[inside[present] * 10 < counts[present]]
    if not len(thin):
        return []
    is_thin = np.zeros(len(counts), bool)
    is_thin[thin] = True
    rows, columns = np.nonzero(is_thin[values])
    padded = np.pad(values, 2, mode="edge")
    own = values[rows, columns]
    low, high = np.full(len(own), len(counts)), np.full(len(own), -1)  # the least and the greatest other value around
    for dy in range(5):
        for dx in range(5):
            other = padded[rows + dy, columns + dx]
            differs = other != own
            low, high = np.where(differs & (other < low), other, low), np.where(differs & (other > high), other, high)
    above, below, left, right = (padded[rows + y, columns + x] for y, x in ((1, 2), (3, 2), (2, 1), (2, 3)))
    enclosed = (above == below) & (left == right) & (above == left) & (above != own) & (above != 0)
    scattered = np.bincount(own[enclosed], minlength=len(counts))
    if dithered := [v for v in thin.tolist() if scattered[v] * 10 >= counts[v] * 6 and counts[v] >= 16]:
        return dithered
    between = np.bincount(own[low < high], minlength=len(counts))
    borders = [v for v in thin.tolist() if between[v] * 10 >= counts[v] * 6]
    if len(borders) > max(2, len(present) - len(thin)) and counts[borders].sum() >= least:
        return borders
    if len(borders) > 1 and counts[borders].sum() >= least and _separates(values, borders):
        return borders
    return [v for v in borders if counts[v] >= 16 and _separates(values, [v])]


def refuse_scattered(path: str | Path, labels: np.ndarray) -> None:
    """Raise `InputError` if the outlines in a label map (H, W) are largely single pixels, as dithering leaves them."""
    row, column = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    y, x = np.nonzero((row[:-1] & row[1:])[:, 1:-1] & (column[:, :-1] & column[:, 1:])[1:-1])
    like = sum((labels[y + dy, x + dx] == labels[y + 1, x + 1]).astype(int) for dy in (0, 2) for dx in (0, 2))
    count = len(y) - np.count_nonzero((like == 1) | (like == 2))  # those of a thin slanting line
    if count >= FEW and count * 20 > np.count_nonzero(row) + np.count_nonzero(column):  # at most a 150th, in DAVIS
        raise InputError(
            f"{path}: expected plain objects, found {count} single pixels scattered in or around them: is it dithered? Save "
            "it with a threshold instead"
        )


def _separates(values: np.ndarray, edges: list[int]) -> bool:
    """Whether the pixels of some values keep another value apart from 0, which hardly touch elsewhere."""
    region = np.isin(values, edges).astype(np.uint8)
    around = count_values(values[(cv2.dilate(region, BOX) > region)])
    most = [i for i in np.argsort(around)[::-1][:2].tolist() if around[i]]
    if 0 not in most or len(most) < 2:
        return False
    inner = (values == max(most)).astype(np.uint8)
    contact = (cv2.dilate(inner, BOX) > 0) & (values == 0)
    return int(contact.sum()) * 5 < int(region.sum())


def is_thick(region: np.ndarray) -> bool:
    """Whether a region (H, W) bool is more than a line of a few pixels, as is drawn around objects to be ignored."""
    return bool(cv2.erode(region.astype(np.uint8), BIG_BOX).any())


def rim_values(values: np.ndarray, counts: np.ndarray) -> list[int]:
    """The numbers that surround another one as a line along the background, where something has interpolated."""
    found: set[int] = set()
    near = None
    for number in np.flatnonzero(counts)[2:].tolist():
        x, y, width, height = cv2.boundingRect((values == number).view(np.uint8))
        box = slice(max(0, y - 1), y + height + 1), slice(max(0, x - 1), x + width + 1)  # the whole takes too long
        region = (values[box] == number).astype(np.uint8)
        outline = cv2.dilate(region, BOX) > region
        if number == WHITE or (length := np.count_nonzero(outline)) < SHORTEST_OUTLINE:
            continue
        near = cv2.dilate((values == 0).astype(np.uint8), BIG_BOX) > 0 if near is None else near
        between = values[box][outline & near[box] & (values[box] > 0) & (values[box] < number)]
        if len(between) * 3 > length:  # a fifth at most, in DAVIS and YouTube-VOS
            found |= set(between.tolist())
    return sorted(found)


def replaced_by_nearest(values: np.ndarray, is_edge: np.ndarray) -> np.ndarray:
    """Values (H, W) in which each pixel of an edge, (H, W) bool, has the value of the nearest pixel that is in none."""
    source, kind = is_edge.astype(np.uint8), cv2.DIST_LABEL_PIXEL
    nearest = cv2.distanceTransformWithLabels(source, cv2.DIST_L2, 5, labelType=kind)[1].astype(np.intp)
    value_of = np.zeros(nearest.max() + 1, values.dtype)
    value_of[nearest[~is_edge]] = values[~is_edge]
    return value_of[nearest]


def soft_edges_error(path: str | Path, edges: Iterable[str]) -> InputError:
    edges = list(edges)
    return InputError(
        f"{path}: expected one plain number or colour for each object, found {len(edges)} that are only edges of others "
        f"({names_some(edges)}); draw without antialiasing or outlines, resize with nearest, and save as PNG, not JPEG; "
        "beside --mask, --soft_edges makes them part of what is nearest"
    )


def _counts_in(values: np.ndarray, region: np.ndarray) -> np.ndarray:
    return cv2.calcHist([values], [0], region.view(np.uint8), [256], [0, 256]).ravel().astype(np.int64)
