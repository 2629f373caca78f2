"""Propagate masks given at some frames to the whole video: forwards, backwards, and both ways in between."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dataset.frame_folder import FrameFolder
from dataset.video_file import VideoFile
from evaluation.fits import Claims, refuse_too_large
from model import VideoSegmenter, blend
from model.inference import labels_of, of_objects
from util.ahead import read_ahead
from util.files import write_atomically
from util.label_map import object_ids
from util.tensors import resize_probabilities

SNAPSHOT_SECONDS = 30  # least time between snapshots


class Estimate(NamedTuple):
    """The backward pass's prediction for a frame between the first and the last given one."""

    probabilities: np.ndarray  # (N+1, h, w) float16, at the size at which the network works
    ids: np.ndarray  # (N,) the objects' ids

    def write(self, path: Path) -> None:
        write_atomically(path, lambda file: np.savez_compressed(file, **self._asdict()))

    @classmethod
    def read(cls, path: Path) -> "Estimate":
        with np.load(path) as found:
            return cls(found["probabilities"], found["ids"])


class Backward(NamedTuple):
    """A step of the backward pass; the last given frame has neither labels nor an estimate."""

    index: int
    labels: np.ndarray | None  # (H, W) uint8, the result of a frame before the first given one
    estimate: Estimate | None  # for a frame from the first given one on; the forward pass needs it
    sureness: float | None = None  # of the labels, if asked for


class Forward(NamedTuple):
    """A step of the forward pass."""

    index: int
    image: np.ndarray  # (H, W, 3) uint8 RGB, unchanged from the video
    labels: np.ndarray | None  # (H, W) uint8, the result; `None` if it was returned before
    sureness: float | None = None  # of the labels, if asked for


class Propagation:
    """Follows the objects of given masks through a video.

    video:          a `FrameFolder` or `VideoFile`
    masks:          label maps (H, W) uint8 of the video's size, by frame; all that are given, also outside the span
    make_segmenter: returns a fresh `VideoSegmenter`; each pass uses one
    span:           the frames that need a result, at least one of them with a mask; all by default
    stated:         by frame, the objects whose mask there is complete (see `VideoSegmenter.step`)
    detailed:       also return the labels of every backward step, which are not results yet, and how sure all labels are

    Each pass has all masks in its memory before it starts, also those that lie ahead of it: one that starts where an object
    is hidden knows what it looks like.  It looks for an object even before it comes to a mask that tells of it, so that no
    other object takes its place, but that is a guess: until then the other pass decides about this object, and then the pass
    starts anew, since guesses must not stay in its memory.

    There are `steps` steps, of which `done` are done: first `backwards`, from the last given frame to the start of the span,
    then `forwards`, from the first given frame to its end.  Between the first and the last given frame, both are blended.
    The caller stores the estimates that `backwards` yields and passes them to `forwards`:

        waiting = {step.index: step.estimate for step in propagation.backwards()}
        for index, image, labels, _ in propagation.forwards(waiting.get): ...

    `state_dict` can be saved between any two steps.  Another `Propagation` that loads it continues with the next step, bit
    for bit as this one would have.
    """

    def __init__(
        self,
        video: FrameFolder | VideoFile,
        masks: Mapping[int, np.ndarray],
        make_segmenter: Callable[[], VideoSegmenter],
        *,
        span: range | None = None,
        stated: Mapping[int, Collection[int]] | None = None,
        detailed: bool = False,
    ) -> None:
        self.video, self.masks, self.detailed = video, masks, detailed
        self.shown = {frame: set(object_ids(labels)) for frame, labels in masks.items()}
        objects = set().union(*self.shown.values())
        self.stated = {frame: objects.intersection((stated or {}).get(frame, ())) for frame in masks}
        # the objects of which a mask says something
        self.told = {frame: self.shown[frame] | self.stated[frame] for frame in masks}
        self.span = range(len(video.names)) if span is None else span
        self.make_segmenter, self.segmenter = make_segmenter, make_segmenter()
        self.given = sorted(frame for frame in masks if frame in self.span)
        self.first, self.last = self.given[0], self.given[-1]
        self.backward_steps = self.last + 1 - self.span.start if self.last > self.span.start else 0
        self.steps = self.backward_steps + self.span.stop - self.first
        self.done = 0
        self._memorised: list[int] = []  # frames with masks that the segmenter knew before the pass

    def refuse_if_too_large(self, claims: Claims | None = None) -> int:
        """Raise `InputError` if the memory will not suffice (`refuse_too_large`); the passes follow each other."""
        frames = len(self.span) + len(self.masks) - len(self.given)
        video = {"objects": len(self._told_by(list(self.masks))), "frames": frames, "given": len(self.masks)}
        return refuse_too_large(self.segmenter, self.video.size, **video, claims=claims)

    def backwards(self, folder: Any = None) -> Iterator[Backward]:
        """The remaining steps of the backward pass; frames are buffered in a temporary file in `folder`."""
        if self.done >= self.backward_steps:
            return
        for frame in self.video.backwards(self.last - self.done, folder):
            if frame.index < self.span.start:
                break
            probabilities, ids = self._step(frame.index, frame.image, [t for t in self.masks if t > frame.index])
            labels = estimate = None
            if frame.index < self.first or (self.detailed and frame.index < self.last):
                labels = self._labels(probabilities, ids)
            if self.first <= frame.index < self.last:
                followed = self._followed(probabilities, ids, [t for t in self.masks if t >= frame.index])
                estimate = Estimate(followed[0].half().cpu().numpy(), np.array(followed[1], dtype=np.uint8))
            yield Backward(frame.index, labels, estimate, self._sureness(frame.index, probabilities, ids))

    def forwards(self, estimate_of: Callable[[int], Estimate], *, from_the_start: bool = True) -> Iterator[Forward]:
        """All frames of the span in order, after `backwards` is done; `estimate_of` returns its estimate for a frame index.

        `from_the_start=False` skips the frames whose labels were returned before.
        """
        start = self.first + self.done - self.backward_steps
        frames = self.video.forwards(self.span.start if from_the_start else start)
        with ThreadPoolExecutor(1) as pool:
            for index, image in read_ahead(pool, frames):
                if index >= self.span.stop:
                    return
                if index < start:
                    yield Forward(index, image, None)
                    continue
                probabilities, ids = self._step(index, image, [t for t in self.masks if t < index])
                if index < self.last:
                    before = max(frame for frame in self.given if frame <= index)
                    behind = min(frame for frame in self.given if frame > index)
                    estimate = estimate_of(index)
                    other = torch.from_numpy(estimate.probabilities).to(probabilities.device, probabilities.dtype)
                    share, other_ids = (index - before) / (behind - before), estimate.ids.tolist()
                    followed = self._followed(probabilities, ids, [t for t in self.masks if t <= index])
                    probabilities, ids = blend(*followed, other, other_ids, share)
                yield Forward(index, image, self._labels(probabilities, ids), self._sureness(index, probabilities, ids))

    def state_dict(self) -> dict[str, Any]:
        """The position and the segmenter's state, for `torch.save`; the tensors are not copied."""
        return {"done": self.done, "memorised": self._memorised, "segmenter": self.segmenter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done, self._memorised = state["done"], state["memorised"]
        self.segmenter = self.make_segmenter()
        self.segmenter.load_state_dict(state["segmenter"])

    def _step(self, index: int, image: np.ndarray, behind: list[int]) -> tuple[torch.Tensor, list[int]]:
        """A frame's probabilities (N+1, h, w), at the size at which the network works, and the objects' ids.

        behind: the frames with masks on the side from which the pass comes
        """
        tells_more = index in self._memorised and self._told_by(behind) < self.told[index]
        if self.done in (0, self.backward_steps) or tells_more:
            self._memorise_masks()
        mask, stated, memorised = self.masks.get(index), self.stated.get(index, ()), index in self._memorised
        probabilities = self.segmenter.step(image, mask, stated=stated, memorised=memorised, resize_back=False)
        assert probabilities is not None  # every frame is wanted
        self.done += 1
        return probabilities, list(self.segmenter.object_ids)

    def _memorise_masks(self) -> None:
        """Start a pass with a segmenter that knows the masks and nothing else.

        Masks that tell of few objects come first, since an object's memory starts at the first mask that tells of it: if masks
        tell of more and more objects, none enters with a guess of an object that it leaves out.  One in the span that would do
        so has to wait until the pass comes to it, and has followed that object.
        """
        self.segmenter, self._memorised = self.make_segmenter(), []
        known: set[int] = set()
        for frame in sorted(self.masks, key=lambda t: (len(self.told[t]), t)):
            if frame in self.span and known - self.told[frame]:
                continue
            self.segmenter.memorise(self.video.frame(frame), self.masks[frame], stated=self.stated[frame])
            self._memorised.append(frame)
            known |= self.told[frame]

    def _told_by(self, frames: list[int]) -> set[int]:
        return set().union(*(self.told[frame] for frame in frames))

    def _followed(self, probabilities: torch.Tensor, ids: list[int], met: list[int]) -> tuple[torch.Tensor, list[int]]:
        """The probabilities of the objects of which the masks that a pass has met, those at these frames, say something."""
        return of_objects(probabilities, ids, self._told_by(met))

    def _sureness(self, index: int, probabilities: torch.Tensor, ids: list[int]) -> float | None:
        """How sure the labels of a frame are, if that was asked for."""
        return expected_iou(probabilities, ids, self._must_be_there(index)) if self.detailed else None

    def _must_be_there(self, index: int) -> set[int]:
        """The objects in the last mask up to a frame that tells of them, unless the next one says that they are gone."""
        found = set()
        for number in self._told_by([t for t in self.masks if t <= index]):
            telling = [t for t in self.masks if number in self.told[t]]
            before = max(t for t in telling if t <= index)
            behind = min((t for t in telling if t >= index), default=before)
            if number in self.shown[before] & self.shown[behind]:
                found.add(number)
        return found

    def _labels(self, probabilities: torch.Tensor, ids: list[int]) -> np.ndarray:
        """(N+1, h, w) -> (H, W) uint8."""
        return labels_of(resize_probabilities(probabilities, self.video.size), ids).cpu().numpy()


def expected_iou(probabilities: torch.Tensor, ids: Sequence[int], there: Collection[int] = ()) -> float:
    """(N+1, h, w), background first, and the objects' ids -> the least J of an object that its probabilities let expect.

    That is the sum of its probabilities within its mask, divided by the mask's area and the sum beyond it.  An object without
    a mask counts only if it must be `there`: then it is lost, and the result is 0.  Without any object, it is 1.
    """
    labels, least = probabilities.max(dim=0).indices, 1.0  # as `labels_of`
    for row, number in enumerate(ids, start=1):
        mask, likely = labels == row, probabilities[row].float()
        area = float(mask.sum())
        if area or number in there:
            within = float((likely * mask).sum())
            least = min(least, within / (area + float(likely.sum()) - within) if area else 0.0)
    return least


class Snapshots:
    """Saves a propagation's state often enough to lose little work, and rarely enough to cost little time."""

    def __init__(self, save: Callable[[Propagation], object]) -> None:
        self._save = save
        self.next = time.monotonic() + SNAPSHOT_SECONDS

    @property
    def due(self) -> bool:
        return time.monotonic() >= self.next

    def save(self, propagation: Propagation) -> None:
        start = time.monotonic()
        self._save(propagation)
        end = time.monotonic()
        self.next = end + max(SNAPSHOT_SECONDS, 20 * (end - start))  # an unbounded memory takes long to write
