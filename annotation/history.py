"""What each page has done to the given masks, so that it can take back its own steps."""

import zlib
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from annotation.state import Given, Object
from util.label_map import object_ids, only

KEPT_STEPS = 200


def packed(labels: np.ndarray) -> bytes:
    """A mask (H, W) uint8 that takes little memory."""
    return zlib.compress(labels.tobytes(), 1)


def unpacked(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """`packed`'s mask of this size (H, W)."""
    return np.frombuffer(zlib.decompress(content), np.uint8).reshape(size)


class Change(NamedTuple):
    """What was given at a frame, if anything, and the mask that it showed: before a step and after it."""

    before: Given | None
    after: Given | None
    showed: bytes  # packed
    shows: bytes

    def taken_back(self, now: Given | None, labels: np.ndarray, known: set[int]) -> tuple[np.ndarray, list[int]] | None:
        """The mask to give, (H, W) uint8, and the objects that it states, if `now` is given and `labels` are shown; or none.

        What others have changed since stays.  `known` are the objects that there are.
        """
        showed, shows = (unpacked(each, labels.shape) for each in (self.showed, self.shows))
        before, after = (mask.stated if mask else [] for mask in (self.before, self.after))
        if _same(now, self.after, known):
            labels, stated = showed, {*before}
        else:
            labels = np.where((showed != shows) & (labels == shows), showed, labels)
            others = {*(now.stated if now else ())}  # of which this step alone has said that they are not there
            stated = others - ({*after} - {*before}) | (others & {*object_ids(labels)}) | ({*before} - {*after})
        told = sorted(stated & known)
        return (only(labels, told), told) if told else None


@dataclass(eq=False)
class Step:
    """Something that the page `by` did."""

    by: int
    changes: dict[int, Change]  # by frame
    removed: tuple[int, Object] | None = None  # an object that is gone by it, and its place in the list
    restored: Object | None = None


class History:
    """The last steps of all pages, and those that were taken back."""

    def __init__(self) -> None:
        self._done: deque[Step] = deque(maxlen=KEPT_STEPS)
        self._undone: deque[Step] = deque(maxlen=KEPT_STEPS)

    def add(self, step: Step) -> None:
        """A new step: what its page took back before cannot be done again."""
        self._done.append(step)
        for each in [each for each in self._undone if each.by == step.by]:
            self._undone.remove(each)

    def last(self, by: int, *, again: bool) -> Step | None:
        """The step to take back, or to do again."""
        return next((step for step in reversed(self._undone if again else self._done) if step.by == by), None)

    def turn(self, step: Step, inverse: Step, *, again: bool) -> None:
        """The step was taken back, or done again, which the inverse takes back, unless nothing was left to change."""
        source, target = (self._undone, self._done) if again else (self._done, self._undone)
        source.remove(step)
        if inverse.changes or inverse.removed or inverse.restored:
            target.append(inverse)


def _same(one: Given | None, other: Given | None, known: set[int]) -> bool:
    """Whether two given masks are the same but for objects that are gone."""
    if one is None or other is None:
        return one is other
    return one.digest == other.digest and {*one.stated} & known == {*other.stated} & known
