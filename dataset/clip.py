"""One training sample: a clip of a few frames, and the objects in it that are to be followed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from util.image import object_ids

FRAMES = 3  # of a sample: the first is memory, then the second too (section 5)


class Clip(NamedTuple):
    """A training sample of T frames and N object slots."""

    frames: np.ndarray  # (T, H, W, 3) uint8 RGB
    labels: np.ndarray  # (T, H, W) uint8: 0 background, else the slot's number from 1
    valid: np.ndarray  # (N,) bool: which slots have an object
    name: str  # what it was made from
    problems: tuple[str, ...] = ()  # what was tried before and could not be used
    objectless: int = 0  # how many entries were tried before that showed no object to follow


def appears_first(pixels: np.ndarray) -> bool:
    """Whether an object is to be followed: it is when the first frame shows it (section F.3.2)."""
    return bool(pixels[0] > 0)


def make_clip(
    views: list[tuple[np.ndarray, np.ndarray]],
    rng: np.random.Generator,
    *,
    name: str,
    slots: int,
    followed: Callable[[np.ndarray], bool] = appears_first,
) -> Clip | None:
    """A clip from augmented frames (H, W, 3) and label maps (H, W), whose ids are the data set's.

    At most `slots` objects of the first frame, chosen at random among those that are `followed`, told by their pixels
    in each frame (T,), are its targets; all else is background.  `None` when there is no such object.
    """
    frames, label_maps = (np.stack(parts) for parts in zip(*views, strict=True))
    present = [n for n in object_ids(label_maps[0]) if followed(np.count_nonzero(label_maps == n, axis=(1, 2)))]
    if not present:
        return None
    targets = rng.permutation(present)[:slots]
    slot_of = np.zeros(256, dtype=np.uint8)
    slot_of[targets] = np.arange(1, 1 + len(targets))
    return Clip(frames, slot_of[label_maps], np.arange(slots) < len(targets), name)
