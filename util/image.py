"""Image files and label maps, and the meaning of mask values.  As tensors: `util.tensors`.

A label map is an integer array (H, W).  0 is background (in a given mask: unspecified), 1 to 254 are object ids.  The
meaning of 255 depends on the video; `Numbering` decides it.
"""

import contextlib
import io
import itertools
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from util.errors import InputError
from util.files import is_clutter, open_file, write_atomically

MEAN_COLOUR = (124, 116, 104)  # of ImageNet, uint8
IGNORED = 255
WHITE = IGNORED  # in masks that are white on black
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
LOSSLESS = frozenset({"PNG", "BMP", "TIFF", "GIF"})  # Pillow's names of the formats allowed for masks


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
    present = np.bincount(labels.ravel(), minlength=256)
    return [int(i) for i in np.flatnonzero(present) if i not in (0, IGNORED)]


class Numbering:
    """The meaning of the values in one video's label maps, in particular of 255.

    The first label map that is not 0 everywhere decides for the whole video:

    - It holds only 0 and 255 (white on black): 255 is object 1 in all label maps.
    - It holds ids: 255 means "ignore" in all label maps, even in a later one that holds nothing else.

    `white` is true in the first case, false in the second, and `None` until a label map has decided.  With `strict`, a
    label map that holds only 0 and 255 after one with ids raises `InputError` instead of being ignored.
    """

    def __init__(self, white: bool | None = None, *, strict: bool = False) -> None:
        self.white = white
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


def natural_order(name: str) -> tuple[list[tuple[bool, int | str]], str]:
    """A sort key that compares numbers in names by value: 2.jpg before 10.jpg."""
    parts = [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in re.split(r"(\d+)", name)]
    return parts, name  # the name itself orders 1.jpg and 01.jpg


def size_text(shape: tuple[int, ...]) -> str:
    """(H, W, ...) -> `HxW`, for messages."""
    return f"{shape[0]}x{shape[1]}"


def list_images(folder: str | Path) -> list[Path]:
    """The image files in a folder, in natural order of their stems; hidden and other files are left out."""
    images = (
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_clutter(path.name) and (path.is_file() or path.is_symlink())
    )
    return sorted(images, key=lambda path: (natural_order(path.stem), path.suffix))


def list_frames(folder: str | Path, *, leave_out: Collection[Path] = ()) -> list[Path]:
    """`list_images`, for a folder whose files are identified by their stems, without those in `leave_out`.

    Raises `InputError` if two files have the same stem, or if anything else has an image suffix (else it would be skipped).
    """
    for path in Path(folder).iterdir():
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_clutter(path.name) and path.exists() and not path.is_file():
            raise InputError(f"{path}: expected a picture, found a {'folder' if path.is_dir() else 'pipe or device'}")
    others = {path.resolve() for path in leave_out}
    return refuse_twins([path for path in list_images(folder) if not others or path.resolve() not in others])


def refuse_twins(images: list[Path]) -> list[Path]:
    """The same images; raises `InputError` if two neighbours differ only in their suffix."""
    for one, other in itertools.pairwise(images):
        if one.stem == other.stem:
            raise InputError(f"{one.parent}: expected one picture of each name, found {one.name} and {other.name}")
    return images


def read_image(path: str | Path) -> np.ndarray:
    """An image file as uint8 RGB (H, W, 3); raises `InputError` naming the file if it cannot be read (see `as_rgb`)."""
    with open_image(path) as image:
        return np.array(as_rgb(image))


def as_rgb(image: Image.Image) -> Image.Image:
    """A loaded image of any mode as 8-bit RGB.  16-bit values are scaled from their full range.

    Raises `InputError`, without the file's name, if the right result is unknown: floating-point and 32-bit images (unknown
    range), 16-bit images that use only 8 bits, and transparent pixels (unknown background).
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        image = _as_8_bits(image)
    elif image.mode in ("I", "F"):
        what = "floating-point" if image.mode == "F" else "32-bit"
        raise InputError(f"expected 8 or 16 bits per channel, found a {what} picture of unknown range; save it as 8-bit PNG")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise InputError("expected an opaque picture, found transparent pixels; save it without transparency")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise InputError(f"expected a colour or greyscale picture, found mode {image.mode}; save it as 8-bit PNG") from error


def _as_8_bits(image: Image.Image) -> Image.Image:
    """A 16-bit greyscale image, or a 12-bit one from a TIFF, as 8-bit."""
    bits, inverted = 16, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (bits,))[0]
        inverted = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # Pillow does not invert these
    values = np.asarray(image)
    if 0 < values.max() < 256:
        raise InputError(f"expected a 16-bit picture, found no value above {values.max()}; save it with 8 bits")
    values = (values >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(255 - values if inverted else values)


def read_label_map(path: str | Path) -> LabelMap:
    """A paletted or greyscale PNG that we wrote, with the file's own values (1-bit masks: 0 and 255); masks of others
    are for `dataset.label_map`.

    Raises `InputError` naming the file if it is not a label map or its format is lossy.
    """
    with open_image(path) as image:
        refuse_lossy(image)
        if image.mode not in ("P", "L", "1"):
            raise InputError(f"expected a label map (a paletted or greyscale PNG), found mode {image.mode}")
        palette = None
        if image.mode == "P":
            palette = bytes(image.getpalette("RGB") or []).ljust(768, b"\0")
        return LabelMap(np.array(image if image.mode == "P" else image.convert("L")), palette)


def read_grey(path: str | Path) -> np.ndarray:
    """The brightness of an image of any mode, (H, W) uint8, ignoring transparency; raises `InputError` if unreadable."""
    with open_image(path) as image:
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
            image = _as_8_bits(image)
        return np.array(image.convert("L"))


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width, read from the file's header only."""
    with open_image(path, load=False) as image:
        return image.height, image.width


def refuse_lossy(image: Image.Image) -> None:
    """Raise `InputError`, without the file's name, if a mask's file format is lossy."""
    kind = "JPEG" if image.info.get("compression") == "jpeg" else image.format  # within a TIFF
    if kind not in LOSSLESS:
        raise InputError(f"expected a mask as PNG, found {kind}, which changes values; save the mask as PNG")


def write_label_map(path: str | Path, labels: np.ndarray, palette: bytes | None) -> None:
    """Write (H, W) uint8 as a PNG, atomically: paletted, or greyscale if `palette` is `None`."""
    image = Image.fromarray(labels)
    if palette is not None:
        image.putpalette(palette)
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    write_atomically(path, lambda file: file.write(encoded.getbuffer()))


@contextlib.contextmanager
def open_image(path: str | Path, *, load: bool = True) -> Iterator[Image.Image]:
    """A Pillow image as a context, its pixels loaded unless `load` is false.

    Raises `InputError` naming the file if it cannot be read or holds several pictures.  An `InputError` raised inside the
    context is prefixed with the file's name.
    """
    with contextlib.ExitStack() as stack:
        try:
            image = stack.enter_context(Image.open(stack.enter_context(open_file(path))))
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
            yield image
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
