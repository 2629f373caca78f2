"""What `check_data.py` reports for complete, absent and broken data."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util.label_map import colour_map, read_label_map, write_label_map


@pytest.fixture
def data(demo_data, tmp_path):
    """Makes a copy of some parts of the demo data, beside links to the others."""

    def make(*parts: str) -> Path:
        (tmp_path / "data").mkdir()
        for part in demo_data.iterdir():
            if part.name in parts:
                shutil.copytree(part, tmp_path / "data" / part.name)
            else:
                (tmp_path / "data" / part.name).symlink_to(part)
        return tmp_path / "data"

    return make


NO_OTHERS = [f"--{name}_root=none" for name in ("static", "yv", "davis", "davis16")]  # than BL30K


@pytest.fixture
def check(script, capsys):
    def run(root: Path, *options: object) -> tuple[int, str]:
        """The exit status and the output, with runs of spaces collapsed; `options` override the defaults."""
        arguments = ["--num_workers", 0]
        for flag, place in (
            ("--static_root", "static"),
            ("--bl_root", "BL30K"),
            ("--yv_root", "YouTube"),
            ("--davis_root", "DAVIS/2017"),
            ("--davis16_root", "DAVIS/2016"),
            ("--yv18_root", "YouTube2018"),
        ):
            arguments += [flag, root / place]
        status = script("check_data", *arguments, *options)
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


def test_masks_of_photographs_may_have_any_mode(check, data):
    data = data("static")
    for path in (data / "static/ecssd").glob("*.png"):
        Image.open(path).convert("RGB").save(path)
    for decode in ((), ("--decode", *NO_OTHERS[1:])):
        status, said = check(data, *decode)
        assert status == 0, said


def test_youtube_without_the_frames_between_is_ready_but_told(check, data):
    data = data("YouTube")
    shutil.rmtree(data / "YouTube/all_frames")
    assert "YouTube-VOS 2019 valid: ready, every fifth frame only, without all_frames/" in check(data)[1]


def test_decoding_finds_nothing_wrong_with_whole_data(check, demo_data):
    status, said = check(demo_data, "--decode")
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


def test_stage_0_goes_without_some_of_its_sets(check, data):
    data = data("static")
    shutil.rmtree(data / "static" / "fss")
    shutil.rmtree(data / "static" / "ecssd")
    status, said = check(data)
    assert status == 0
    assert "stage 0: ready, without fss, ecssd" in said


def test_masks_of_other_sizes_absent_partners_and_files_that_are_no_images_are_named(check, data):
    data, small = data("static", "BL30K", "YouTube"), np.ones((5, 7), np.uint8)
    duts, bl30k, train = data / "static/DUTS-TR", data / "BL30K", data / "YouTube/train_480p"
    write_label_map(duts / "0000.png", small, None)
    (duts / "0001.png").unlink()
    (duts / "0002.jpg").unlink()
    (duts / "0003.jpg").write_text("nothing")
    write_label_map(bl30k / "Annotations/bl0/00004.png", small, colour_map())
    (bl30k / "Annotations/bl1/00000.png").unlink()
    shutil.rmtree(bl30k / "JPEGImages/bl2")
    (train / "JPEGImages/yt-train0/00005.jpg").unlink()
    shutil.copy(data / "static/ecssd/0000.jpg", train / "JPEGImages/yt-train1/00005.jpg")
    write_label_map(data / "YouTube/valid/Annotations/yt-valid0/00000.png", small, colour_map())
    status, said = check(data)
    assert status == 1
    for problem in (
        f"DUTS-TR: {duts}/0000.png: mask is 5x7, its image is 128x224",
        f"DUTS-TR: {duts}/0001.jpg: a photograph without mask",
        f"DUTS-TR: {duts}/0002.png: a mask without photograph",
        f"DUTS-TR: {duts}/0003.jpg: cannot read this image",
        f"BL30K: {bl30k}/Annotations/bl0/00004.png: mask is 5x7, its image is 128x224",
        f"BL30K: {bl30k}/Annotations/bl1/00000.png: no such mask",
        f"BL30K: {bl30k}/JPEGImages/bl2: expected frames",
        f"YouTube-VOS 2019 train: {train}/Annotations/yt-train0/00005.png: no such frame",
        "YouTube-VOS 2019 valid: cannot start: ",
        "stage 0: ready; 4 problems, see below",
    ):
        assert problem in said


def test_a_truncated_image_is_found_by_decoding_only(check, data):
    data = data("BL30K")
    path = data / "BL30K/JPEGImages/bl3/00007.jpg"
    path.write_bytes(path.read_bytes()[:-3000])
    assert check(data, *NO_OTHERS)[0] == 0
    status, said = check(data, "--decode", *NO_OTHERS)
    assert status == 1
    assert f"BL30K: {path}: cannot read this image" in said


def test_a_frame_that_is_asked_for_and_absent_makes_a_benchmark_broken(check, data):
    data = data("YouTube")
    shutil.rmtree(data / "YouTube/all_frames")
    (data / "YouTube/valid/JPEGImages/yt-valid1/00040.jpg").unlink()
    status, said = check(data)
    assert status == 1
    assert "YouTube-VOS 2019 valid: cannot start: " in said
    assert "lists yt-valid1/00040" in said


def test_an_empty_folder_and_a_video_that_is_listed_but_absent_are_problems(check, data):
    data = data("static", "DAVIS")
    shutil.rmtree(data / "static/ecssd")
    (data / "static/ecssd").mkdir()
    shutil.rmtree(data / "DAVIS/2017/test-dev/JPEGImages/480p/test-dev1")
    status, said = check(data)
    assert status == 1
    assert "ecssd: expected photographs" in said.replace(f"{data}/static/", "")
    assert "DAVIS 2017 test-dev: cannot start" in said
    assert "DAVIS 2017 test-dev 2 30 1" in said


def test_only_some_problems_of_a_set_are_named(check, data):
    data = data("static")
    for path in (data / "static/ecssd").glob("*.png"):
        path.unlink()
    status, said = check(data, "--shown", 2)
    assert status == 1
    assert said.count("a photograph without mask") == 2
    assert "ecssd: and 29 more" in said  # 30 masks, and no pair is left


def test_what_255_means_is_decided_for_all_masks_of_a_video(check, data):
    data = data("BL30K")
    masks = sorted((data / "BL30K/Annotations/bl0").iterdir())
    for path in masks:
        write_label_map(path, np.where(read_label_map(path).labels == 1, 255, 0).astype(np.uint8), None)
    assert check(data, "--decode", *NO_OTHERS)[0] == 0
    labels = read_label_map(masks[2]).labels.copy()
    labels[0, 0] = 3
    write_label_map(masks[2], labels, None)
    status, said = check(data, "--decode", *NO_OTHERS)
    assert status == 1
    assert f"BL30K: {masks[2]}: expected white on black, like the first mask of this video" in said


def test_files_of_one_name_and_masks_in_jpeg_are_problems(check, data):
    data = data("BL30K", "static")
    bl30k, ecssd = data / "BL30K", data / "static/ecssd"
    shutil.copy(bl30k / "JPEGImages/bl0/00000.jpg", bl30k / "JPEGImages/bl0/00000.jpeg")
    shutil.copy(bl30k / "JPEGImages/bl1/00000.jpg", bl30k / "Annotations/bl1/00000.png")
    shutil.copy(ecssd / "0001.jpg", ecssd / "0001.jpeg")
    status, said = check(data)
    assert status == 1
    for problem in (
        f"BL30K: {bl30k}/JPEGImages/bl0: expected one picture of each name, found 00000.jpeg and 00000.jpg",
        f"BL30K: {bl30k}/Annotations/bl1/00000.png: expected a mask as PNG, found JPEG",
        f"ecssd: {ecssd}: expected one picture of each name, found 0001.jpeg and 0001.jpg",
    ):
        assert problem in said
