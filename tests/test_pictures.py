"""Overlays, sheets, and the scripts that draw or measure with little data."""

import numpy as np
import pytest
from PIL import Image

from util.image import read_image
from util.picture import overlay, sheet


def test_an_overlay_tints_objects_outlines_them_and_leaves_the_rest():
    image = np.full((80, 100, 3), 100, dtype=np.uint8)
    labels = np.zeros((80, 100), dtype=np.uint8)
    labels[20:60, 20:60] = 2
    labels[:10, :10] = 255
    found = overlay(image, labels)
    assert (found[70:, 70:] == 100).all()
    assert (found[:10, :10] == 100).all()  # ignored pixels are no object
    assert found[40, 40].tolist() == [55, 112, 55]  # 0.55 of the grey and 0.45 of (0, 128, 0)
    assert not (found[20, 30] == found[40, 40]).all()
    assert (image == 100).all()


def test_a_sheet_holds_all_pictures_at_one_height():
    rows = [[np.zeros((20, 30, 3), np.uint8)] * 3, [np.zeros((40, 40, 3), np.uint8)]]
    found = sheet(rows, height=20, gap=2)
    assert found.shape == (2 * 22 + 2, 3 * 32 + 2, 3)
    assert np.count_nonzero((found == 0).all(axis=2)) == 3 * 20 * 30 + 20 * 20


@pytest.mark.parametrize("stage", [0, 3])
def test_samples_are_drawn(stage, demo_data, script, tmp_path):
    flags = ["--static_root", demo_data / "static", "--yv_root", demo_data / "YouTube"]
    flags += ["--davis_root", demo_data / "DAVIS/2017", "--crop", 64, "--samples", 4, "--output", tmp_path / "s.png"]
    assert script("show_samples", "--stage", stage, *flags) == 0
    assert read_image(tmp_path / "s.png").shape[0] == 2 * 164 + 4


def test_copied_masks_are_drawn_beside_the_truth(demo_data, script, tmp_path):
    davis = demo_data / "DAVIS/2017"
    assert script("copy_first_mask", "--davis_path", davis, "--output", tmp_path / "copied") == 0
    first, last = (np.array(Image.open(tmp_path / f"copied/val0/{t:05d}.png")) for t in (0, 29))
    assert np.array_equal(first, last)
    flags = ["--results", tmp_path / "copied", "--davis_path", davis, "--output", tmp_path / "r.png"]
    assert script("show_results", *flags) == 0
    assert read_image(tmp_path / "r.png").shape[0] == 8 * 164 + 4
