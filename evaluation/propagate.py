"""Propagate masks given at some frames to the whole video: forwards, backwards, and both ways in between."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from dataset.video_file import FrameFolder, IndexedFrame, VideoFile
from model import VideoSegmenter, blend
from model.inference import labels_of
from util.ahead import read_ahead
from util.image import resize_probabilities


class Estimate(NamedTuple):
    """The backward pass's prediction for a frame between the first and the last given one."""

    probabilities: np.ndarray  # (N+1, h, w) float16, at the size at which the network works
    ids: np.ndarray  # (N,) the objects' ids


class Backward(NamedTuple):
    """A step of the backward pass; the last given frame has neither labels nor an estimate."""

    index: int
    labels: np.ndarray | None  # (H, W) uint8, the result of a frame before the first given one
    estimate: Estimate | None  # for a frame from the first given one on; the forward pass needs it


class Forward(NamedTuple):
    """A step of the forward pass."""

    index: int
    image: np.ndarray  # (H, W, 3) uint8 RGB, unchanged from the video
    labels: np.ndarray | None  # (H, W) uint8, the result; `None` if it was returned before


class Propagation:
    """Follows the objects of given masks through a video.

    video:          a `FrameFolder` or `VideoFile`
    masks:          label maps (H, W) uint8 of the video's size, by frame, ascending; at least one
    make_segmenter: returns a fresh `VideoSegmenter`; each pass uses one

    There are `steps` steps, of which `done` are done: first `backwards`, from the last given frame to frame 0, then
    `forwards`, from the first given frame to the end.  Between the first and the last given frame, both are blended.  The
    caller stores the estimates that `backwards` yields and passes them to `forwards`:

        waiting = {step.index: step.estimate for step in propagation.backwards()}
        for index, image, labels in propagation.forwards(waiting.get): ...

    `state_dict` can be saved between any two steps.  Another `Propagation` that loads it continues with the next step, bit
    for bit as this one would have.
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
        """The remaining steps of the backward pass; frames are buffered in a temporary file in `folder`."""
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
        """All frames in order, after `backwards` is done; `estimate_of` returns its estimate for a frame index."""
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
        """The position and the segmenter's state, for `torch.save`; the tensors are not copied."""
        return {"done": self.done, "segmenter": self.segmenter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        self.segmenter = self.make_segmenter()
        self.segmenter.load_state_dict(state["segmenter"])

    def _step(self, index: int, image: np.ndarray) -> tuple[torch.Tensor, list[int]]:
        """A frame's probabilities (N+1, h, w), at the size at which the network works, and the objects' ids."""
        probabilities = self.segmenter.step(image, self.masks.get(index), resize_back=False)
        assert probabilities is not None  # every frame is wanted
        self.done += 1
        return probabilities, list(self.segmenter.object_ids)

    def _labels(self, probabilities: torch.Tensor, ids: list[int]) -> np.ndarray:
        """(N+1, h, w) -> (H, W) uint8."""
        return labels_of(resize_probabilities(probabilities, self.video.size), ids).cpu().numpy()
