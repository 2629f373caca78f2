"""Pictures with 16 bits per channel, or other depths above 8, as 8 bits."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from util.errors import InputError
from util.files import open_file
from util.orientation import TURNED, turned


class Levels(NamedTuple):
    """16-bit values that become 0 and 255."""

    low: int
    high: int


WHOLE_RANGE = Levels(0, 65535)
NARROW = 1 << 14  # 16-bit pictures whose values span less would be nearly black or grey in 8 bits


def narrow_range(values: np.ndarray) -> Levels | None:
    """The lowest and highest 16-bit value, if they use so little of the range that 8 bits of it would show little."""
    found = range_of(values)
    return found if found and (found.high < 256 or 0 < found.high - found.low < NARROW) else None


def range_of(values: np.ndarray) -> Levels | None:
    """The lowest and highest value, without the ends of the range; `None` if there is no other."""
    inside = values[(values != WHOLE_RANGE.low) & (values != WHOLE_RANGE.high)]
    return Levels(int(inside.min()), int(inside.max())) if inside.size else None


def is_deep_grey(image: Image.Image) -> bool:
    """Whether an image of Pillow's holds more than 8 bits of grey."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def deep_colours(path: str | Path, image: Image.Image) -> np.ndarray | None:
    """The values (H, W, 3) uint16 of a colour picture with 16 bits per channel, of which Pillow keeps 8; else `None`."""
    if bits_of(path, image) != 16:
        return None
    with open_file(path) as file:
        values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        return None
    values = turned(values[..., 2::-1], image.info.get(TURNED, 1))
    return values if values.shape[:2] == (image.height, image.width) else None


def bits_of(path: str | Path, image: Image.Image) -> int:
    """Bits per channel, where the file's header says so; else 8."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))[0]
    if image.format != "PNG":
        return 8
    with open_file(path) as file:
        return file.read(25)[-1]


def deep_as_8_bits(image: Image.Image, levels: Levels | None) -> Image.Image:
    """A 16-bit greyscale image, or a 12-bit one from a TIFF, as 8-bit."""
    bits, inverted = 16, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (bits,))[0]
        inverted = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # Pillow does not invert these
    values = as_8_bits(np.asarray(image), bits, levels)
    return Image.fromarray(255 - values if inverted else values)


def as_8_bits(values: np.ndarray, bits: int, levels: Levels | None) -> np.ndarray:
    """Values of so many bits as uint8; raises `InputError` if they use little of 16 bits and no `levels` are given."""
    if levels is not None and levels != WHOLE_RANGE:
        low, high = levels
        return ((np.clip(values, low, high).astype(np.float32) - low) * (255 / (high - low)) + 0.5).astype(np.uint8)
    if levels is None and bits == 16 and (found := narrow_range(values)):
        if found.high < 256:
            raise InputError(f"expected a 16-bit picture, found no value above {found.high}; save it with 8 bits")
        what = f"found values from {found.low} to {found.high} only"
        raise InputError(f"expected a 16-bit picture that uses its range, {what}; save all frames with 8 bits, scaled alike")
    return (values >> (bits - 8)).astype(np.uint8)
