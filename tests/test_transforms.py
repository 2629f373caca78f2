"""Augmentation: the composed warp against the step-by-step chain, and torchvision's own operations."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tf
from PIL import Image
from tps import ThinPlateSpline

from dataset.transforms import (
    MEAN_COLOUR,
    Jitter,
    Spline,
    View,
    Warp,
    affine,
    apply_jitter,
    apply_view,
    cut_out,
    draw_region,
    draw_spline,
    draw_static_views,
    draw_video_views,
    flip,
    warp,
)

SIZE = (150, 200)
CROP = 96
WHOLE = cut_out((CROP, CROP), (0, 0), (CROP, CROP), CROP)
NO_JITTER = Jitter(1.0, 1.0, 1.0, 0.0, (0, 1, 2, 3))


def plain_view(*warps: Warp) -> View:
    return View(warps, None, NO_JITTER, False, NO_JITTER)


def smooth_picture(size=SIZE, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """A picture without fine detail, so that interpolations agree, and a label map of blobs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    labels = np.zeros(size, dtype=np.uint8)
    for number in (1, 2, 3):
        centre = (int(rng.integers(30, size[1] - 30)), int(rng.integers(30, size[0] - 30)))
        cv2.circle(labels, centre, 22, number, -1)
    return image, labels


def geometry(view: View) -> View:
    return view._replace(shared_jitter=NO_JITTER, jitter=NO_JITTER, greyscale=False)


def views_of(kind: str, seed: int, size=SIZE) -> list[View]:
    rng = np.random.default_rng(seed)
    if kind == "static":
        return draw_static_views(rng, size, crop=CROP)
    return draw_video_views(rng, size, crop=CROP, scale=(0.25, 1.0))


def step_by_step(view: View, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`apply_view` as a chain of Pillow and torchvision calls, each of which interpolates: the usual way to write it."""
    picture, mask = Image.fromarray(image), Image.fromarray(labels)
    canvases = [(step.canvas[1], step.canvas[0]) for step in view.warps[1:]] + [(CROP, CROP)]
    for step, size in zip(view.warps, canvases, strict=True):
        (a, b, c), (d, e, f) = step.matrix
        box = np.array([c, f, a * size[0] + c, e * size[1] + f])
        within = np.clip(box, 0, [picture.width, picture.height] * 2)
        if b == d == 0 and a > 0 and np.abs(box - within).max() < 1e-6:  # a region becomes the whole
            box = tuple(within)
            picture = picture.resize(size, Image.Resampling.BICUBIC, box=box)
            mask = mask.resize(size, Image.Resampling.NEAREST, box=box)
        else:
            where = (size, Image.Transform.AFFINE, (a, b, c, d, e, f))
            picture = picture.transform(*where, Image.Resampling.BICUBIC, fillcolor=MEAN_COLOUR)
            mask = mask.transform(*where, Image.Resampling.NEAREST, fillcolor=0)
    if view.spline is not None:
        picture, mask = bent(view.spline, np.asarray(picture), np.asarray(mask))
    picture = jittered(picture, view.shared_jitter)
    if view.greyscale:
        picture = picture.convert("L").convert("RGB")
    picture = jittered(picture, view.jitter)
    return np.asarray(picture), np.asarray(mask)


def bent(spline: Spline, image: np.ndarray, labels: np.ndarray) -> tuple[Image.Image, Image.Image]:
    side = len(labels)
    centres = (np.arange(side) + 0.5) / side
    places = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    model = ThinPlateSpline()
    model.fit(spline.points + spline.displacements, spline.points)
    x, y = (side * model.transform(places)).astype(np.float32).T.reshape(2, side, side)
    filled = (cv2.BORDER_CONSTANT, MEAN_COLOUR)
    image = cv2.remap(image, x - 0.5, y - 0.5, cv2.INTER_CUBIC, None, *filled)
    labels = cv2.remap(labels, x - 0.5, y - 0.5, cv2.INTER_NEAREST, None, cv2.BORDER_CONSTANT, 0)
    return Image.fromarray(image), Image.fromarray(labels)


def jittered(picture: Image.Image, jitter: Jitter) -> Image.Image:
    changes: Any = (  # of Pillow's images, which torchvision types as tensors
        lambda p: tf.adjust_brightness(p, jitter.brightness),
        lambda p: tf.adjust_contrast(p, jitter.contrast),
        lambda p: tf.adjust_saturation(p, jitter.saturation),
        lambda p: tf.adjust_hue(p, jitter.hue) if jitter.hue else p,
    )
    for number in jitter.order:
        picture = changes[number](picture)
    return picture


def assert_like_the_chain(view: View, image: np.ndarray, labels: np.ndarray) -> None:
    """Equal up to interpolation: three pixels along the border of the filled area and two along outlines may differ."""
    found, found_labels = apply_view(view, image, labels, CROP)
    expected, expected_labels = step_by_step(view, image, labels)
    outside = warp(view, image, labels, CROP)[2]
    by_chain = (np.abs(expected.astype(int) - MEAN_COLOUR) <= 1).all(axis=2)
    near, square = outside.astype(np.uint8), np.ones((7, 7), np.uint8)
    border = cv2.dilate(near, square) != cv2.erode(near, square)

    difference = np.abs(found.astype(int) - expected).max(axis=2)
    assert np.median(difference) <= 2
    assert np.mean(difference[~border] > 12) < 0.005
    assert by_chain[outside & ~border].all()
    assert (found[outside] == MEAN_COLOUR).all()
    assert not found_labels[outside].any()
    one = np.ones((5, 5), np.uint8)
    outlines = cv2.dilate(found_labels, one) != cv2.erode(found_labels, one)
    assert not (found_labels != expected_labels)[~border & ~outlines].any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["static", "video"])
def test_the_composed_warp_agrees_with_the_chain_up_to_interpolation(kind, seed):
    for view in views_of(kind, seed):
        assert_like_the_chain(geometry(view), *smooth_picture(seed=seed))


@pytest.mark.parametrize("seed", range(4))
def test_the_spline_on_a_coarse_grid_agrees_with_the_dense_one(seed):
    image, labels = smooth_picture((CROP, CROP), seed)
    spline = draw_spline(np.random.default_rng(seed))
    view = plain_view(WHOLE)._replace(spline=spline)
    assert_like_the_chain(view, image, labels)
    assert np.mean(apply_view(view, image, labels, CROP)[1] != labels) > 0.01  # it does something


@pytest.mark.parametrize(("angle", "scale", "shear"), [(0, 1.3, 0), (17, 1, 0), (0, 1, 9), (-20, 0.9, -10)])
def test_affine_is_torchvisions(angle, scale, shear):
    _, labels = smooth_picture()
    expected = tf.affine(Image.fromarray(labels), angle=angle, translate=[0, 0], scale=scale, shear=[shear, 0], fill=0)
    step = affine(SIZE, angle=angle, scale=scale, shear=shear)
    found = Image.fromarray(labels).transform(SIZE[::-1], Image.Transform.AFFINE, step.matrix.ravel().tolist())
    assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_a_crop_of_the_picture_itself_is_the_picture_and_a_flip_is_exact():
    image, labels = smooth_picture((CROP, CROP))
    for steps, expected in (((), np.s_[:, :]), ((flip((CROP, CROP)),), np.s_[:, ::-1])):
        found, found_labels, outside = warp(plain_view(*steps, WHOLE), image, labels, CROP)
        assert np.array_equal(found, image[expected])
        assert np.array_equal(found_labels, labels[expected])
        assert not outside.any()


@pytest.mark.parametrize("seed", range(4))
def test_a_soft_mask_is_warped_as_a_picture_is(seed):
    image, _ = smooth_picture(seed=seed)
    grey = image[..., 0]
    for view in views_of("static", seed):
        frame, mask, outside = warp(view, image, grey, CROP, soft=True)
        assert np.array_equal(mask[~outside], frame[..., 0][~outside])
        assert not mask[outside].any()


def test_what_shrinks_is_averaged_first():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4 * CROP, 4 * CROP, 3), dtype=np.uint8)
    labels = np.zeros(image.shape[:2], dtype=np.uint8)
    found = warp(plain_view(cut_out(labels.shape, (0, 0), labels.shape, CROP)), image, labels, CROP)[0]
    expected = image.reshape(CROP, 4, CROP, 4, 3).mean(axis=(1, 3))
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("value", [-0.1, -0.05, 0.04, 0.1])
@pytest.mark.parametrize("change", ["brightness", "contrast", "saturation", "hue"])
def test_colour_changes_are_torchvisions(change, value):
    image, _ = smooth_picture()
    picture = torch.from_numpy(image).permute(2, 0, 1) / 255
    expected = 255 * getattr(tf, f"adjust_{change}")(picture, value + (change != "hue")).permute(1, 2, 0).numpy()
    found = apply_jitter(image, NO_JITTER._replace(**{change: value + (change != "hue")}))
    # hues and their shift are rounded to one of 256 steps, each up to six levels of a colour
    assert np.abs(found - expected).max() <= (12 if change == "hue" else 1.5)
    assert np.abs(found.astype(int) - image).max() > 1


def test_jitter_is_the_same_for_all_frames_of_a_clip_but_for_the_second_one():
    for kind in ("static", "video"):
        views = views_of(kind, 3)
        assert len({view.shared_jitter for view in views}) == len({view.greyscale for view in views}) == 1
        assert len({view.jitter for view in views}) == len(views)


def test_draws_have_the_ranges_of_the_paper():
    rng = np.random.default_rng(0)
    views = [view for _ in range(200) for view in draw_static_views(rng, SIZE, crop=CROP)]
    splines = np.mean([view.spline is not None for view in views])
    assert 0.28 < splines < 0.39
    assert 0.02 < np.mean([view.greyscale for view in views]) < 0.09
    base = [np.linalg.det(view.warps[0].matrix[:, :2]) ** -0.5 for view in views]
    assert 0.8 <= min(base) < 0.82
    assert 1.48 < max(base) <= 1.5
    displacement = np.concatenate([view.spline.displacements for view in views if view.spline])
    assert displacement.std() == pytest.approx(0.02, rel=0.05)
    hues = np.array([view.shared_jitter.hue for view in views])
    assert 0.045 < np.abs(hues).max() <= 0.05
    assert all(view.jitter.hue == 0 for view in views)


def test_random_regions_have_the_area_and_ratio_asked_for():
    rng = np.random.default_rng(0)
    regions = [draw_region(rng, (480, 854), (0.36, 1.0)) for _ in range(500)]
    for (top, left), (height, width) in regions:
        assert 0 <= top <= 480 - height
        assert 0 <= left <= 854 - width
        assert 0.74 <= width / height <= 1.26
    shares = [height * width / (480 * 854) for _, (height, width) in regions]
    assert 0.35 < min(shares) < 0.4
    # a very wide picture: the largest centred region with that ratio
    assert draw_region(rng, (10, 400), (0.9, 1.0)) == ((0, 194), (10, 12))
