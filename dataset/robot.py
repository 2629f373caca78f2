"""A robot that scribbles, clicks and draws boxes in place of a person.

A scribble is the longest path through the skeleton of a region that is wrong, after the description of DAVIS's interactive
track (Caelles et al., 2018); `track_scribbles` is that track's robot itself.  A click is a disc at the point of the largest
wrong region that lies deepest in it, as interactive segmentation is evaluated (Sofiiuk et al., 2021).
"""

from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse.csgraph import dijkstra
from scipy.stats import binom
from skimage.graph import pixel_graph
from skimage.morphology import medial_axis, skeletonize

from util.picture import disk

UNMARKED = 255  # in a map of scribbles: nothing was said about this pixel
ROWS_PER_RADIUS_PIXEL = 240  # rows of the frame for each pixel of the brush's radius: 2 at 480p
STROKES = 3  # for each label at most
SHORTEST = 0.4  # part of a path that a random stroke covers at least
ROWS_PER_CLICK_RADIUS_PIXEL = 96  # rows of the frame for each pixel of a click's radius: 5 at 480p
INNER = 0.5  # of the largest distance from the edge: where random clicks are
OPENED = 0.075  # radius at which the track's robot opens a region, as a part of the square root of its area
LARGEST_OPENED = 16  # pixels
SHORTEST_PATH = 4  # pixels of a skeleton that make a scribble of the track
CURVE_POINTS = 1000  # of a scribble of the track
LOOSE = 0.12  # part of the extent by which a side of a random box lies further out at most


class Scribble(NamedTuple):
    """A line that somebody drew."""

    label: int  # 0 is the background
    path: np.ndarray  # (n, 2) float: x and y as parts of width and height


def draw_scribbles(
    truth: np.ndarray, found: np.ndarray | None = None, *, strokes: int = STROKES, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Label maps (H, W) uint8 of the truth and of a result -> scribbles (H, W) uint8: a label, or `UNMARKED`.

    For each label, 0 included, the robot scribbles into the largest regions of the truth that the result labels otherwise.
    It ignores what is thinner than its brush.  Without a result, it scribbles on each object.  With `rng`, strokes cover a
    random part of their path.  Scribbles never contradict the truth.
    """
    scribbles = np.full(truth.shape, UNMARKED, np.uint8)
    brush = disk(_brush_radius(truth.shape))
    for label in np.unique(truth).tolist():
        if found is not None:
            wrong = ((truth == label) & (found != label)).astype(np.uint8)
            wrong = cv2.morphologyEx(wrong, cv2.MORPH_OPEN, brush)
        elif label:
            wrong = (truth == label).astype(np.uint8)
        else:
            continue
        _, parts, statistics, _ = cv2.connectedComponentsWithStats(wrong, connectivity=8)
        by_size = 1 + np.argsort(-statistics[1:, cv2.CC_STAT_AREA], kind="stable")
        for part in by_size[:strokes].tolist():
            path = longest_path(skeletonize(parts == part))
            if rng is not None:
                length = max(1, round(rng.uniform(SHORTEST, 1) * len(path)))
                start = rng.integers(len(path) - length + 1)
                path = path[start : start + length]
            line = np.zeros(truth.shape, np.uint8)
            line[tuple(path.T)] = 1
            scribbles[(cv2.dilate(line, brush) > 0) & (truth == label)] = label
    return scribbles


def _brush_radius(shape: tuple[int, ...]) -> int:
    return max(1, round(shape[0] / ROWS_PER_RADIUS_PIXEL))


def track_scribbles(truth: np.ndarray, found: np.ndarray) -> list[Scribble]:
    """What the robot of DAVIS's interactive track draws on a result (H, W) of which it knows the truth.

    For each label that is missing somewhere, 0 included: the region is opened, with a disk in proportion to the square root
    of its area; each part of its medial axis gives its longest path, as a Bezier curve whose control points are its pixels.
    """
    scribbles = []
    for label in np.unique(truth[truth != found]).tolist():
        wrong = ((truth == label) & (found != label)).astype(np.uint8)
        radius = min(LARGEST_OPENED, int(OPENED * np.sqrt(wrong.sum())))
        axis = np.asarray(medial_axis(cv2.morphologyEx(wrong, cv2.MORPH_OPEN, disk(radius)), rng=0))
        count, parts = cv2.connectedComponents(axis.astype(np.uint8), connectivity=8)
        for part in range(1, count):
            if (parts == part).sum() >= SHORTEST_PATH:
                control = longest_path(parts == part)[:, ::-1]
                weights = binom.pmf(np.arange(len(control)), len(control) - 1, np.linspace(0, 1, CURVE_POINTS)[:, None])
                scribbles.append(Scribble(label, weights @ control / truth.shape[::-1]))
    return scribbles


def mark(scribbles: list[Scribble], shape: tuple[int, int]) -> np.ndarray:
    """Scribbles drawn with the robot's brush: (H, W) uint8 as by `draw_scribbles`; later ones lie on top."""
    marks = np.full(shape, UNMARKED, np.uint8)
    for label, path in scribbles:
        pixels = np.floor(path * shape[::-1]).astype(np.int32)
        cv2.polylines(marks, [pixels], False, label, thickness=1 + 2 * _brush_radius(shape))
    return marks


def click_radius(rows: int) -> int:
    """The radius of the disc that stands for a click on a frame with this number of rows, in pixels."""
    return max(2, round(rows / ROWS_PER_CLICK_RADIUS_PIXEL))


def draw_clicks(
    truth: np.ndarray, found: np.ndarray | None = None, *, clicks: int = 1, rng: np.random.Generator | None = None
) -> np.ndarray:
    """As `draw_scribbles`, but with a disc in each of the `clicks` largest wrong regions, whatever their labels.

    Without a result, the wrong regions are the objects.  With `rng`, a click is anywhere in the inner half of its region.
    """
    wrong = truth > 0 if found is None else truth != found
    marks = np.full(truth.shape, UNMARKED, np.uint8)
    regions = []
    for label in np.unique(truth[wrong]).tolist():
        region = (wrong & (truth == label)).astype(np.uint8)
        depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]  # what is cut off ends at the frame
        _, parts, statistics, _ = cv2.connectedComponentsWithStats(region, connectivity=8)
        areas = statistics[1:, cv2.CC_STAT_AREA].tolist()
        regions += [(-area, label, part, parts, depth) for part, area in enumerate(areas, start=1)]
    for _, label, part, parts, depth in sorted(regions, key=lambda region: region[:3])[:clicks]:
        inside = np.where(parts == part, depth, 0)
        choices = np.flatnonzero(inside >= inside.max() * (1 if rng is None else INNER))
        y, x = np.unravel_index(choices[0] if rng is None else rng.choice(choices), truth.shape)
        disc = cv2.circle(np.zeros(truth.shape, np.uint8), (int(x), int(y)), click_radius(len(truth)), 1, cv2.FILLED) > 0
        marks[disc & (truth == label)] = label
    return marks


def draw_box(truth: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """What lies in the box around a region (H, W) bool, not empty; with `rng`, each side lies a little further out."""
    y, x = np.nonzero(truth)
    sides = np.array([x.min(), y.min(), x.max(), y.max()])
    if rng is not None:
        extent = np.array([np.ptp(x), np.ptp(y)] * 2) + 1
        sides = np.round(sides + rng.uniform(0, LOOSE, 4) * extent * (-1, -1, 1, 1)).astype(int)
        sides = np.clip(sides, 0, np.array(truth.shape[::-1] * 2) - 1)
    x0, y0, x1, y1 = sides
    inside = np.zeros_like(truth)
    inside[y0 : y1 + 1, x0 : x1 + 1] = True
    return inside


def longest_path(skeleton: np.ndarray) -> np.ndarray:
    """(H, W) bool, connected -> (n, 2) row and column of the pixels between the two that are furthest apart along it.

    Exact for a skeleton without loops; with loops, the two are as far apart as two searches find.
    """
    graph, nodes = pixel_graph(skeleton, connectivity=2)
    start = int(np.argmax(dijkstra(graph, indices=0)))
    distances, before = dijkstra(graph, indices=start, return_predecessors=True)
    path = [int(np.argmax(distances))]
    while path[-1] != start:
        path.append(int(before[path[-1]]))
    return np.stack(np.unravel_index(nodes[path], skeleton.shape), axis=1)
