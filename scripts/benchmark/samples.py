"""Training samples per second, beside the usual chain of warps, written down plainly."""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
import torchvision.transforms.functional as tf
from PIL import Image
from tps import ThinPlateSpline

from dataset.sampling import Draws
from dataset.sources import stage_sources
from dataset.stages import STAGES, max_skip, same_skip
from dataset.transforms import MEAN_COLOUR, Jitter, Spline, View, apply_view
from scripts.benchmark.made_up import Stopwatch
from util.errors import InputError


def measure_data(roots: dict[str, str | None], *, crop: int, repeats: int) -> str:
    """Samples per second of one core for each stage whose data is there, beside the step-by-step chain."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    lines = [f"{'stage':<7}{'samples/s':>10}{'step by step':>14}{'ratio':>7}   median of {repeats} samples, one core"]
    for number, stage in enumerate(STAGES):
        try:
            sources = stage_sources(number, roots, crop=crop)
        except InputError as error:
            lines.append(f"{number:<7}left out: {error}")
            continue
        draws = Draws(sources, seed=0, max_skip=partial(same_skip, max_skip(stage, 0.4)))
        ways = {"composed": partial(_draw, draws, apply_view), "chain": partial(_draw, draws, step_by_step)}
        ours, chain = Stopwatch(torch.device("cpu")).compare(ways, repeats, f"samples of stage {number}")
        lines.append(f"{number:<7}{1 / ours:>10.1f}{1 / chain:>14.1f}{chain / ours:>7.1f}")
    return "\n".join(lines)


def _draw(draws: Draws, apply: Callable[..., Any], number: int) -> None:
    with mock.patch("dataset.static.apply_view", apply), mock.patch("dataset.vos.apply_view", apply):
        draws[number]


def step_by_step(
    view: View, image: np.ndarray, labels: np.ndarray, crop: int, *, soft: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """`apply_view` as a chain of Pillow and torchvision calls, each of which interpolates: the usual way to write it."""
    picture, mask = Image.fromarray(image), Image.fromarray(labels)
    of_mask = Image.Resampling.BICUBIC if soft else Image.Resampling.NEAREST
    canvases = [(step.canvas[1], step.canvas[0]) for step in view.warps[1:]] + [(crop, crop)]
    for step, size in zip(view.warps, canvases, strict=True):
        (a, b, c), (d, e, f) = step.matrix
        box = np.array([c, f, a * size[0] + c, e * size[1] + f])
        within = np.clip(box, 0, [picture.width, picture.height] * 2)
        if b == d == 0 and a > 0 and np.abs(box - within).max() < 1e-6:  # a region becomes the whole
            box = tuple(within)
            picture = picture.resize(size, Image.Resampling.BICUBIC, box=box)
            mask = mask.resize(size, of_mask, box=box)
        else:
            where = (size, Image.Transform.AFFINE, (a, b, c, d, e, f))
            picture = picture.transform(*where, Image.Resampling.BICUBIC, fillcolor=MEAN_COLOUR)
            mask = mask.transform(*where, of_mask, fillcolor=0)
    if view.spline is not None:
        picture, mask = _spline(view.spline, np.asarray(picture), np.asarray(mask), soft=soft)
    picture = _jitter(picture, view.shared_jitter)
    if view.greyscale:
        picture = picture.convert("L").convert("RGB")
    picture = _jitter(picture, view.jitter)
    return np.asarray(picture), np.asarray(mask)


def _spline(spline: Spline, image: np.ndarray, labels: np.ndarray, *, soft: bool) -> tuple[Image.Image, Image.Image]:
    side = len(labels)
    centres = (np.arange(side) + 0.5) / side
    places = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    model = ThinPlateSpline()
    model.fit(spline.points + spline.displacements, spline.points)
    x, y = (side * model.transform(places)).astype(np.float32).T.reshape(2, side, side)
    filled = (cv2.BORDER_CONSTANT, MEAN_COLOUR)
    image = cv2.remap(image, x - 0.5, y - 0.5, cv2.INTER_CUBIC, None, *filled)
    of_mask = cv2.INTER_CUBIC if soft else cv2.INTER_NEAREST
    labels = cv2.remap(labels, x - 0.5, y - 0.5, of_mask, None, cv2.BORDER_CONSTANT, 0)
    return Image.fromarray(image), Image.fromarray(labels)


def _jitter(picture: Image.Image, jitter: Jitter) -> Image.Image:
    changes: Any = (  # of Pillow's images, which torchvision types as tensors
        lambda p: tf.adjust_brightness(p, jitter.brightness),
        lambda p: tf.adjust_contrast(p, jitter.contrast),
        lambda p: tf.adjust_saturation(p, jitter.saturation),
        lambda p: tf.adjust_hue(p, jitter.hue) if jitter.hue else p,
    )
    for number in jitter.order:
        picture = changes[number](picture)
    return picture
