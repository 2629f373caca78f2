"""Visualisation: label maps drawn over frames, and contact sheets."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from util.errors import InputError
from util.files import write_atomically
from util.guards import refuse_existing
from util.image import read_image, refuse_other_size
from util.label_map import IGNORED, colour_map

MARK = b"Software\0STCN"  # a text in our PNGs
OPACITY = 0.45  # of the tint
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
LONGEST_LINE = 24  # characters per line of a row's name


def overlay(image: np.ndarray, labels: np.ndarray, *, colours: np.ndarray | None = None) -> np.ndarray:
    """A copy of a frame (H, W, 3) uint8 RGB with the objects of its label map (H, W) tinted and outlined.

    Outlines lie outside all objects, so they hide none.  They are white, or the object's own colour next to parts of it
    that are only a few pixels thin.  `colours` are (256, 3) uint8 RGB, by default the palette's.
    """
    assert image.shape[:2] == labels.shape
    if colours is None:
        colours = np.frombuffer(colour_map(), dtype=np.uint8).reshape(256, 3)
    labels = np.where(labels == IGNORED, np.uint8(0), labels.astype(np.uint8))
    objects = np.asarray(labels != 0)
    width = max(1, round(min(labels.shape) / 300))
    near, far = disk(width), disk(width + 1)
    grown = cv2.dilate(labels, near)
    rim = objects & (grown != cv2.erode(labels, near))  # pixels near another label
    core = objects & (cv2.dilate(labels, far) == cv2.erode(labels, far))
    thick = cv2.dilate(core.astype(np.uint8), disk(2 * width + 3)) != 0  # the core and its surroundings
    outline = ~objects & (grown != 0)
    result = image.copy()
    result[objects] = ((1 - OPACITY) * image[objects] + OPACITY * colours[labels[objects]]).astype(np.uint8)
    result[rim] = colours[labels[rim]]
    result[outline] = np.where(thick[outline, None], WHITE, colours[grown[outline].astype(np.intp)])
    return result


def disk(radius: int) -> np.ndarray:
    """A disk (D, D) uint8, D = 2 radius + 1 pixels, for OpenCV's morphology."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def as_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """A picture (H, W, 3) uint8 RGB as a JPEG file."""
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return encoded.tobytes()


def cut_out(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) uint8 RGB without what is around its objects: (H, W, 4), transparent and black there."""
    alpha = np.where((labels != 0) & (labels != IGNORED), np.uint8(255), np.uint8(0))[..., None]
    return np.concatenate([np.where(alpha == 0, np.uint8(0), image), alpha], axis=2)


def draw_mask(frame: Path, mask: Path, read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """`overlay` for two files; `read` reads the mask as a label map.  Raises `InputError` naming the bad file."""
    image, labels = read_image(frame), read(mask)
    refuse_other_size(mask, labels.shape, image.shape, other=str(frame))
    return overlay(image, labels)


def sheet(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    names: Sequence[str] | None = None,
    height: int = 160,
    gap: int = 4,
) -> np.ndarray:
    """A contact sheet: rows of pictures (H, W, 3) uint8, each scaled to `height`, on a white ground.

    `captions` holds a text for each picture, drawn in its top left corner.  `names` holds a text for each row, drawn to its
    left; it may have several lines.
    """
    scaled = [[_scaled(picture, height) for picture in row] for row in rows]
    font = ImageFont.load_default(max(10, height // 10))
    names = ["\n".join(_shortened(line) for line in name.split("\n")) for name in names or [""] * len(rows)]
    left = max((round(font.getlength(line)) + 2 * gap for name in names for line in name.split("\n") if line), default=0)
    width = left + gap + max(sum(picture.shape[1] + gap for picture in row) for row in scaled)
    result = Image.new("RGB", (width, gap + len(rows) * (height + gap)), WHITE)
    draw = ImageDraw.Draw(result)
    for i, row in enumerate(scaled):
        x, y = left + gap, gap + i * (height + gap)
        draw.multiline_text((2 * gap, y), names[i], font=font, fill=BLACK)
        for j, picture in enumerate(row):
            result.paste(Image.fromarray(picture), (x, y))
            if captions:
                draw.text((x + gap, y + gap // 2), captions[i][j], font=font, fill=WHITE, stroke_width=2, stroke_fill=BLACK)
            x += picture.shape[1] + gap
    return np.array(result)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 1]}…"


def _scaled(picture: np.ndarray, height: int) -> np.ndarray:
    size = (max(1, round(picture.shape[1] * height / picture.shape[0])), height)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def refuse_picture(path: str | Path, *, overwrite: bool) -> None:
    """Raise `InputError` unless the name is a PNG's, and if a file that `write_picture` has not written has it already."""
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path}: expected a file name that ends in .png")
    refuse_existing(path, overwrite=overwrite, mark=MARK)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB, or (H, W, 4) with alpha, as a PNG with `MARK`, atomically."""
    texts = PngInfo()
    texts.add_text("Software", "STCN")  # which is `MARK`
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, format="PNG", pnginfo=texts, compress_level=1)
    write_atomically(path, lambda file: file.write(encoded.getbuffer()))
