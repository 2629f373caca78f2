"""The EXIF orientation of pictures: turning them upright."""

import contextlib

import numpy as np
from PIL import Image, TiffImagePlugin

ORIENTATION, TURNED = 0x0112, "turned"  # EXIF's tag, and where an image says which was applied
SIDEWAYS = 5  # the first orientation that exchanges height and width
METHODS = (  # for the orientations from 2 on
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that is still to be applied."""
    if image.format == "TIFF":  # which Pillow turns itself
        return 1
    with contextlib.suppress(Exception):  # damaged EXIF says nothing
        found = Image.Image.getexif(image).get(ORIENTATION, 1)  # not PNG's own method, which decodes the picture
        return found if found in range(1, 9) else 1
    return 1


def is_turned(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet will be turned, by `upright` or by Pillow."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(ORIENTATION, 1) in range(2, 9)
    return orientation_of(image) != 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width as its EXIF orientation says."""
    return (image.width, image.height) if orientation_of(image) >= SIDEWAYS else (image.height, image.width)


def upright(image: Image.Image) -> Image.Image:
    """A loaded image turned as its EXIF orientation says."""
    orientation = orientation_of(image)
    if orientation == 1:
        return image
    result = image.transpose(METHODS[orientation - 2])
    result.format = image.format
    result.info[TURNED] = orientation
    return result


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """An array (H, W, ...) turned as an EXIF orientation says."""
    values = values.swapaxes(0, 1) if orientation >= SIDEWAYS else values
    return values[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]
