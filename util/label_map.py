"""Label maps: their files, their palette, and the meaning of their values.

A label map is an integer array (H, W).  0 is background (in a given mask: unspecified), 1 to 254 are object ids.  The
meaning of 255 depends on the video; `Numbering` decides it.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from util.errors import InputError
from util.files import write_atomically
from util.image import open_image, refuse_lossy

IGNORED = 255
MOST_OBJECTS = IGNORED - 1  # numbered from 1
WHITE = IGNORED  # in masks that are white on black


class LabelMap(NamedTuple):
    """A label map as stored in a file."""

    labels: np.ndarray  # (H, W) uint8
    palette: bytes | None  # 768 bytes RGB, None for a greyscale file


def colour_map() -> bytes:
    """The DAVIS and PASCAL VOC palette, 768 bytes: the bits of an id, lowest first, fill R, G and B in turn from the top."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


def read_label_map(path: str | Path) -> LabelMap:
    """A paletted or greyscale PNG that we wrote, with the file's own values; masks of others are for `dataset.mask_reader`.

    Raises `InputError` naming the file if it is not a label map or its format is lossy.
    """
    with open_image(path) as image:
        refuse_lossy(image)
        if image.mode not in ("P", "L"):
            raise InputError(f"expected a label map (a paletted or greyscale PNG), found mode {image.mode}")
        return LabelMap(np.array(image), bytes(image.getpalette("RGB") or []) or None)


def write_label_map(path: str | Path, labels: np.ndarray, palette: bytes | None) -> None:
    """Write (H, W) uint8 as a PNG, atomically: paletted, or greyscale if `palette` is `None`."""
    image = Image.fromarray(labels)
    if palette is not None:
        image.putpalette(palette)
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    write_atomically(path, lambda file: file.write(encoded.getbuffer()))


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) -> `size`, nearest: the same entries as PyTorch's `interpolate` takes, whose rounding is float32's."""
    if labels.shape == size:
        return labels
    rows, columns = (_nearest(*sides) for sides in zip(size, labels.shape, strict=True))
    return labels[np.ix_(rows, columns)]


def _nearest(new: int, old: int) -> np.ndarray:
    positions = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    return np.minimum(positions.astype(np.int64), old - 1)


def object_ids(labels: np.ndarray) -> list[int]:
    """The object ids in a label map, ascending, without 0 and 255."""
    return [i for i in np.flatnonzero(count_values(labels)).tolist() if i not in (0, IGNORED)]


def only(labels: np.ndarray, ids: Iterable[int]) -> np.ndarray:
    """A label map (H, W) uint8 in which all but these objects are background."""
    table = np.zeros(256, np.uint8)
    kept = [*ids]
    table[kept] = kept
    return table[labels]


def count_values(values: np.ndarray) -> np.ndarray:
    """How often each number occurs, (256,) or more; Pillow counts bytes four times as fast as NumPy."""
    if values.dtype == np.uint8 and values.ndim == 2:
        return np.array(Image.fromarray(values).histogram())
    return np.bincount(values.ravel(), minlength=256)


class Numbering:
    """The meaning of the values in one video's label maps, in particular of 255.

    The first label map that is not 0 everywhere decides for the whole video:

    - It holds only 0 and 255 (white on black): 255 is object 1 in all label maps.
    - It holds ids: 255 means "ignore" in all label maps, even in a later one that holds nothing else.

    `white` is true in the first case, false in the second, and `None` until a label map has decided.  With `strict`, a
    label map that holds only 0 and 255 after one with ids raises `InputError` instead of being ignored.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.white: bool | None = None
        self.strict = strict

    def read(self, labels: np.ndarray, source: str | Path) -> np.ndarray:
        """A label map (H, W) uint8 with ids only: 255 becomes 1 in white-on-black videos, else 0.

        Raises `InputError` naming `source` if the video is white on black but this label map also holds ids.
        """
        white = bool((labels == WHITE).any())
        if not white and self.white is not None:
            return labels
        ids = bool(((labels != 0) & (labels != WHITE)).any())
        if self.white is None and (white or ids):
            self.white = not ids
        if not white:
            return labels
        if self.white and ids:
            raise InputError(
                f"{source}: expected white on black, like the first mask of this video, found 255 and other numbers; "
                "number the objects in all masks"
            )
        if self.strict and not self.white and not ids:
            raise InputError(
                f"{source}: expected numbered objects, as in the masks before it, found only 0 and 255, which means "
                "'ignore' here; give the object its number"
            )
        return np.where(labels == WHITE, np.uint8(1 if self.white else 0), labels)
