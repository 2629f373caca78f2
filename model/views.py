"""One video in several views at once: multi-scale, flip and ensemble (section E)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.footprint import Footprint
from model.inference import VideoSegmenter, labels_of
from model.network import STCN


class View(NamedTuple):
    """How a video is shown to a network."""

    network: STCN
    size: int | None  # shorter side at which the network works
    flip: bool = False  # left for right
    kernel: bool = False  # how it reads the memory


class MultiViewSegmenter:
    """`VideoSegmenter` of every view, each with a memory of its own; their probabilities are averaged at the frame's size.

    `options` are the others of `VideoSegmenter`.  `ValueError` as there, and without views.
    """

    def __init__(self, views: Sequence[View], **options: Any) -> None:
        if not views:
            raise ValueError("views: expected at least 1, found 0")
        self._views = [VideoSegmenter(**view._asdict(), **options) for view in views]

    def step(self, image: np.ndarray, mask: np.ndarray | None = None, wanted: bool = True) -> Tensor | None:
        """As `VideoSegmenter.step`; after an exception, the views may have seen different frames: begin the video anew."""
        found = [probabilities for view in self._views if (probabilities := view.step(image, mask, wanted)) is not None]
        if not found or not wanted:
            return None
        total = torch.zeros_like(found[0])
        for probabilities in found:
            total += probabilities.to(total.device) / len(found)
        return total

    @property
    def object_ids(self) -> list[int]:
        """As `VideoSegmenter`'s, the same in all views."""
        return self._views[0].object_ids

    @property
    def device(self) -> torch.device:
        return self._views[0].device

    def footprint(self, size: tuple[int, int], **video_and_changes: Any) -> Footprint:
        """As `VideoSegmenter.footprint`: every view has a bank, and one frame at a time is computed."""
        banks, frames = zip(*(segmenter.footprint(size, **video_and_changes) for segmenter in self._views), strict=True)
        return Footprint(sum(banks), max(frames))

    def to_labels(self, probabilities: Tensor) -> Tensor:
        """As `VideoSegmenter.to_labels`."""
        return labels_of(probabilities, self.object_ids)
