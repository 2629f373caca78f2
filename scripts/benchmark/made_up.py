"""Made-up input, and a stopwatch."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch

STRIPES = (10, 100)  # in a made-up mask: narrower ones if there are more than ten objects, and a hundred at most


def made_up_frame(size: tuple[int, int]) -> np.ndarray:
    """Smooth noise, (H, W, 3) uint8."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
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


class Stopwatch:
    """Seconds that work takes, by name; on CUDA between events.  The first measurement of a name does not count."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
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

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name][1:])
