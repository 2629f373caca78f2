"""Image files as arrays: opened upright, with clear errors.  As tensors: `util.tensors`."""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from util.errors import InputError
from util.files import one_line_for, open_file
from util.orientation import is_turned, upright, upright_size
from util.sixteen_bit import NARROW, WHOLE_RANGE, Levels, as_8_bits, deep_as_8_bits, deep_colours, is_deep_grey, range_of

warnings.filterwarnings("ignore", module=r"PIL\b")  # about pictures that it then reads, or that are refused
LARGEST = 2**31  # bytes of a file
KINDS = {"P": "paletted", "PA": "paletted", "1": "1-bit"}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # Pillow's names of all that is opened: EPS would start a program
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
JPEG_START, JPEG_END, TAIL = b"\xff\xd8\xff", b"\xff\xd9", 1 << 16
PICTURE = 64  # shades of grey
LOSSLESS = frozenset({"PNG", "BMP", "TIFF", "GIF"})  # Pillow's names of the formats allowed for masks


def read_image(path: str | Path, levels: Levels | None = None) -> np.ndarray:
    """An image file as uint8 RGB (H, W, 3), upright; `levels` are the 16-bit values that become 0 and 255.

    Raises `InputError` naming the file if it cannot be read (see `as_rgb`).
    """
    with open_image(path) as image:
        rgb = as_rgb(image, levels)
        if image.mode in ("RGB", "RGBA", "LA") and (values := deep_colours(path, image)) is not None:
            return as_8_bits(values, 16, levels)
        return np.array(rgb)


def as_rgb(image: Image.Image, levels: Levels | None = None) -> Image.Image:
    """A loaded image of any mode as 8-bit RGB.  16-bit values are scaled from `levels`, or else from their full range.

    Raises `InputError`, without the file's name, if the right result is unknown: floating-point, 32-bit and signed images
    (unknown range), 16-bit images that use little of their range (without `levels`), and transparent pixels (unknown
    background).
    """
    signed = image.mode == "L" and getattr(image, "tag_v2", {}).get(TiffImagePlugin.SAMPLEFORMAT) == (2,)
    if is_deep_grey(image):
        image = deep_as_8_bits(image, levels)
    elif image.mode in ("I", "F") or signed:
        what = {"F": "floating-point", "I": "32-bit"}.get(image.mode, "signed")
        raise InputError(f"expected 8 or 16 bits per channel, found a {what} picture of unknown range; save it as 8-bit PNG")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise InputError("expected an opaque picture, found transparent pixels; save it without transparency")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise InputError(f"expected a colour or greyscale picture, found mode {image.mode}; save it as 8-bit PNG") from error


def common_levels(paths: Iterable[str | Path]) -> Levels | None:
    """The lowest and highest 16-bit value in pictures that use little of their range; `None` if they use much of it.

    0 and 65535, which often mark what was not measured, do not count.  Reads all pictures.
    """
    low, high = WHOLE_RANGE[1], WHOLE_RANGE[0]
    for path in paths:
        with open_image(path) as image:
            values = np.asarray(image) if is_deep_grey(image) else deep_colours(path, image)
        if values is not None and (found := range_of(values)):
            low, high = min(low, found.low), max(high, found.high)
    return Levels(low, high) if low < high < low + NARROW else None


def read_grey(path: str | Path) -> np.ndarray:
    """The brightness of an image of any mode, (H, W) uint8 (`brightness`); raises `InputError` if unreadable."""
    with open_image(path) as image:
        return brightness(image)


def brightness(image: Image.Image) -> np.ndarray:
    """(H, W) uint8; transparent pixels are black, or the opacity counts if all opaque ones are alike, as drawn on nothing, or
    of so many values that they are a picture, as cut out of one.
    """
    image = image if image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") else as_rgb(image)
    if not image.has_transparency_data:
        return np.array(image.convert("L"))
    grey, alpha = (np.asarray(channel) for channel in image.convert("RGBA").convert("LA").split())
    opaque = grey[alpha > 127]
    if alpha.min() < 255 and opaque.size and len(np.unique(opaque)) not in range(2, PICTURE):
        return alpha.copy()
    return np.where(alpha > 127, grey, np.uint8(0))


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width, read from the file's header only."""
    return read_header(path).size


class Header(NamedTuple):
    """What the beginning of an image file tells."""

    size: tuple[int, int]  # (H, W), upright
    kind: str  # of file, and of picture
    is_deep: bool  # more than 8 bits of grey, or of each colour in a PNG or TIFF
    is_turned: bool  # by its EXIF orientation


def read_header(path: str | Path) -> Header:
    """Raises `InputError` naming the file if it is no picture."""
    with open_image(path, load=False) as image:
        tiles = getattr(image, "tile", None)  # each with its format as the last of four
        depth = str(tiles[0][3]) if tiles else ""
        file = {"MPO": "JPEG"}.get(str(image.format), str(image.format))
        picture = KINDS.get(image.mode, "grey" if image.mode[0] in "LIF" else "colour")
        return Header(upright_size(image), f"{picture} {file}", ";16" in depth or is_deep_grey(image), is_turned(image))


def refuse_lossy(image: Image.Image) -> None:
    """Raise `InputError`, without the file's name, if a mask's file format is lossy."""
    kind = "JPEG" if image.info.get("compression") == "jpeg" else image.format  # within a TIFF
    if kind not in LOSSLESS:
        raise InputError(f"expected a mask as PNG, found {kind}, which changes values; save the mask as PNG")


def _refuse_misread(image: Image.Image) -> None:
    """Raise `InputError`, without the file's name, for a TIFF of which Pillow and OpenCV make another picture."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        channels, bits = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1), tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0]
        if channels > 1 and image.mode == "L":
            raise InputError(f"expected one channel or a colour picture, found {channels} channels; save the one that counts")
        if channels > 1 and bits > 8 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2:
            raise InputError(f"expected {bits}-bit channels pixel by pixel, found one after the other; save it as PNG")


def is_whole(picture: Path) -> bool:
    """Whether a PNG or JPEG begins and ends as one; nothing between is looked at."""
    with one_line_for(picture), open_file(picture) as file:
        head = file.read(8)
        file.seek(-min(os.fstat(file.fileno()).st_size, TAIL), os.SEEK_END)
        tail = file.read()
    if picture.suffix.lower() == ".png":
        return head == PNG_START and tail.endswith(PNG_END)
    return head.startswith(JPEG_START) and JPEG_END in tail  # some cameras append more


def size_text(shape: tuple[int, ...]) -> str:
    """(H, W, ...) -> `HxW`, for messages."""
    return f"{shape[0]}x{shape[1]}"


def refuse_other_size(
    path: str | Path, found: tuple[int, ...], wanted: tuple[int, ...], *, what: str = "mask", other: str = "its frame"
) -> None:
    """Raise `InputError` if the shape (H, W, ...) of what a file holds is not as high and wide as that of the other."""
    if found[:2] != wanted[:2]:
        raise InputError(f"{path}: {what} is {size_text(found)}, {other} is {size_text(wanted)}")


def open_picture(file: BinaryIO) -> Image.Image:
    """Pillow's image of an open file, not loaded; raises what Pillow does, and `OSError` unless it is of `FORMATS`."""
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise OSError(f"it is not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from error


@contextlib.contextmanager
def open_image(path: str | Path, *, load: bool = True) -> Iterator[Image.Image]:
    """A Pillow image as a context, loaded and turned upright (EXIF) unless `load` is false.

    Raises `InputError` naming the file if it cannot be read or holds several pictures.  An `InputError` raised inside the
    context is prefixed with the file's name.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_file(path))
            if (size := os.fstat(file.fileno()).st_size) > LARGEST:  # which may be read, or copied, as a whole
                raise OSError(f"it has {size >> 30} GiB, more than {LARGEST >> 30}")
            image = stack.enter_context(open_picture(file))
            count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # cameras append a preview
            if load:
                image.load()  # truncation is detected only here
        except Exception as error:  # on damaged files Pillow raises almost any kind
            what = f"cannot read this image ({str(error) or type(error).__name__})"
            what = "no such file" if isinstance(error, FileNotFoundError) else what
            raise InputError(f"{path}: {what}") from error
        try:
            if count > 1:
                raise InputError(f"expected one picture in a file, found {count}; save each in its own file")
            _refuse_misread(image)
            yield upright(image) if load else image
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
