"""Rounds of corrections: give a mask, follow it, look for the worst frame, give a mask there, and so on.

With our own robot or whole masks, scores cannot be compared with those of DAVIS's interactive track; by its rules:
`evaluation.track`.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dataset.frame_folder import FrameFolder
from dataset.robot import UNMARKED, draw_box, draw_scribbles
from dataset.video import Video
from evaluation.cut import Cut
from evaluation.metrics import score_masks
from evaluation.propagate import Propagation
from model import VideoSegmenter
from util.image import refuse_other_size
from util.label_map import object_ids, only


class Look(NamedTuple):
    """A frame after scribbles were turned into a mask once."""

    scribbles: np.ndarray  # (H, W) uint8, all so far: a label or `UNMARKED`
    labels: np.ndarray  # (H, W) uint8, the mask
    seconds: float  # that the masks took so far, without the robot's time


Give = Callable[[np.ndarray, np.ndarray, np.ndarray | None], tuple[np.ndarray, float]]
Draw = Callable[[np.ndarray, np.ndarray | None], np.ndarray]  # as `draw_scribbles`


def give_truth(image: np.ndarray, truth: np.ndarray, found: np.ndarray | None) -> tuple[np.ndarray, float]:
    """The true mask of a frame, which takes no time."""
    return truth, 0.0


class Robot(NamedTuple):
    """Scribbles where a mask is wrong, has it made anew by `cut`, and that up to `looks` times; `draw` says where it draws."""

    cut: Cut
    looks: int
    draw: Draw = draw_scribbles

    def give(self, image: np.ndarray, truth: np.ndarray, found: np.ndarray | None) -> tuple[np.ndarray, float]:
        """The last mask of `look_at` (H, W), and the seconds that the masks took."""
        last = self.look_at(image, truth, found)[-1]
        return last.labels, last.seconds

    def look_at(self, image: np.ndarray, truth: np.ndarray, found: np.ndarray | None) -> list[Look]:
        """What comes of a frame, look by look.  Objects are cut one by one.

        image (H, W, 3) uint8 RGB, truth (H, W) uint8; found: the result so far (H, W) uint8, which it corrects, or `None`.
        """
        labels = np.zeros_like(truth) if found is None else found.copy()
        scribbles = np.full_like(truth, UNMARKED)
        looked: list[Look] = []
        seconds = 0.0
        for number in range(self.looks):
            new = self.draw(truth, None if found is None and number == 0 else labels)
            scribbles = np.where(new == UNMARKED, scribbles, new)
            labels = labels.copy()
            start = time.perf_counter()
            given_up = np.bincount(labels[(new != UNMARKED) & (new != labels)], minlength=256)
            for i in sorted(object_ids(truth), key=lambda i: -given_up[i]):  # others can have only what it has given up before
                own = labels == i
                if not ((new == i) | (own & (new != i) & (new != UNMARKED))).any():
                    continue  # nobody complained
                others = (labels != i) & (labels != 0)
                mask = self.cut(image, own, others, scribbles == i, (scribbles != i) & (scribbles != UNMARKED))
                labels[own] = 0
                labels[mask] = i
            seconds += time.perf_counter() - start
            looked.append(Look(scribbles, labels, seconds))
            if (new == UNMARKED).all():
                break
        return looked


def cut_in_box(cut: Cut, image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """What is found (H, W) bool in the robot's box around an object (H, W) bool."""
    inside, nothing = draw_box(truth), np.zeros_like(truth)
    return cut(image, inside, nothing, nothing, ~inside)


def true_masks(video: Video, frames: FrameFolder) -> list[np.ndarray]:
    """The true masks of frames (H, W) uint8, of the objects in the first; raises `InputError` if one has another size."""
    truth = []
    for name in frames.names:
        labels = video.read_mask(video.truth[name])
        refuse_other_size(video.truth[name], labels.shape, frames.size)
        truth.append(labels)
    return [only(labels, object_ids(truth[0])) for labels in truth]


def rounds_of(
    make_segmenter: Callable[[], VideoSegmenter],
    video: Video,
    on_round: Callable[[], Any],
    *,
    give: Give,
    rounds: int,
    start: int = 0,
    again: bool = False,
    limit: float = math.inf,
) -> list[dict[str, float]]:
    """Follow the objects of the frame `start`, then correct the worst frame in each further round.

    With `again`, that can be a frame that was given before.  A round that ends after `limit` seconds does not count.
    `give` returns the mask of a frame, as `give_truth` does.  Only frames between the neighbouring given ones are followed
    again, by passes that know all given masks.  For each round: the given frame, the J&F of its mask, J&F of all frames (both
    in percent), seconds of computing so far, and frames followed so far, both ways counted.  J&F is the mean over objects of
    the first frame and over all frames, given ones included.  There are fewer rounds if all frames are given before.  Raises
    `InputError` if the sizes of masks and frames differ.
    """
    frames = FrameFolder(video.images[0].parent)
    truth = true_masks(video, frames)
    objects = object_ids(truth[0])
    labels = [np.zeros_like(truth[0]) for _ in truth]
    scores = np.zeros(len(truth))
    given: dict[int, np.ndarray] = {}
    chosen, span = start, range(len(truth))
    results: list[dict[str, float]] = []
    seconds, seen = 0.0, 0
    while len(results) < rounds:
        given[chosen], spent = give(frames.frame(chosen), truth[chosen], labels[chosen] if results else None)
        began = time.perf_counter()
        propagation = Propagation(frames, given, make_segmenter, span=span, stated=dict.fromkeys(given, objects))
        estimates = {}
        for step in propagation.backwards():
            estimates[step.index] = step.estimate
            if step.labels is not None:  # before all given frames
                labels[step.index] = step.labels
        for step in propagation.forwards(estimates.__getitem__):
            if step.labels is not None:
                labels[step.index] = step.labels
        for t in propagation.given:
            labels[t] = given[t]
        seconds, seen = seconds + spent + time.perf_counter() - began, seen + propagation.steps
        if seconds > limit:
            break
        for t in span:
            scores[t] = np.mean([score_masks(truth[t] == i, labels[t] == i) for i in objects])
        results.append(
            {
                "frame": float(chosen),
                "mask": 100 * float(scores[chosen]),
                "J&F": 100 * float(scores.mean()),
                "seconds": seconds,
                "frames": float(seen),
            }
        )
        on_round()
        choices = [t for t in range(len(truth)) if again or t not in given]
        if not choices:
            break
        chosen = min(choices, key=lambda t: scores[t])
        before = max((t for t in given if t < chosen), default=0)
        behind = min((t for t in given if t > chosen), default=len(truth) - 1)
        span = range(before, behind + 1)
    return results
