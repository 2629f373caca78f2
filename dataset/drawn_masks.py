"""Hand-drawn masks for the user's own videos."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from util.errors import InputError
from util.image import WHITE, Numbering, object_ids, open_image, refuse_lossy, size_text

PURE_WHITE = 0xFFFFFF


class GivenMasks:
    """Converts hand-drawn masks to label maps; a colour means the same object in all masks.

    - paletted: palette indices are object ids
    - greyscale: values are object ids; white on black is object 1 (`util.image.Numbering`)
    - colour: each colour except black is an object, numbered in order of appearance; transparent pixels are background
    """

    def __init__(self) -> None:
        self.colours: dict[int, int] = {0: 0}  # from 0xRRGGBB to the id
        self.numbering = Numbering(strict=True)
        self.ids: set[int] = set()  # in all masks so far

    def read_all(self, paths: Mapping[int, Path], size: tuple[int, int]) -> dict[int, np.ndarray]:
        """Label maps (H, W) uint8 by frame, ascending.  Empty masks before the first object are left out.

        Raises `InputError` naming the file if a mask is invalid or empty after the first object, or if all are empty.
        """
        masks: dict[int, np.ndarray] = {}
        for frame, path in sorted(paths.items()):
            labels = self.read(path, size)
            if labels.any():
                masks[frame] = labels
            elif masks:
                raise InputError(f"{path}: expected an object, as in the masks before it, found none; leave this mask out")
        if not masks:
            names = ", ".join(str(path) for path in paths.values())
            raise InputError(f"{names}: expected an object, found none")
        return masks

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """A label map (H, W) uint8 of the frame's size; it holds only ids and may be empty.

        Masks must be read in frame order.  Raises `InputError` naming the file if it is not a valid mask.
        """
        with open_image(path) as image:
            refuse_lossy(image)
            paletted = image.mode == "P"
            if image.mode in ("P", "L", "1"):
                values = np.array(image if paletted else image.convert("L"))
            elif image.mode in ("RGB", "RGBA", "LA"):
                picture = np.array(image.convert("RGBA"))
                values = (picture[..., :3].astype(np.int64) @ [1 << 16, 1 << 8, 1]) * (picture[..., 3] >= 128)
            else:
                raise InputError(f"expected a paletted, greyscale or colour mask, found mode {image.mode}")
        if not paletted:
            _refuse_soft_edges(path, values)
        if values.dtype != np.uint8:
            values = self._numbered(path, values)
        labels = self.numbering.read(values, path)
        self.ids |= set(object_ids(labels))
        if self.numbering.white:
            self.colours.setdefault(PURE_WHITE, 1)
        if labels.shape != size:
            raise InputError(f"{path}: mask is {size_text(labels.shape)}, its frame is {size_text(size)}")
        return labels

    def _numbered(self, path: Path, codes: np.ndarray) -> np.ndarray:
        """Ids (H, W) uint8 for colours (H, W) as 0xRRGGBB; white stays 255 in a white-on-black mask unless ids were seen."""
        found = np.unique(codes)
        if self.numbering.white is not False and set(found.tolist()) <= {0, PURE_WHITE}:
            return np.where(codes == PURE_WHITE, np.uint8(WHITE), np.uint8(0))
        for code in found.tolist():
            if code not in self.colours:
                self.colours[code] = 1 + max(self.ids | set(self.colours.values()))
        if (count := max(self.colours.values())) >= WHITE:
            raise InputError(f"{path}: expected at most 254 objects in all masks, found {count}")
        known = np.array(sorted(self.colours))
        return np.array([self.colours[code] for code in known.tolist()], dtype=np.uint8)[np.searchsorted(known, codes)]


def _refuse_soft_edges(path: Path, values: np.ndarray) -> None:
    """Raise `InputError` for antialiased or compressed edges: too many values never fill a 3x3 block."""
    padded = np.pad(values, 1, mode="edge")
    height, width = values.shape
    solid = np.ones(values.shape, dtype=bool)
    for dy in range(3):
        for dx in range(3):
            solid &= padded[dy : dy + height, dx : dx + width] == values
    thin = np.setdiff1d(np.unique(values), np.unique(values[solid]))
    if len(thin) > max(2, len(np.unique(values[solid]))):
        raise InputError(
            f"{path}: expected one plain colour for each object, found {len(thin)} colours along edges only; draw the mask "
            "without antialiasing, and save it as PNG, not JPEG"
        )


def parse_masks(texts: Sequence[str]) -> dict[int, Path]:
    """`["first.png", "120:second.png"]` -> files by frame, ascending.

    Raises `InputError` if a frame is named twice, is negative or has more than 9 digits.
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
