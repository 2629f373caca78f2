"""Made-up input."""

from collections.abc import Callable

import cv2
import numpy as np

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
