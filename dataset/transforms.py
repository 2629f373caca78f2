"""Joint augmentation of image and mask (section F.3): random parameters, and their application.

The paper applies its warps (affine, resize, crop, spline) one after another.  Here they are composed into one map from
training-frame pixels back to image pixels, so each frame is interpolated only once.  A pixel is filled with the mean colour
wherever the chain would have filled it, that is, where any step samples outside its input.

Coordinates are continuous: (x, y), with pixel centres at +0.5.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from tps import ThinPlateSpline

from dataset.clip import FRAMES

MEAN_COLOUR = (124, 116, 104)  # of ImageNet, uint8
RATIO = (0.75, 1.25)  # range of a region's width / height
SPLINE_POINTS = 12
SPLINE_SCALE = 0.02  # standard deviation of the points' displacement, as a fraction of the crop
SPLINE_SHARE = 1 / 3
SPLINE_CELL = 8  # pixels between the points at which the spline is evaluated
GREYSCALE_SHARE = 0.05
GREY_WEIGHTS = (0.299, 0.587, 0.114)


class Warp(NamedTuple):
    """One geometric step, as a map from its output back to its input."""

    matrix: np.ndarray  # (2, 3): output (x, y, 1) -> input (x, y)
    canvas: tuple[int, int]  # height and width of the input; pixels outside are filled


class Jitter(NamedTuple):
    """A colour jitter like torchvision's: three factors around 1, a hue shift around 0 (in turns), and their order."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    order: tuple[int, ...]


class Spline(NamedTuple):
    """A thin-plate spline: control points and their displacements, as fractions of the crop's side."""

    points: np.ndarray  # (12, 2)
    displacements: np.ndarray  # (12, 2)


class View(NamedTuple):
    """All random parameters of one training frame."""

    warps: tuple[Warp, ...]  # in the order of application
    spline: Spline | None  # applied after the warps, to the crop
    shared_jitter: Jitter  # the same for all frames of a clip
    greyscale: bool  # the same for all frames of a clip
    jitter: Jitter


def draw_static_views(rng: np.random.Generator, size: tuple[int, int], *, crop: int) -> list[View]:
    """Draw the views of a photograph of `size` (height, width) for a clip of stage 0 (section F.3.1)."""
    height, width = size
    base = [affine(size, scale=rng.uniform(0.8, 1.5))]
    if rng.random() < 0.5:
        base.append(flip(size))
    shared_jitter = draw_jitter(rng, brightness=0.1, contrast=0.05, saturation=0.05, hue=0.05)
    greyscale = rng.random() < GREYSCALE_SHARE
    shorter = min(size)
    resized = height * crop // shorter, width * crop // shorter
    views = []
    for _ in range(FRAMES):
        turned = affine(size, angle=rng.uniform(-20, 20), scale=rng.uniform(0.9, 1.1), shear=rng.uniform(-10, 10))
        jitter = draw_jitter(rng, brightness=0.1, contrast=0.05, saturation=0.05)
        top, left = (int(rng.integers(side - crop + 1)) for side in resized)
        corner = (top * height / resized[0], left * width / resized[1])
        region = (crop * height / resized[0], crop * width / resized[1])
        warps = (*base, turned, cut_out(size, corner, region, crop))
        spline = draw_spline(rng) if rng.random() < SPLINE_SHARE else None
        views.append(View(warps, spline, shared_jitter, greyscale, jitter))
    return views


def draw_video_views(rng: np.random.Generator, size: tuple[int, int], *, crop: int, scale: tuple[float, float]) -> list[View]:
    """Draw the views of video frames of `size` (height, width) for a clip (section F.3.2); `scale` bounds the crop's area."""
    base = [flip(size)] if rng.random() < 0.5 else []
    base.append(cut_out(size, *draw_region(rng, size, scale), crop))
    shared_jitter = draw_jitter(rng, brightness=0.1, contrast=0.03, saturation=0.03)
    greyscale = rng.random() < GREYSCALE_SHARE
    views = []
    for _ in range(FRAMES):
        jitter = draw_jitter(rng, brightness=0.01, contrast=0.01, saturation=0.01)
        turned = affine((crop, crop), angle=rng.uniform(-15, 15), shear=rng.uniform(-10, 10))
        views.append(View((*base, turned), None, shared_jitter, greyscale, jitter))
    return views


def affine(size: tuple[int, int], *, angle: float = 0, scale: float = 1, shear: float = 0) -> Warp:
    """Rotation and shear along x (both in degrees) and scaling about the centre; the canvas keeps its size."""
    turn, slant = math.radians(angle), math.tan(math.radians(shear))
    forward = scale * np.array(
        [
            [math.cos(turn), -math.cos(turn) * slant - math.sin(turn)],
            [math.sin(turn), -math.sin(turn) * slant + math.cos(turn)],
        ]
    )
    back = np.linalg.inv(forward)
    middle = np.array([size[1] / 2, size[0] / 2])
    return Warp(np.column_stack([back, middle - back @ middle]), size)


def flip(size: tuple[int, int]) -> Warp:
    """A horizontal flip."""
    return Warp(np.array([[-1.0, 0, size[1]], [0, 1, 0]]), size)


def cut_out(size: tuple[int, int], corner: tuple[float, float], region: tuple[float, float], crop: int) -> Warp:
    """Scale a region (height, width) with its corner at (top, left) to fill the crop."""
    (top, left), (height, width) = corner, region
    return Warp(np.array([[width / crop, 0, left], [0, height / crop, top]]), size)


def draw_region(
    rng: np.random.Generator, size: tuple[int, int], scale: tuple[float, float]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Corner (top, left) and size of torchvision's random resized crop, with this range of area."""
    height, width = size
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return (int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))), (h, w)
    aspect = min(max(width / height, RATIO[0]), RATIO[1])  # fallback: the largest centred region
    h, w = min(height, round(width / aspect)), min(width, round(height * aspect))
    return ((height - h) // 2, (width - w) // 2), (h, w)


def draw_jitter(rng: np.random.Generator, *, brightness: float, contrast: float, saturation: float, hue: float = 0) -> Jitter:
    """Draw factors from 1 - x to 1 + x, a hue shift from -x to x, and a random order."""
    bright, contrasting, saturated = (rng.uniform(1 - x, 1 + x) for x in (brightness, contrast, saturation))
    return Jitter(bright, contrasting, saturated, rng.uniform(-hue, hue), tuple(rng.permutation(4).tolist()))


def draw_spline(rng: np.random.Generator) -> Spline:
    """Draw control points uniformly in the crop and displace them at random."""
    return Spline(rng.random((SPLINE_POINTS, 2)), rng.normal(0, SPLINE_SCALE, (SPLINE_POINTS, 2)))


def apply_view(
    view: View, image: np.ndarray, labels: np.ndarray, crop: int, *, soft: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 and label map (H, W) uint8, with `soft` a grey mask, interpolated like the image -> training frame
    (crop, crop, 3) and its label map (crop, crop).
    """
    assert image.shape[:2] == labels.shape == view.warps[0].canvas
    image, labels, outside = warp(view, image, labels, crop, soft=soft)
    image = apply_jitter(image, view.shared_jitter)
    if view.greyscale:
        image = cv2.transform(image, np.array([GREY_WEIGHTS] * 3))
    image = apply_jitter(image, view.jitter)
    image[outside] = MEAN_COLOUR
    return image, labels


def warp(
    view: View, image: np.ndarray, labels: np.ndarray, crop: int, *, soft: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The geometry of a view only: frame, label map (0 where filled), and the mask (crop, crop) of filled pixels."""
    centres = np.arange(crop, dtype=np.float32) + np.float32(0.5)
    x, y = np.meshgrid(centres, centres)
    outside = np.zeros((crop, crop), dtype=bool)
    if view.spline is not None:
        dx, dy = _displacement(view.spline, crop)
        x, y = x + dx, y + dy
        outside |= _outside(x, y, (crop, crop))
    total = np.eye(3)  # from the crop back to each warp's input
    for warp in reversed(view.warps):
        total = np.vstack([warp.matrix, [0, 0, 1]]) @ total
        given_x, given_y = (a * x + b * y + c for a, b, c in total[:2].astype(np.float32))
        outside |= _outside(given_x, given_y, warp.canvas)
    shrink = np.maximum(1, np.linalg.norm(total[:2, :2], axis=1))
    frame = _sample(image, given_x, given_y, shrink=shrink)
    if soft:
        warped = _sample(labels, given_x, given_y, shrink=shrink)
    else:
        at = np.asarray(given_x - 0.5), np.asarray(given_y - 0.5)
        warped = cv2.remap(labels, *at, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    warped[outside] = 0
    frame[outside] = MEAN_COLOUR
    return frame, warped, outside


def apply_jitter(image: np.ndarray, jitter: Jitter) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> the same, clipped and rounded after each of the four changes, as in torchvision."""
    for change in jitter.order:
        if change == 0 and jitter.brightness != 1:
            image = cv2.convertScaleAbs(image, alpha=jitter.brightness)
        elif change == 1 and jitter.contrast != 1:
            grey = float(np.dot(GREY_WEIGHTS, cv2.mean(image)[:3]))
            image = cv2.addWeighted(image, jitter.contrast, image, 0, (1 - jitter.contrast) * grey)
        elif change == 2 and jitter.saturation != 1:
            rest = (1 - jitter.saturation) * np.array([GREY_WEIGHTS] * 3)
            image = cv2.transform(image, jitter.saturation * np.eye(3) + rest)
        elif change == 3 and jitter.hue != 0:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
            hsv[..., 0] += np.uint8(round(jitter.hue * 255) % 256)  # a full turn is 256, so uint8 wraps correctly
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    return image


def _outside(x: np.ndarray, y: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    return (x < 0) | (x >= canvas[1]) | (y < 0) | (y >= canvas[0])


def _sample(image: np.ndarray, x: np.ndarray, y: np.ndarray, *, shrink: np.ndarray) -> np.ndarray:
    """The image at (x, y), bicubic; where the map shrinks it, by `shrink` along x and y, that many pixels are averaged."""
    margin = [2 + 2 * math.ceil(by) for by in shrink]  # the reach of bicubic interpolation after averaging
    left, top = (max(0, int(c.min()) - m) for c, m in zip((x, y), margin, strict=True))
    right, bottom = (int(c.max()) + m + 1 for c, m in zip((x, y), margin, strict=True))
    image = image[top:bottom, left:right]  # average only what is needed
    if image.size == 0:
        return np.zeros((*x.shape, *image.shape[2:]), dtype=np.uint8)
    height, width = image.shape[:2]
    if shrink.max() > 1:
        smaller = max(1, round(width / shrink[0])), max(1, round(height / shrink[1]))
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    x = (x - left) * np.float32(image.shape[1] / width)
    y = (y - top) * np.float32(image.shape[0] / height)
    return cv2.remap(image, x - 0.5, y - 0.5, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _displacement(spline: Spline, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """How far the spline moves each pixel's sampling point along x and y, in pixels, (crop, crop) each."""
    # evaluated at the centre of each cell, with a border of cells around the crop, so the whole crop is interpolated
    middles = (np.arange(-SPLINE_CELL, crop + SPLINE_CELL, SPLINE_CELL) + SPLINE_CELL / 2) / crop
    places = np.stack(np.meshgrid(middles, middles), axis=-1)
    model = ThinPlateSpline()
    model.fit(spline.points + spline.displacements, -spline.displacements)
    coarse = (crop * model.transform(places.reshape(-1, 2))).reshape(places.shape).astype(np.float32)
    side = SPLINE_CELL * len(middles)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    inner = slice(SPLINE_CELL, SPLINE_CELL + crop)
    return fine[inner, inner, 0], fine[inner, inner, 1]
