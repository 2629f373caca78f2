"""Made-up input, and a stopwatch."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from util.progress import progress_bar
from util.tensors import STRIDE

STRIPES = (10, 100)  # in a made-up mask: narrower ones if there are more than ten objects, and a hundred at most


def made_up_frame(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth noise, (H, W, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def made_up_video(size: tuple[int, int]) -> Callable[[int], np.ndarray]:
    """Frame t, (H, W, 3) uint8, of a video without end in which smooth noise goes left and right."""
    canvas = made_up_frame((size[0], size[1] + 64))

    def frame(t: int) -> np.ndarray:
        left = round(32 + 31 * np.sin(t / 9))
        return canvas[:, left : left + size[1]]

    return frame


def made_up_mask(size: tuple[int, int], ids: range) -> np.ndarray:
    """A label map with an upright stripe for each id."""
    labels = np.zeros(size, dtype=np.uint8)
    stripes = next(count for count in STRIPES if ids.stop <= count + 1)
    for number in ids:
        left = (2 * number - 1) * size[1] // (2 * stripes + 1)
        labels[size[0] // 4 : 3 * size[0] // 4, left : left + max(1, size[1] // (2 * stripes + 1))] = number
    return labels


def grid_of(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the key of such a frame."""
    return -(-size[0] // STRIDE), -(-size[1] // STRIDE)


class Stopwatch:
    """Seconds that work takes, by name; on CUDA between events.  The first `warmup` measurements of a name do not count."""

    def __init__(self, device: torch.device, *, warmup: int = 0) -> None:
        self.cuda = device.type == "cuda"
        self.warmup = warmup
        self.seconds: dict[str, list[float]] = {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns."""
        if self.cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            result = work()
            end.record()
            torch.cuda.synchronize()
            seconds = start.elapsed_time(end) / 1000
        else:
            begin = time.perf_counter()
            result = work()
            seconds = time.perf_counter() - begin
        self.seconds.setdefault(name, []).append(seconds)
        return result

    def compare(self, ways: Mapping[str, Callable[[int], Any]], turns: int, unit: str) -> tuple[float, ...]:
        """The median seconds of each way.  They take turns, since the machine is shared; each is given the turn's number."""
        with progress_bar(len(ways) * (turns + self.warmup), unit) as bar:
            for turn in range(turns + self.warmup):
                for name, work in ways.items():
                    self.time(name, partial(work, turn))
                    bar.increment()
        return tuple(self.median(name) for name in ways)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name][self.warmup :])
