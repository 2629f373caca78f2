"""Overlays, sheets, and the scripts that draw pictures, on little data."""

from pathlib import Path

import numpy as np
import pytest
import show_results
from conftest import write_davis
from films import picture, square
from PIL import Image

from dataset.davis import davis_videos
from util.image import read_image
from util.label_map import write_label_map
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


def green(pixels: np.ndarray) -> np.ndarray:
    red, green, blue = pixels.astype(int).T
    return (green - red > 20) & (green - blue > 20)


@pytest.mark.parametrize(("size", "thickness"), [((240, 320), 3), ((480, 854), 1), ((1080, 1920), 2)], ids=str)
def test_a_thin_object_keeps_its_colour_at_full_size_and_on_a_sheet(size, thickness):
    image = np.full((*size, 3), 90, dtype=np.uint8)
    labels = np.zeros(size, dtype=np.uint8)
    labels[20:-20, 100 : 100 + thickness] = 2
    found = overlay(image, labels)
    assert green(found[labels == 2]).all()
    assert not (found == 255).all(axis=2).any()  # no white outline that would hide it
    assert green(sheet([[found]])[80]).any()


def test_outlines_lie_outside_of_all_objects():
    image = np.random.default_rng(0).integers(0, 256, (480, 600, 3), dtype=np.uint8)
    labels = np.zeros(image.shape[:2], dtype=np.uint8)
    labels[100:300, 100:300] = 1
    labels[150, 200:290] = 2  # thin, within another object
    labels[100:300, 300:400] = 3
    alone = {number: overlay(image, np.where(labels == number, labels, 0)) for number in (1, 2, 3)}
    found = overlay(image, labels)
    assert (found[labels == 2] == alone[2][labels == 2]).all()
    assert (found[200, 220:280] == alone[1][200, 220:280]).all()  # their insides
    assert (found[200, 310:390] == alone[3][200, 310:390]).all()
    outlined = (found != image).any(axis=2) & (labels == 0)
    outlined[:, 290:310] = False  # where the two meet, the line has their colours
    assert (found[outlined] == 255).all()
    assert outlined[200, 98]
    assert outlined[98, 350]


def test_captions_and_names_are_drawn_on_any_background():
    for grey in (0, 128, 255):
        rows = [[np.full((100, 160, 3), grey, np.uint8)] * 2] * 2
        plain = sheet(rows)
        found = sheet(rows, captions=[["00012", ""], ["", "7"]], names=["a video\nresult", "a video\ntruth"])
        left = found.shape[1] - plain.shape[1]
        assert (found[:, :left] < 100).any()
        pictures = found[:, left:]
        cells = [(pictures != plain)[y : y + 160, x : x + 256].any() for y in (4, 168) for x in (4, 264)]
        assert cells == [True, False, False, True]
        corner = pictures[4:30, 4:80]
        assert corner.max() == 255
        assert corner.min() == 0


def test_a_long_name_does_not_push_the_pictures_away():
    rows = [[np.zeros((20, 30, 3), np.uint8)]]
    assert sheet(rows, names=["n" * 200]).shape[1] < 300 + sheet(rows).shape[1]


def test_a_sheet_holds_all_pictures_at_one_height():
    rows = [[np.zeros((20, 30, 3), np.uint8)] * 3, [np.zeros((40, 40, 3), np.uint8)]]
    found = sheet(rows, height=20, gap=2)
    assert found.shape == (2 * 22 + 2, 3 * 32 + 2, 3)
    assert np.count_nonzero((found == 0).all(axis=2)) == 3 * 20 * 30 + 20 * 20


@pytest.mark.parametrize("stage", [0, 3])
def test_samples_are_drawn(stage, demo_data, script, tmp_path, capsys):
    flags = ["--static_root", demo_data / "static", "--yv_root", demo_data / "YouTube"]
    flags += ["--davis_root", demo_data / "DAVIS/2017", "--crop", 64, "--samples", 4, "--output", tmp_path / "s.png"]
    assert script("show_samples", "--stage", stage, *flags) == 0
    assert read_image(tmp_path / "s.png").shape[0] == 2 * 164 + 4
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:-1]] == ["1", "2", "3", "4"]


@pytest.fixture
def davis(tmp_path) -> Path:
    """DAVIS 2017 with two validation videos of ten smooth frames."""
    root = write_davis(tmp_path / "DAVIS", {name: [square((4 + t, 4)) for t in range(10)] for name in ("ant", "bee")})
    for path in root.rglob("*.jpg"):
        Image.fromarray(picture(int(path.stem))).save(path, quality=95)
    return root


def test_copied_masks_are_drawn_beside_the_truth_with_names(davis, script, tmp_path, monkeypatch, capsys):
    out, drawn = tmp_path / "copied", {}
    monkeypatch.setattr(show_results, "sheet", lambda rows, **texts: drawn.update(texts) or sheet(rows, **texts))
    flags = ["--results", out, "--davis_path", davis, "--frames", 3, "--output", tmp_path / "r.png"]
    assert script("show_results", *flags) == 2
    assert capsys.readouterr().err == f"error: --results {out}: no such folder\n"
    assert script("copy_first_mask", "--davis_path", davis, "--output", out) == 0
    assert np.array_equal(*(np.array(Image.open(out / f"ant/{t:05d}.png")) for t in (0, 9)))
    assert script("show_results", *flags) == 0
    assert drawn["names"] == ["ant\nresult", "ant\ntruth", "bee\nresult", "bee\ntruth"]
    assert drawn["captions"] == [["00000", "00004", "00009"]] * 4
    assert read_image(tmp_path / "r.png").shape[0] == 4 * 164 + 4
    write_label_map(out / "bee/00009.png", np.ones((8, 9), np.uint8), None)
    assert script("show_results", *flags) == 2
    assert capsys.readouterr().err.startswith(f"error: {out}/bee/00009.png: mask is ")


def test_the_moving_picture_shows_every_second_frame_of_each_video_and_loops(davis, light_file, script, tmp_path):
    flags = ["--davis_path", davis, "--year", 2017, "--videos", "ant", "--model", light_file, "--frames", 5]
    assert script("make_example", *flags, "--output", tmp_path / "e.webp") == 0
    with Image.open(tmp_path / "e.webp") as moving:
        assert moving.n_frames == 3
        assert moving.info["loop"] == 0
        video = davis_videos(davis)[0]
        labels = video.read_mask(next(iter(video.masks.values())))
        given = sheet([[overlay(read_image(video.images[0]), labels)]], height=240)
        difference = np.abs(np.array(moving.convert("RGB")).astype(int) - given)
        assert difference.mean() < 10  # it is compressed
        moving.seek(2)
        assert np.abs(np.array(moving.convert("RGB")).astype(int) - given).mean() > difference.mean()
