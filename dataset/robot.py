"""A robot that scribbles in place of a person, after the description of DAVIS's interactive track (Caelles et al., 2018).

A scribble is the longest path through the skeleton of a region that is wrong.
"""

import cv2
import numpy as np
from scipy.sparse.csgraph import dijkstra
from skimage.graph import pixel_graph
from skimage.morphology import skeletonize

UNMARKED = 255  # in a map of scribbles: nothing was said about this pixel
ROWS_PER_RADIUS_PIXEL = 240  # rows of the frame for each pixel of the brush's radius: 2 at 480p
STROKES = 3  # for each label at most
SHORTEST = 0.4  # part of a path that a random stroke covers at least


def draw_scribbles(
    truth: np.ndarray, found: np.ndarray | None = None, *, strokes: int = STROKES, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Label maps (H, W) uint8 of the truth and of a result -> scribbles (H, W) uint8: a label, or `UNMARKED`.

    For each label, 0 included, the robot scribbles into the largest regions of the truth that the result labels otherwise.
    It ignores what is thinner than its brush.  Without a result, it scribbles on each object.  With `rng`, strokes cover a
    random part of their path.  Scribbles never contradict the truth.
    """
    scribbles = np.full(truth.shape, UNMARKED, np.uint8)
    radius = max(1, round(truth.shape[0] / ROWS_PER_RADIUS_PIXEL))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
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
