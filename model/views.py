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
        self.object_ids: list[int] = []

    def step(self, image: np.ndarray, mask: np.ndarray | None = None, wanted: bool = True) -> Tensor | None:
        """As `VideoSegmenter.step`, of an image (H, W, 3) uint8 and a mask (H, W).

        An object that one view does not know, since no pixel of its mask is left at that size, has probability 0 there.
        """
        found = []
        for segmenter in self._views:
            probabilities = segmenter.step(image, mask, wanted)
            if probabilities is not None:
                found.append((segmenter.object_ids, probabilities))
        self.object_ids = list(dict.fromkeys([*self.object_ids, *(number for ids, _ in found for number in ids)]))
        if not found or not wanted:
            return None
        total = torch.zeros(1 + len(self.object_ids), *image.shape[:2], device=found[0][1].device)
        for ids, probabilities in found:
            rows = [0, *(1 + self.object_ids.index(number) for number in ids)]
            total[rows] += probabilities.to(total.device) / len(found)
        return total

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
