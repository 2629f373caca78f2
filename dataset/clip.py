"""A training sample: a clip of a few frames and the objects to follow in it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from util.label_map import object_ids

FRAMES = 3  # per sample: the first is memory, then the second too (section 5)


class Clip(NamedTuple):
    """A training sample of T frames and N object slots."""

    frames: np.ndarray  # (T, H, W, 3) uint8 RGB
    labels: np.ndarray  # (T, H, W) uint8: 0 background, else the slot's number from 1
    valid: np.ndarray  # (N,) bool: which slots hold an object
    name: str  # the source of the clip
    problems: tuple[str, ...] = ()  # errors of entries that were tried before this one
    objectless: int = 0  # number of entries tried before this one that showed no object to follow
    masks: np.ndarray | None = None  # (N, H, W) uint8, the first frame's if they are soft: 255 is certain
    hints: np.ndarray | None = None  # (T, 3, H, W) bool, only of the scribble network's (`dataset.scribbles.draw_hints`)


def appears_first(pixels: np.ndarray) -> bool:
    """Whether to follow an object: true if it is visible in the first frame (section F.3.2)."""
    return bool(pixels[0] > 0)


def make_clip(
    frames: Sequence[np.ndarray],
    label_maps: Sequence[np.ndarray],
    rng: np.random.Generator,
    *,
    name: str,
    slots: int,
    followed: Callable[[np.ndarray], bool] = appears_first,
) -> Clip | None:
    """A clip from augmented frames (H, W, 3) and label maps (H, W) with the data set's ids.

    The targets are at most `slots` objects of the first frame, chosen at random from those for which `followed` returns
    true, given the object's pixel count in each frame (T,).  All else is background.  `None` if there is no such object.
    """
    labels = np.stack(label_maps)
    present = [n for n in object_ids(labels[0]) if followed(np.count_nonzero(labels == n, axis=(1, 2)))]
    if not present:
        return None
    targets = rng.permutation(present)[:slots]
    slot_of = np.zeros(256, dtype=np.uint8)
    slot_of[targets] = np.arange(1, 1 + len(targets))
    return Clip(np.stack(frames), slot_of[labels], np.arange(slots) < len(targets), name)
