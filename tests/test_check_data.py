"""What `check_data.py` reports for complete, absent and broken data."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from conftest import make_larger, write_video
from PIL import Image

from util.label_map import colour_map, write_label_map

PLACES = {
    "static": "static",
    "bl": "BL30K",
    "yv": "YouTube",
    "davis": "DAVIS/2017",
    "davis16": "DAVIS/2016",
    "yv18": "YouTube2018",
}  # by the flag


@pytest.fixture
def data(demo_data, tmp_path):
    """Makes a copy of some parts of the demo data."""

    def make(*parts: str) -> Path:
        for part in parts:
            shutil.copytree(demo_data / part, tmp_path / "data" / part)
        return tmp_path / "data"

    return make


@pytest.fixture
def check(script, capsys):
    def run(root: Path, *options: object, only: Iterable[str] = PLACES) -> tuple[int, str]:
        """The exit status and the output for these data sets, with runs of spaces collapsed."""
        places = [f"--{flag}_root={root / place if flag in only else 'none'}" for flag, place in PLACES.items()]
        status = script("check_data", "--num_workers", 0, *places, *options)
        lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        return status, "\n".join(lines)

    return run


def test_counts_stand_beside_the_published_ones_and_do_not_fail(check, demo_data):
    status, said = check(demo_data)
    assert status == 0
    for line in (
        "fss 60 10,000 -",
        "BL30K 6 29,989 -",
        "YouTube-VOS 2019 train 8 3,471 -",
        "YouTube-VOS 2019 valid 3 507 -",
        "YouTube-VOS 2018 valid - 474 absent",
        "DAVIS 2016 4 50 -",
        "DAVIS 2017 train 8 60 -",
        "DAVIS 2017 val 4 30 -",
        "DAVIS 2017 test-dev 2 30 -",
        *(f"stage {stage}: ready" for stage in range(4)),
        *(f"{name}: ready" for name in ("DAVIS 2016 val", "DAVIS 2017 val", "DAVIS 2017 test-dev", "YouTube-VOS 2019 valid")),
    ):
        assert line in said.splitlines()


def test_decoding_finds_nothing_wrong_with_whole_data(check, demo_data):
    status, said = check(demo_data, "--decode", only=("yv", "davis16"))
    assert status == 0
    assert "YouTube-VOS 2019 valid: ready" in said


def test_absent_data_is_named_where_it_is_missed_and_does_not_fail(check, tmp_path):
    status, said = check(tmp_path, "--davis16_root", "none")
    assert status == 0
    assert "ready" not in said
    assert "stage 1: missing BL30K" in said
    assert "stage 2: missing YouTube-VOS 2019 train, DAVIS 2017 train" in said
    assert "DAVIS 2017 test-dev: missing" in said
    assert "DAVIS 2016" not in said


def test_stage_0_goes_without_some_of_its_sets_and_with_masks_of_any_mode(check, data):
    data = data("static/ecssd", "static/BIG_small")
    for path in (data / "static/ecssd").glob("*.png"):
        Image.open(path).convert("RGB").save(path)
    for decode in ((), ("--decode",)):
        status, said = check(data, *decode, only=["static"])
        assert status == 0, said
        assert "stage 0: ready, without fss, DUTS-TR, DUTS-TE, HRSOD_small" in said


def test_only_some_problems_of_a_set_are_named(check, data):
    data = data("static/ecssd")
    for path in (data / "static/ecssd").glob("*.png"):
        path.unlink()
    status, said = check(data, "--shown", 2, only=["static"])
    assert status == 1
    assert said.count("a photograph without mask") == 2
    assert "ecssd: and 29 more" in said  # 30 masks, and no pair is left


def test_photographs_may_lie_apart_from_their_masks(check, data):
    folder = (data := data("static/ecssd")) / "static/ecssd"
    for part, suffix in (("images", "jpg"), ("masks", "png")):
        (folder / part).mkdir()
        for path in folder.glob(f"*.{suffix}"):
            path.rename(folder / part / path.name)
    status, said = check(data, "--decode", only=["static"])
    assert status == 0, said
    assert "ecssd 30 1,000 -" in said
    (mask := folder / "masks/0000.png").rename(folder / "masks/other.png")
    status, said = check(data, only=["static"])
    assert status == 1
    assert f"{folder}/images/{mask.stem}.jpg: a photograph without mask" in said
    assert f"{folder}/masks/other.png: a mask without photograph" in said


def test_youtube_may_lack_the_frames_between_but_not_those_that_are_asked_for(check, data):
    data = data("YouTube/valid")
    status, said = check(data, only=["yv"])
    assert status == 0
    assert "YouTube-VOS 2019 valid: ready, every fifth frame only, without all_frames/" in said
    (data / "YouTube/valid/JPEGImages/yt-valid1/00040.jpg").unlink()
    status, said = check(data, only=["yv"])
    assert status == 1
    assert "YouTube-VOS 2019 valid: cannot start: " in said
    assert "lists yt-valid1/00040" in said


def test_masks_of_other_sizes_absent_partners_and_files_that_are_no_images_are_named(check, data):
    data, small = data("static/DUTS-TR", "BL30K", "YouTube"), np.ones((5, 7), np.uint8)
    duts, bl30k, train = data / "static/DUTS-TR", data / "BL30K", data / "YouTube/train_480p"
    write_label_map(duts / "0000.png", small, None)
    (duts / "0001.png").unlink()
    (duts / "0002.jpg").unlink()
    (duts / "0003.jpg").write_text("nothing")
    write_label_map(bl30k / "Annotations/bl0/00004.png", small, colour_map())
    (bl30k / "Annotations/bl1/00000.png").unlink()
    shutil.rmtree(bl30k / "JPEGImages/bl2")
    shutil.copy(bl30k / "JPEGImages/bl3/00000.jpg", bl30k / "JPEGImages/bl3/00000.jpeg")
    shutil.copy(bl30k / "JPEGImages/bl4/00000.jpg", bl30k / "Annotations/bl4/00000.png")
    (train / "JPEGImages/yt-train0/00005.jpg").unlink()
    make_larger(train / "JPEGImages/yt-train1/00010.jpg")
    write_label_map(data / "YouTube/valid/Annotations/yt-valid0/00000.png", small, colour_map())
    status, said = check(data, only=("static", "bl", "yv"))
    assert status == 1
    for problem in (
        f"DUTS-TR: {duts}/0000.png: mask is 5x7, its image is 128x224",
        f"DUTS-TR: {duts}/0001.jpg: a photograph without mask",
        f"DUTS-TR: {duts}/0002.png: a mask without photograph",
        f"DUTS-TR: {duts}/0003.jpg: cannot read this image",
        f"BL30K: {bl30k}/Annotations/bl0/00004.png: mask is 5x7, its image is 128x224",
        f"BL30K: {bl30k}/Annotations/bl1/00000.png: no such mask",
        f"BL30K: {bl30k}/JPEGImages/bl2: expected frames",
        f"BL30K: {bl30k}/JPEGImages/bl3: expected one picture of each name, found 00000.jpeg and 00000.jpg",
        f"BL30K: {bl30k}/Annotations/bl4/00000.png: expected a mask as PNG, found JPEG",
        f"YouTube-VOS 2019 train: {train}/Annotations/yt-train0/00005.png: no such frame",
        f"YouTube-VOS 2019 train: {train}/JPEGImages/yt-train1/00010.jpg: frame is 200x300, the first one is 128x224",
        "YouTube-VOS 2019 valid: cannot start: ",
        "; 4 problems, see below",
    ):
        assert problem in said


def test_an_empty_folder_twins_and_a_video_that_is_listed_but_absent_are_problems(check, data):
    data = data("static/DUTS-TE", "DAVIS/2017")
    ecssd, duts = data / "static/ecssd", data / "static/DUTS-TE"
    ecssd.mkdir()
    shutil.copy(duts / "0001.jpg", duts / "0001.jpeg")
    shutil.rmtree(data / "DAVIS/2017/test-dev/JPEGImages/480p/test-dev1")
    status, said = check(data, only=("static", "davis"))
    assert status == 1
    assert f"ecssd: {ecssd}: expected photographs" in said
    assert f"DUTS-TE: {duts}: expected one picture of each name, found 0001.jpeg and 0001.jpg" in said
    assert "DAVIS 2017 test-dev: cannot start" in said
    assert "DAVIS 2017 test-dev 2 30 1" in said


@pytest.fixture
def bl30k(tmp_path) -> Path:
    """BL30K with one video that is white on black."""
    images, masks = (tmp_path / "BL30K" / part / "a" for part in ("JPEGImages", "Annotations"))
    write_video(images, masks, [np.pad(np.full((40, 40), 255, np.uint8), 20)] * 3, palette=None)
    return tmp_path / "BL30K"


def test_a_truncated_image_is_found_by_decoding_only(check, bl30k):
    path = bl30k / "JPEGImages/a/00001.jpg"
    path.write_bytes(path.read_bytes()[:-3000])
    assert check(bl30k.parent, only=["bl"])[0] == 0
    status, said = check(bl30k.parent, "--decode", only=["bl"])
    assert status == 1
    assert f"BL30K: {path}: cannot read this image" in said


def test_what_255_means_is_decided_for_all_masks_of_a_video(check, bl30k):
    assert check(bl30k.parent, "--decode", only=["bl"])[0] == 0
    mask = bl30k / "Annotations/a/00002.png"
    write_label_map(mask, np.pad(np.full((40, 40), 255, np.uint8), 20, constant_values=3), None)
    status, said = check(bl30k.parent, "--decode", only=["bl"])
    assert status == 1
    assert f"BL30K: {mask}: expected white on black, like the first mask of this video" in said
