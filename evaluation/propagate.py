"""Masks that are given at some frames of a video, carried to all others: forwards, backwards, and both ways between."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from dataset.video_file import FrameFolder, IndexedFrame, VideoFile
from model import VideoSegmenter, blend
from util.ahead import read_ahead
from util.image import resize_probabilities


class Estimate(NamedTuple):
    """What the pass backwards says of a frame between the first and the last given one."""

    probabilities: np.ndarray  # (N+1, h, w) float16, at the size at which the network works
    ids: np.ndarray  # (N,) the objects' ids


class Backward(NamedTuple):
    """A step of the pass backwards; at the last given frame there is neither labels nor an estimate."""

    index: int
    labels: np.ndarray | None  # (H, W) uint8 of a frame before the first given one: the result
    estimate: Estimate | None  # of a frame from the first given one on: needed by the pass forwards


class Forward(NamedTuple):
    """A frame of the pass forwards."""

    index: int
    image: np.ndarray  # (H, W, 3) uint8 RGB, as it is in the video
    labels: np.ndarray | None  # (H, W) uint8, the result; `None` where it has been handed out before


class Propagation:
    """Follows the objects of some masks through a video.

    video:          a `FrameFolder` or `VideoFile`
    masks:          label maps (H, W) uint8 of the video's size by frame, ascending, at least one
    make_segmenter: a fresh `VideoSegmenter`; each pass takes one

    The work is a row of `steps`, of which `done` are done: first `backwards`, from the last given frame to frame 0, then
    `forwards`, from the first given frame to the end.  Between the first and the last given frame the two are blended.
    Whoever iterates keeps what `backwards` yields and gives the estimates to `forwards`:

        waiting = {step.index: step.estimate for step in propagation.backwards()}
        for index, image, labels in propagation.forwards(waiting.get): ...

    Between two steps `state_dict` can be saved; another `Propagation` that loads it goes on with the next step, bit for bit
    as this one would have.
    """

    def __init__(
        self,
        video: FrameFolder | VideoFile,
        masks: Mapping[int, np.ndarray],
        make_segmenter: Callable[[], VideoSegmenter],
    ) -> None:
        self.video, self.masks = video, masks
        self.make_segmenter, self.segmenter = make_segmenter, make_segmenter()
        self.first, self.last = min(masks), max(masks)
        self.backward_steps = self.last + 1 if self.last > 0 else 0
        self.steps = self.backward_steps + len(video.names) - self.first
        self.done = 0

    def backwards(self, folder: Any = None) -> Iterator[Backward]:
        """The steps of the pass backwards that are not done; frames that must wait do so in a file in `folder`."""
        if self.done >= self.backward_steps:
            return
        for frame in self.video.backwards(self.last - self.done, folder):
            probabilities, ids = self._step(frame.index, frame.image)
            labels = estimate = None
            if frame.index < self.first:
                labels = self._labels(probabilities, ids)
            elif frame.index < self.last:
                estimate = Estimate(probabilities.half().cpu().numpy(), np.array(ids, dtype=np.uint8))
            yield Backward(frame.index, labels, estimate)

    def forwards(self, estimate_of: Callable[[int], Estimate]) -> Iterator[Forward]:
        """All frames in order, once `backwards` is done; `estimate_of` gives its estimate for a frame's index."""
        if self.done == self.backward_steps:
            self.segmenter = self.make_segmenter()
        start = self.first + self.done - self.backward_steps
        given = sorted(self.masks)
        with ThreadPoolExecutor(1) as pool:
            yield from self._forwards(read_ahead(pool, self.video.forwards()), start, given, estimate_of)

    def _forwards(
        self, frames: Iterable[IndexedFrame], start: int, given: list[int], estimate_of: Callable[[int], Estimate]
    ) -> Iterator[Forward]:
        for index, image in frames:
            if index < start:
                yield Forward(index, image, None)
                continue
            probabilities, ids = self._step(index, image)
            if index < self.last:
                before = max(frame for frame in given if frame <= index)
                behind = min(frame for frame in given if frame > index)
                estimate = estimate_of(index)
                other = torch.from_numpy(estimate.probabilities).to(probabilities.device, probabilities.dtype)
                share = (index - before) / (behind - before)
                probabilities, ids = blend(probabilities, ids, other, estimate.ids.tolist(), share)
            yield Forward(index, image, self._labels(probabilities, ids))

    def state_dict(self) -> dict[str, Any]:
        """Where it is and what the segmenter remembers, for `torch.save`; the tensors are not copies."""
        return {"done": self.done, "segmenter": self.segmenter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        self.segmenter = self.make_segmenter()
        self.segmenter.load_state_dict(state["segmenter"])

    def _step(self, index: int, image: np.ndarray) -> tuple[torch.Tensor, list[int]]:
        """Probabilities (N+1, h, w) of a frame, at the size at which the network works, and the objects' ids."""
        probabilities = self.segmenter.step(image, self.masks.get(index), resize_back=False)
        assert probabilities is not None  # every frame is wanted
        self.done += 1
        return probabilities, list(self.segmenter.object_ids)

    def _labels(self, probabilities: torch.Tensor, ids: list[int]) -> np.ndarray:
        """(N+1, h, w) -> (H, W) uint8."""
        numbers = torch.tensor([0, *ids], dtype=torch.uint8, device=probabilities.device)
        return numbers[resize_probabilities(probabilities, self.video.size).argmax(dim=0)].cpu().numpy()
