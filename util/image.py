"""Images and label maps: normalising, padding, resizing, one-hot masks, and label maps as PNG files.

A label map is an integer array (H, W): 0 is background (or, where a mask is given, no statement), 255 is ignored, anything
between is the id of an object.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from util.errors import InputError
from util.files import write_atomically

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MEAN_COLOUR = (124, 116, 104)  # the mean as uint8
STRIDE = 16  # of f16: frames are padded to multiples of it
IGNORED = 255
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})

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
    """Height and width when the shorter side becomes `size`, the longer rounded down; unchanged for `None`."""
    if size is None:
        return height, width
    shorter = min(height, width)
    return height * size // shorter, width * size // shorter


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) float -> (3, *size), bicubic without antialiasing and unclamped, as the released scores were made."""
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image[None], size, mode="bicubic", align_corners=False)[0]


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


def natural_order(name: str) -> list[tuple[bool, int | str]]:
    """A key that sorts numbers in names by their value: 2.jpg before 10.jpg."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in re.split(r"(\d+)", name)]


def size_text(shape: tuple[int, ...]) -> str:
    """(H, W, ...) -> `HxW`, for messages."""
    return f"{shape[0]}x{shape[1]}"


def list_images(folder: str | Path) -> list[Path]:
    """The images of a folder in the natural order of their names; hidden files and whatever else lies about is left out."""
    images = (
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    return sorted(images, key=lambda path: natural_order(path.name))


def read_image(path: str | Path) -> np.ndarray:
    """A picture as uint8 RGB (H, W, 3); raises `InputError` naming the file when it cannot be read."""
    with open_image(path) as image:
        return np.array(image.convert("RGB"))


def read_label_map(path: str | Path) -> LabelMap:
    """A paletted or greyscale PNG as a label map; raises `InputError` naming the file when it is neither."""
    with open_image(path) as image:
        if image.mode not in ("P", "L", "1"):
            raise InputError(f"{path}: expected a label map (a paletted or greyscale PNG), found mode {image.mode}")
        palette = None
        if image.mode == "P":
            palette = bytes(image.getpalette("RGB")).ljust(768, b"\0")
        return LabelMap(np.array(image, dtype=np.uint8), palette)


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width, from the file's header alone."""
    with open_image(path, load=False) as image:
        return image.height, image.width


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
    """A picture as Pillow has it, its pixels read unless `load` is false; raises `InputError` naming the file."""
    try:
        with Image.open(path) as image:
            if load:
                image.load()  # a truncated file shows itself only here
            yield image
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot read this image ({error})"
        raise InputError(f"{path}: {what}") from error
