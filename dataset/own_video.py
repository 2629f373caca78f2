"""Masks as people draw them for a video of their own."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from util.errors import InputError
from util.image import IGNORED, open_image, size_text


class GivenMasks:
    """Masks as people draw them become label maps; a colour means the same object in each of them.

    - paletted: the palette's indices are the objects' ids
    - greyscale: the values are the ids; 0 and 255 alone is one object
    - colour: each colour but black is an object, numbered as they come; what is transparent is background
    """

    def __init__(self) -> None:
        self.colours: dict[int, int] = {0: 0}  # from 0xRRGGBB to the id

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """A label map (H, W) uint8 of a frame's size; raises `InputError` naming the file when it cannot be one."""
        with open_image(path) as image:
            if image.mode in ("P", "L", "1"):
                labels = np.array(image, dtype=np.uint8)
                if image.mode == "L" and set(np.unique(labels)) <= {0, IGNORED}:
                    labels = (labels != 0).astype(np.uint8)
            elif image.mode in ("RGB", "RGBA", "LA"):
                labels = None
                picture = np.array(image.convert("RGBA"))
            else:
                raise InputError(f"{path}: expected a paletted, greyscale or colour mask, found mode {image.mode}")
            paletted = image.mode == "P"
        if labels is None:
            codes = (picture[..., :3].astype(np.int64) @ [1 << 16, 1 << 8, 1]) * (picture[..., 3] >= 128)
            _refuse_soft_edges(path, codes)
            for code in np.unique(codes):
                self.colours.setdefault(int(code), len(self.colours))
            if len(self.colours) > IGNORED:
                raise InputError(f"{path}: expected at most 254 colours beside black, found {len(self.colours) - 1}")
            known = np.array(sorted(self.colours))
            labels = np.array([self.colours[int(code)] for code in known], dtype=np.uint8)[np.searchsorted(known, codes)]
        elif not paletted:
            _refuse_soft_edges(path, labels)
        if labels.shape != size:
            raise InputError(f"{path}: mask is {size_text(labels.shape)}, its frame is {size_text(size)}")
        if not ((labels != 0) & (labels != IGNORED)).any():
            raise InputError(f"{path}: expected an object, found none")
        return labels


def _refuse_soft_edges(path: Path, values: np.ndarray) -> None:
    """Antialiased or compressed edges have many values that cover no 3x3 pixels anywhere."""
    padded = np.pad(values, 1, mode="edge")
    height, width = values.shape
    solid = np.ones(values.shape, dtype=bool)
    for dy in range(3):
        for dx in range(3):
            solid &= padded[dy : dy + height, dx : dx + width] == values
    thin = np.setdiff1d(np.unique(values), np.unique(values[solid]))
    if len(thin) > max(2, len(np.unique(values[solid]))):
        raise InputError(
            f"{path}: expected one plain colour for each object, found {len(thin)} that lie along edges only; draw the mask "
            "without antialiasing, and save it as PNG, not JPEG"
        )


def parse_masks(texts: Sequence[str]) -> dict[int, Path]:
    """`first.png 120:second.png` -> from frames to files.

    Raises `InputError` when a frame is named twice, or is negative or absurdly large.
    """
    masks: dict[int, Path] = {}
    for text in texts:
        found = re.fullmatch(r"(-?[0-9]+):(.+)", text)
        number, path = found.groups() if found else ("0", text)
        if number.startswith("-") or len(number) > 9:
            raise InputError(f"--mask {text}: expected FRAME:FILE with a frame from 0 on")
        frame = int(number)
        if frame in masks:
            raise InputError(f"--mask: expected one mask for each frame, found {masks[frame]} and {path} for frame {frame}")
        masks[frame] = Path(path)
    return dict(sorted(masks.items()))
