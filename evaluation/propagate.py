"""Masks that are given at some frames of a video, carried to all others: forwards, backwards, and both ways between."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from dataset.video_file import FrameFolder, IndexedFrame, VideoFile
from evaluation.sureness import agreement, edge_margin
from model import VideoSegmenter, blend
from util.ahead import read_ahead
from util.image import resize_probabilities

SNAPSHOT_SECONDS = 30  # what is done again after a stop, at most


class Estimate(NamedTuple):
    """What the pass backwards says of a frame between the first and the last given one."""

    probabilities: np.ndarray  # (N+1, h, w) float16, at the size at which the network works
    ids: np.ndarray  # (N,) the objects' ids


class Backward(NamedTuple):
    """A step of the pass backwards; at the last given frame there is neither labels nor an estimate."""

    index: int
    labels: np.ndarray | None  # (H, W) uint8 of a frame before the first given one: the result
    estimate: Estimate | None  # of a frame from the first given one on: needed by the pass forwards
    sureness: float | None = None  # of the labels, if asked for


class Forward(NamedTuple):
    """A frame of the pass forwards."""

    index: int
    image: np.ndarray  # (H, W, 3) uint8 RGB, as it is in the video
    labels: np.ndarray | None  # (H, W) uint8, the result; `None` where it has been handed out before
    sureness: float | None = None  # of the labels, if asked for


class Propagation:
    """Follows the objects of some masks through a video.

    video:          a `FrameFolder` or `VideoFile`
    masks:          label maps (H, W) uint8 of the video's size by frame, ascending, at least one
    make_segmenter: a fresh `VideoSegmenter`; each pass takes one
    span:           the frames that need a result, in which a mask is given; all by default.  Each pass sees the masks outside
                    before it starts: the pass forwards those before the span, the pass backwards those behind it
    stated:         by frame, the objects of which its mask tells everything (see `VideoSegmenter.step`)
    detailed:       also give the labels of every step backwards, which are not results yet, and say how sure all are

    The work is a row of `steps`, of which `done` are done: first `backwards`, from the last given frame to the first of the
    span, then `forwards`, from the first given frame to the end.  Between the first and the last given frame the two are
    blended.  Whoever iterates keeps what `backwards` yields and gives the estimates to `forwards`:

        waiting = {step.index: step.estimate for step in propagation.backwards()}
        for index, image, labels, _ in propagation.forwards(waiting.get): ...

    Between two steps `state_dict` can be saved; another `Propagation` that loads it goes on with the next step, bit for bit
    as this one would have.
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
        self.video, self.masks, self.stated, self.detailed = video, masks, stated or {}, detailed
        self.span = range(len(video.names)) if span is None else span
        self.make_segmenter, self.segmenter = make_segmenter, make_segmenter()
        self.given = sorted(frame for frame in masks if frame in self.span)
        self.first, self.last = self.given[0], self.given[-1]
        self.backward_steps = self.last + 1 - self.span.start if self.last > self.span.start else 0
        self.steps = self.backward_steps + self.span.stop - self.first
        self.done = 0

    def backwards(self, folder: Any = None) -> Iterator[Backward]:
        """The steps of the pass backwards that are not done; frames that must wait do so in a file in `folder`."""
        if self.done >= self.backward_steps:
            return
        if self.done == 0:
            self._look_at(sorted((frame for frame in self.masks if frame >= self.span.stop), reverse=True))
        for frame in self.video.backwards(self.last - self.done, folder):
            if frame.index < self.span.start:
                break
            probabilities, ids = self._step(frame.index, frame.image)
            labels = estimate = None
            if frame.index < self.first or (self.detailed and frame.index < self.last):
                labels = self._labels(probabilities, ids)
            if self.first <= frame.index < self.last:
                estimate = Estimate(probabilities.half().cpu().numpy(), np.array(ids, dtype=np.uint8))
            yield Backward(frame.index, labels, estimate, edge_margin(probabilities) if self.detailed else None)

    def forwards(self, estimate_of: Callable[[int], Estimate], *, from_the_start: bool = True) -> Iterator[Forward]:
        """All frames of the span in order, once `backwards` is done; `estimate_of` gives its estimate for a frame's index.

        `from_the_start=False` leaves out the frames whose labels have been handed out before.
        """
        if self.done == self.backward_steps:
            self.segmenter = self.make_segmenter()
            self._look_at(sorted(frame for frame in self.masks if frame < self.span.start))
        start = self.first + self.done - self.backward_steps
        frames = self.video.forwards(self.span.start if from_the_start else start)
        with ThreadPoolExecutor(1) as pool:
            yield from self._forwards(read_ahead(pool, frames), start, estimate_of)

    def _forwards(
        self, frames: Iterable[IndexedFrame], start: int, estimate_of: Callable[[int], Estimate]
    ) -> Iterator[Forward]:
        for index, image in frames:
            if index >= self.span.stop:
                return
            if index < start:
                yield Forward(index, image, None)
                continue
            probabilities, ids = self._step(index, image)
            sureness = edge_margin(probabilities) if self.detailed else None
            if index < self.last:
                before = max(frame for frame in self.given if frame <= index)
                behind = min(frame for frame in self.given if frame > index)
                estimate = estimate_of(index)
                other = torch.from_numpy(estimate.probabilities).to(probabilities.device, probabilities.dtype)
                share, other_ids = (index - before) / (behind - before), estimate.ids.tolist()
                if self.detailed:
                    one, two = _numbered(probabilities.argmax(dim=0), ids), _numbered(other.argmax(dim=0), other_ids)
                    sureness = agreement(one.cpu().numpy(), two.cpu().numpy(), share)
                probabilities, ids = blend(probabilities, ids, other, other_ids, share)
            yield Forward(index, image, self._labels(probabilities, ids), sureness)

    def state_dict(self) -> dict[str, Any]:
        """Where it is and what the segmenter remembers, for `torch.save`; the tensors are not copies."""
        return {"done": self.done, "segmenter": self.segmenter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        self.segmenter = self.make_segmenter()
        self.segmenter.load_state_dict(state["segmenter"])

    def _look_at(self, frames: list[int]) -> None:
        """Let a fresh segmenter see masks outside the span."""
        for frame in frames:
            self.segmenter.step(self.video.frame(frame), self.masks[frame], stated=self.stated.get(frame, ()))

    def _step(self, index: int, image: np.ndarray) -> tuple[torch.Tensor, list[int]]:
        """Probabilities (N+1, h, w) of a frame, at the size at which the network works, and the objects' ids."""
        stated = self.stated.get(index, ())
        probabilities = self.segmenter.step(image, self.masks.get(index), stated=stated, resize_back=False)
        assert probabilities is not None  # every frame is wanted
        self.done += 1
        return probabilities, list(self.segmenter.object_ids)

    def _labels(self, probabilities: torch.Tensor, ids: list[int]) -> np.ndarray:
        """(N+1, h, w) -> (H, W) uint8."""
        return _numbered(resize_probabilities(probabilities, self.video.size).argmax(dim=0), ids).cpu().numpy()


class Snapshots:
    """Saves a propagation's state, often enough to lose little and seldom enough to cost little."""

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
        self.next = end + max(SNAPSHOT_SECONDS, 20 * (end - start))  # unbounded memory takes long to write


def _numbered(rows: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Rows of probabilities (H, W), 0 for background, become the objects' ids, uint8."""
    return torch.tensor([0, *ids], dtype=torch.uint8, device=rows.device)[rows]
