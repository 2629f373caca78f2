"""Images and label maps: normalising, padding, resizing, one-hot masks, picture files, and what the numbers in masks mean.

A label map is an integer array (H, W): 0 is background (or, where a mask is given, no statement), anything between 0 and
255 is the id of an object.  What 255 means depends on the video; `Numbering` decides it.
"""

import contextlib
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, TiffImagePlugin
from torch import Tensor

from util.errors import InputError
from util.files import write_atomically

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MEAN_COLOUR = (124, 116, 104)  # the mean as uint8
STRIDE = 16  # of f16: frames are padded to multiples of it
IGNORED = 255
WHITE = IGNORED  # in masks that are white on black
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
LOSSLESS = frozenset({"PNG", "BMP", "TIFF", "GIF"})  # Pillow's names of the formats that a mask may have

Padding = tuple[int, int, int, int]  # left, right, top, bottom


class LabelMap(NamedTuple):
    """A label map as it lies in a file."""

    labels: np.ndarray  # (H, W) uint8
    palette: bytes | None  # 768 bytes RGB, None for a greyscale file


def colour_map() -> bytes:
    """The 256 colours of the DAVIS and PASCAL VOC palettes, as 768 bytes: id bits spread over R, G and B from the top."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


def normalise(image: Tensor) -> Tensor:
    """uint8 RGB (..., H, W, 3) -> float32 (..., 3, H, W) with ImageNet's mean and deviation taken out."""
    # by channel, since a tensor of three numbers would have to be copied to the GPU, which waits
    channels = (image.float() / 255).unbind(-1)
    constants = zip(channels, IMAGENET_MEAN, IMAGENET_STD, strict=True)
    return torch.stack([(channel - mean) / std for channel, mean, std in constants], dim=-3)


def padding_to_stride(height: int, width: int) -> Padding:
    """What makes height and width multiples of 16, the smaller half on the left and the top."""
    x, y = -width % STRIDE, -height % STRIDE
    return x // 2, x - x // 2, y // 2, y - y // 2


def unpad(x: Tensor, padding: Padding) -> Tensor:
    """Undo `F.pad(x, padding)` on the last two axes."""
    left, right, top, bottom = padding
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def shorter_side_size(height: int, width: int, size: int | None) -> tuple[int, int]:
    """Height and width when the shorter side becomes `size`, the longer rounded down; unchanged for `None`.

    Frames more than four times as long as wide are enlarged only until the longer side is 4 `size`.
    """
    if size is None:
        return height, width
    shorter, longer = sorted((height, width))
    if size > shorter and longer > 4 * shorter:
        size = max(shorter, 4 * size * shorter // longer)
    return height * size // shorter, width * size // shorter


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) float -> (3, *size), bicubic and unclamped.

    Without antialiasing, as the released scores were made, unless the picture shrinks to less than a third.
    """
    if image.shape[-2:] == size:
        return image
    antialias = 3 * size[0] < image.shape[-2] or 3 * size[1] < image.shape[-1]
    return F.interpolate(image[None], size, mode="bicubic", align_corners=False, antialias=antialias)[0]


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) uint8 -> `size`, nearest."""
    if labels.shape == size:
        return labels
    return F.interpolate(labels[None, None], size, mode="nearest")[0, 0]


def resize_probabilities(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """(N+1, H, W) -> (N+1, *size), bilinear."""
    if probabilities.shape[-2:] == size:
        return probabilities
    return F.interpolate(probabilities[None], size, mode="bilinear", align_corners=False)[0]


def one_hot(labels: Tensor, ids: list[int]) -> Tensor:
    """Label map (H, W) -> float32 (len(ids), H, W) of 0 and 1."""
    return (labels == torch.tensor(ids, device=labels.device)[:, None, None]).float()


def object_ids(labels: np.ndarray) -> list[int]:
    """The ids of the objects in a label map, ascending; 0 and 255 are none."""
    present = np.bincount(labels.ravel(), minlength=256)
    return [int(i) for i in np.flatnonzero(present) if i not in (0, IGNORED)]


class Numbering:
    """What the numbers in the label maps of one video mean: one rule, and the only place that knows it.

    The first label map that is not 0 everywhere decides for the whole video:

    - It holds 255 alone beside 0 (white on black): 255 is object 1 in all of them.
    - It holds ids: 255 is to be ignored in all of them, also where nothing else is left in a later one.

    `white` says which; it is `None` until a label map has decided.  With `strict`, every label map must state something: one
    that holds 255 alone, after others that hold ids, raises `InputError` instead of being ignored.
    """

    def __init__(self, white: bool | None = None, *, strict: bool = False) -> None:
        self.white = white
        self.strict = strict

    @classmethod
    def of(cls, paths: Iterable[str | Path]) -> "Numbering":
        """As the files of a video, in the order of its frames, decide it; reads them up to the first that is not empty."""
        result = cls()
        for path in paths:
            result.read(read_label_map(path).labels, path)
            if result.white is not None:
                break
        return result

    def read(self, labels: np.ndarray, source: str | Path) -> np.ndarray:
        """A label map (H, W) uint8 of ids alone: 255 becomes 1, or 0 where it is to be ignored.

        Raises `InputError` naming `source` when 255 is object 1 in this video and stands beside other ids here.
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
                f"{source}: expected white on black, as the first mask of this video is, found 255 beside other numbers; "
                "number the objects in all masks"
            )
        if self.strict and not self.white and not ids:
            raise InputError(
                f"{source}: expected numbered objects, as in the masks before it, found 0 and 255 alone, where 255 means "
                "'ignore'; give the object its number"
            )
        return np.where(labels == WHITE, np.uint8(1 if self.white else 0), labels)


def natural_order(name: str) -> tuple[list[tuple[bool, int | str]], str]:
    """A key that sorts numbers in names by their value: 2.jpg before 10.jpg."""
    parts = [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in re.split(r"(\d+)", name)]
    return parts, name  # the name itself puts 1.jpg and 01.jpg in one order everywhere


def size_text(shape: tuple[int, ...]) -> str:
    """(H, W, ...) -> `HxW`, for messages."""
    return f"{shape[0]}x{shape[1]}"


def list_images(folder: str | Path) -> list[Path]:
    """The images of a folder in the natural order of their stems; hidden files and whatever else lies about is left out."""
    images = (
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and (path.is_file() or path.is_symlink())
    )
    return sorted(images, key=lambda path: (natural_order(path.stem), path.suffix))


def list_frames(folder: str | Path) -> list[Path]:
    """`list_images` of a folder whose files are told apart by their stems.

    Raises `InputError` when two have the same one, or a folder is called like a frame, which would be left out unnoticed.
    """
    for path in Path(folder).iterdir():
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_dir():
            raise InputError(f"{path}: expected a picture, found a folder")
    return refuse_twins(list_images(folder))


def refuse_twins(images: list[Path]) -> list[Path]:
    """The same images; raises `InputError` when two that follow each other differ in their suffixes only."""
    for one, other in itertools.pairwise(images):
        if one.stem == other.stem:
            raise InputError(f"{one.parent}: expected one picture of each name, found {one.name} and {other.name}")
    return images


def read_image(path: str | Path) -> np.ndarray:
    """A picture as uint8 RGB (H, W, 3); raises `InputError` naming the file when it cannot be read (see `as_rgb`)."""
    with open_image(path) as image:
        return np.array(as_rgb(image))


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode, its pixels read, in 8-bit RGB.  16 bits are scaled from their whole range.

    Raises `InputError`, without the file's name, when there is no right answer: floating-point and 32-bit pictures, whose
    range is not known, 16 bits of which only 8 are used, and transparent pixels, since nothing says what is behind them.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        image = _as_8_bits(image)
    elif image.mode in ("I", "F"):
        what = "floating-point" if image.mode == "F" else "32-bit"
        raise InputError(f"expected 8 or 16 bits a channel, found a {what} picture of unknown range; save it as 8-bit PNG")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise InputError("expected an opaque picture, found transparent pixels; save it without transparency")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise InputError(f"expected a colour or greyscale picture, found mode {image.mode}; save it as 8-bit PNG") from error


def _as_8_bits(image: Image.Image) -> Image.Image:
    """A greyscale picture of 16 bits, or of 12 in a TIFF, in 8."""
    bits, inverted = 16, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (bits,))[0]
        inverted = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # which Pillow leaves to us
    values = np.asarray(image)
    if 0 < values.max() < 256:
        raise InputError(f"expected a 16-bit picture, found no value above {values.max()}; save it with 8 bits")
    values = (values >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(255 - values if inverted else values)


def read_label_map(path: str | Path) -> LabelMap:
    """A paletted or greyscale PNG as a label map, as it is in the file (1-bit masks: 0 and 255).

    Raises `InputError` naming the file when it is none or its format is lossy.
    """
    with open_image(path) as image:
        _refuse_as_label_map(image)
        palette = None
        if image.mode == "P":
            palette = bytes(image.getpalette("RGB") or []).ljust(768, b"\0")
        return LabelMap(np.array(image if image.mode == "P" else image.convert("L")), palette)


def read_grey(path: str | Path) -> np.ndarray:
    """The brightness of a picture of any mode, (H, W) uint8; transparency counts for nothing.  Raises `InputError`."""
    with open_image(path) as image:
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
            image = _as_8_bits(image)
        return np.array(image.convert("L"))


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width, from the file's header alone."""
    with open_image(path, load=False) as image:
        return image.height, image.width


def label_map_size(path: str | Path) -> tuple[int, int]:
    """Height and width, from the file's header alone; raises `InputError` as `read_label_map` does."""
    with open_image(path, load=False) as image:
        _refuse_as_label_map(image)
        return image.height, image.width


def refuse_lossy(image: Image.Image) -> None:
    """Raises `InputError`, without the file's name, when a mask's format does not keep its values."""
    kind = "JPEG" if image.info.get("compression") == "jpeg" else image.format  # within a TIFF
    if kind not in LOSSLESS:
        raise InputError(f"expected a mask as PNG, found {kind}, which changes values; save the mask as PNG")


def _refuse_as_label_map(image: Image.Image) -> None:
    refuse_lossy(image)
    if image.mode not in ("P", "L", "1"):
        raise InputError(f"expected a label map (a paletted or greyscale PNG), found mode {image.mode}")


def write_label_map(path: str | Path, labels: np.ndarray, palette: bytes | None) -> None:
    """Write (H, W) uint8 as a PNG, atomically: paletted, or greyscale when `palette` is `None`."""
    image = Image.fromarray(labels)
    if palette is not None:
        image.putpalette(palette)
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    write_atomically(path, lambda file: file.write(encoded.getbuffer()))


@contextlib.contextmanager
def open_image(path: str | Path, *, load: bool = True) -> Iterator[Image.Image]:
    """A picture as Pillow has it, its pixels read unless `load` is false.

    Raises `InputError` naming the file when it cannot be read or holds several pictures; one that is raised within the
    context gets the file's name put before it.
    """
    with contextlib.ExitStack() as stack:
        try:
            image = stack.enter_context(Image.open(path))
            count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # cameras put a preview behind the picture
            if load:
                image.load()  # a truncated file shows itself only here
        except Exception as error:  # of which Pillow's readers of damaged files raise almost all there are
            what = f"cannot read this image ({str(error) or type(error).__name__})"
            what = "no such file" if isinstance(error, FileNotFoundError) else what
            raise InputError(f"{path}: {what}") from error
        try:
            if count > 1:
                raise InputError(f"expected one picture in a file, found {count}; save each as a file of its own")
            yield image
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
