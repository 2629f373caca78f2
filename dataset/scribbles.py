"""Training samples of the scribble network: a mask to correct, and the robot's scribbles, clicks or box."""

from functools import partial

import cv2
import numpy as np

from dataset.clip import Clip
from dataset.robot import UNMARKED, draw_box, draw_clicks, draw_scribbles
from dataset.sources import Source
from util.errors import InputError
from util.picture import disk

BOXES = 0.15  # share of samples that start from a box
CLICKS = 0.5  # share of the others whose marks are clicks
FROM_NOTHING = 0.4  # share of these without a mask to correct
REMEMBERED = 0.5  # share of those with one that have the first marks too
MOSAICS = 0.25  # share of samples that are four clips beside each other, where the object is small and not the only one
MOST_WRONG = 3  # regions that are corrupted


class ScribbleSource:
    """Single frames of another source with `hints`; only the object in their first slot counts.

    The source draws single frames from then on, so that a batch has more pictures instead of three views of each.
    """

    frames = 1

    def __init__(self, source: Source) -> None:
        self.source = source
        source.frames = self.frames

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def draw(self, index: int, rng: np.random.Generator, *, max_skip: int) -> Clip | None:
        clip = self.source.draw(index, rng, max_skip=max_skip)
        if clip is None:
            return None
        if rng.random() < MOSAICS:
            clip = self._mosaic(clip, rng, max_skip)
        hints = np.stack([draw_hints(labels, rng) for labels in clip.labels])
        return clip._replace(labels=(clip.labels == 1).astype(np.uint8), valid=clip.valid[:1], masks=None, hints=hints)

    def _mosaic(self, clip: Clip, rng: np.random.Generator, max_skip: int) -> Clip:
        """The clip and three others of the source, each at half its size; the others' objects are other objects.

        The clip alone if one of them cannot be had, or its object is too thin to be seen at half its size.
        """
        tiles = [clip]
        for _ in range(3):
            try:
                other = self.source.draw(int(rng.integers(len(self))), rng, max_skip=max_skip)
            except InputError:  # said when it is drawn itself
                return clip
            if other is None:
                return clip
            tiles.append(other._replace(labels=np.where(other.labels > 0, 2, 0).astype(np.uint8)))
        tiles = [tiles[i] for i in rng.permutation(4)]
        frames = _side_by_side([_halved(tile.frames, cv2.INTER_AREA) for tile in tiles])
        labels = _side_by_side([_halved(tile.labels, cv2.INTER_NEAREST) for tile in tiles])
        return clip._replace(frames=frames, labels=labels) if (labels[0] == 1).any() else clip


def _halved(pictures: np.ndarray, method: int) -> np.ndarray:
    """(T, H, W) or (T, H, W, 3), H and W even -> half as high and wide."""
    height, width = pictures.shape[1:3]
    return np.stack([cv2.resize(picture, (width // 2, height // 2), interpolation=method) for picture in pictures])


def _side_by_side(four: list[np.ndarray]) -> np.ndarray:
    """Four arrays (T, H, W) or (T, H, W, 3) -> (T, 2H, 2W) or (T, 2H, 2W, 3)."""
    return np.concatenate([np.concatenate(four[i : i + 2], axis=2) for i in (0, 2)], axis=1)


def draw_hints(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A label map (H, W) in which 1 is the object -> (3, H, W) bool: a mask, marks on the object, marks off it.

    Marks are scribbles or clicks.  Either the mask is empty and the marks are on the whole object, or it is a corrupted true
    mask with marks where it is wrong.  Or the mask is a box around the object, and all around it is off the object.
    """
    truth = (labels == 1).astype(np.uint8)
    mask = np.zeros_like(truth)
    marks = np.full_like(truth, UNMARKED)
    if truth.any() and rng.random() < BOXES:
        inside = draw_box(truth > 0, rng)
        return np.stack([inside, marks == 1, ~inside])
    count = int(rng.integers(1, 4))
    draw = partial(draw_clicks, clicks=count) if rng.random() < CLICKS else partial(draw_scribbles, strokes=count)
    corrects = rng.random() >= FROM_NOTHING
    if not corrects or rng.random() < REMEMBERED:
        marks = draw(truth, rng=rng)
    if corrects:
        mask = corrupt(labels, rng)
        further = draw(truth, mask, rng=rng)
        marks = np.where(further == UNMARKED, marks, further)
    return np.stack([mask == 1, marks == 1, marks == 0])


def corrupt(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask of object 1 with the mistakes of a segmenter, (H, W) uint8 of 0 and 1.

    It is moved, grown or shrunk; other objects are taken for it, and random ellipses near it are cut off or added.
    """
    truth = labels == 1
    mask = truth.astype(np.uint8)
    if not truth.any():
        return mask
    y, x = np.nonzero(truth)
    extent = float(max(np.ptp(y), np.ptp(x), 8))
    if rng.random() < 0.3:
        mask[labels > 1] = 1
    if rng.random() < 0.5:
        shift = rng.normal(0, 0.06 * extent, 2)
        mask = cv2.warpAffine(mask, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), mask.shape[::-1], flags=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        radius = 1 + int(rng.integers(max(1, round(0.08 * extent))))
        mask = (cv2.erode if rng.random() < 0.5 else cv2.dilate)(mask, disk(radius))
    for _ in range(rng.integers(MOST_WRONG + 1)):
        at = int(rng.integers(len(x)))
        centre = int(x[at] + rng.normal(0, 0.2 * extent)), int(y[at] + rng.normal(0, 0.2 * extent))
        axes = tuple(int(axis) for axis in rng.uniform(0.05, 0.4, 2) * extent)
        value = int(rng.random() < 0.5)
        mask = cv2.ellipse(np.ascontiguousarray(mask), centre, axes, rng.uniform(0, 180), 0, 360, value, cv2.FILLED)
    return mask
