"""The synthetic data: the same for a seed, in every layout, with hard cases, and never overwriting anything else."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import make_clips
import make_demo_data
import numpy as np
import pytest
from conftest import run_script
from PIL import Image

from dataset.sources import bl30k_sources, video_sources
from model.checkpoint import digest
from util.errors import InputError
from util.image import read_image
from util.label_map import read_label_map, write_label_map


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): digest(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.slow)])
def seeds(request, demo_data, tmp_path_factory) -> Iterator[tuple[Path, Path]]:
    """The data of seeds 0 and 1; few of them are one photograph and a video of three frames.  All tests' data come first."""
    folders = tmp_path_factory.mktemp("seeds")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "few":
            patch.setattr(make_demo_data, "write_static", lambda writer: writer.photograph("static/ecssd/0000", "gear"))
            patch.setattr(make_demo_data, "write_bl30k", write_short_video)
            for part in ("davis", "youtube"):
                patch.setattr(make_demo_data, f"write_{part}", lambda writer: None)
        for seed in (0, 1):
            assert run_script("make_demo_data", folders / str(seed), "--seed", seed) == 0
        yield folders / "0", folders / "1"


def write_short_video(writer: make_demo_data.DemoWriter) -> None:
    scene = writer.scene("bl0", 3, length=3)
    writer.frames(scene.render, "BL30K/JPEGImages/bl0", "BL30K/Annotations/bl0", range(3))


def test_another_seed_gives_other_pictures_and_masks_in_the_same_places(seeds):
    ours, others = map(digests, seeds)
    assert ours.keys() == others.keys()
    assert len(ours) > 8
    assert not [name for name in ours if name.endswith((".jpg", ".png")) and ours[name] == others[name]]


def test_overwriting_another_seed_leaves_what_a_new_folder_gets_byte_by_byte(seeds, script, tmp_path, capsys):
    folder = Path(shutil.copytree(seeds[1], tmp_path / "data"))
    foreign = folder / "BL30K" / "notes.txt"
    foreign.touch()
    before = digests(folder)
    for flags in ((), ("--overwrite",)):
        assert script("make_demo_data", folder, *flags) == 2
        assert digests(folder) == before
    assert f"{foreign}: was not made by this project; nothing was removed" in capsys.readouterr().err
    foreign.unlink()
    assert script("make_demo_data", folder, "--overwrite") == 0
    assert digests(folder) == digests(seeds[0])
    assert list(tmp_path.iterdir()) == [folder]


def test_running_again_writes_nothing(demo_data, script):
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in [demo_data, *demo_data.rglob("*")]}

    before = times()
    assert script("make_demo_data", demo_data) == 0
    assert script("make_demo_data", demo_data, "--overwrite") == 0
    assert times() == before


@pytest.mark.parametrize("option", [(), ("--overwrite",)], ids=["plain", "overwrite"])
@pytest.mark.parametrize("name", ["thesis.txt", "demo.json"])
def test_a_folder_with_other_content_is_refused_and_kept(name, option, script, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text('{"years": 3}')
    assert script("make_demo_data", folder, *option) == 2
    assert capsys.readouterr().err.startswith(f"error: {folder}: expected an empty or new folder, found ")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", name]
    assert (folder / name).read_text() == '{"years": 3}'


@pytest.mark.parametrize("arguments", [("mine/data",), ("data", "--seed", "-1")], ids=["below a file", "negative seed"])
def test_a_place_or_a_seed_that_cannot_be_is_refused_and_leaves_nothing(arguments, script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("a file")
    assert script("make_demo_data", *arguments) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_first_mask_is_a_bad_answer_for_all_frames(demo_data, script, tmp_path):
    flags = ("--davis_path", demo_data / "DAVIS/2017")
    assert script("copy_first_mask", *flags, "--output", tmp_path) == 0
    assert script("score", "--results", tmp_path, *flags) == 0
    assert 0 < json.loads((tmp_path / "scores.json").read_text())["global"]["J&F"] < 0.35
    old = ("--davis_path", demo_data / "DAVIS/2016", "--year", 2016, "--output", tmp_path)
    assert script("copy_first_mask", *old) == 2
    assert script("copy_first_mask", *old, "--overwrite") == 0


def written(folder: Path, name: str, image: np.ndarray, mask: np.ndarray) -> tuple[Path, Path]:
    """A picture (H, W, 3) and its mask (H, W) as files."""
    Image.fromarray(image).save(folder / f"{name}.jpg", quality=100, subsampling=0)
    write_label_map(folder / f"{name}.png", mask, None)
    return folder / f"{name}.jpg", folder / f"{name}.png"


@pytest.fixture
def small_clips(monkeypatch) -> None:
    monkeypatch.setattr(make_clips, "PHOTO_SIZE", (160, 240))
    monkeypatch.setattr(make_clips, "PHOTO_LENGTH", 5)


def laid_out_apart(static: Path, folder: Path) -> Path:
    """The same photographs, those of ECSSD in images/ and their masks in masks/."""
    for place in static.iterdir():
        (folder / "static" / place.name).mkdir(parents=True)
        for path in place.iterdir():
            kind = ("masks" if path.suffix == ".png" else "images") if place.name == "ecssd" else "."
            (folder / "static" / place.name / kind).mkdir(exist_ok=True)
            (folder / "static" / place.name / kind / path.name).symlink_to(path)
    return folder / "static"


def test_clips_from_photographs_train_stage_1_and_follow_their_objects(small_clips, demo_data, script, tmp_path, capsys):
    static, folder = demo_data / "static", tmp_path / "clips"
    assert script("make_clips", folder, "--static_root", static, "--clips", 4) == 0
    source, _ = bl30k_sources(folder / "BL30K", crop=64)["BL30K"]
    assert len(source) == 4
    clips = [source.draw(i, np.random.default_rng(0), max_skip=3) for i in range(4)]
    assert all(clip.frames.shape == (3, 64, 64, 3) for clip in clips if clip is not None)
    assert any(clip is not None and clip.valid.any() for clip in clips)
    before = digests(folder)
    assert script("make_clips", folder, "--static_root", static, "--clips", 4) == 0  # it is already there
    assert script("make_clips", folder, "--static_root", static, "--clips", 5) == 2
    assert digests(folder) == before
    assert script("make_clips", tmp_path / "more", "--static_root", laid_out_apart(static, tmp_path), "--clips", 5) == 0
    assert before.items() - digests(tmp_path / "more").items() == {(n, before[n]) for n in ("demo.json", "files.txt")}
    capsys.readouterr()
    assert script("make_clips", tmp_path / "none", "--static_root", tmp_path) == 2
    assert "expected at least one of" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_clips_before_real_videos_come_on_top_and_keep_their_objects(small_clips, demo_data, script, tmp_path):
    flags = ["--static_root", demo_data / "static", "--davis_root", demo_data / "DAVIS/2017", "--clips", 2]
    assert script("make_clips", tmp_path / "clips", *flags) == 0
    names = sorted(path.name for path in (tmp_path / "clips/BL30K/Annotations").iterdir())
    assert names == ["photo00000", "photo00001", "video00000", "video00001"]
    photographs = [(path, path.with_suffix(".png")) for path in sorted((demo_data / "static/ecssd").glob("*.jpg"))]
    source, _ = video_sources(None, demo_data / "DAVIS/2017")["DAVIS"]
    covered = 0
    for seed in range(4):
        scene = make_clips.VideoScene(np.random.default_rng(seed), photographs, source.annotated(0), length=5)
        assert len({picture for picture, _ in scene.video}) == 5
        for t, (picture, mask) in enumerate(scene.video):
            image, labels = scene.render(t)
            true = cv2.resize(read_label_map(mask).labels, labels.shape[::-1], interpolation=cv2.INTER_NEAREST)
            plain = cv2.resize(read_image(picture), labels.shape[::-1], interpolation=cv2.INTER_CUBIC)
            behind = cv2.dilate((labels > scene.behind).astype(np.uint8), np.ones((9, 9))) == 0
            covered += np.sum(~behind)
            assert (labels[behind] == true[behind]).all()
            if not scene.shutter:  # else the cut-outs' blur reaches further
                assert (image[behind] == plain[behind]).all()
    assert covered


def test_a_cut_out_is_where_its_label_says(tmp_path):
    pairs = []
    for i, colour in enumerate([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        image, mask = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
        mask[10:30, 20:40] = 255
        image[mask > 0] = colour
        pairs.append(written(tmp_path, str(i), image, mask))
    seen = 0
    for seed in range(10):
        scene = make_clips.PhotoScene(np.random.default_rng(seed), pairs, length=5)
        image, labels = scene.render(2)
        for number, cut_out in enumerate(scene.cut_outs, start=2):
            inside = cv2.erode((labels == number).astype(np.uint8), np.ones((5, 5))) > 0
            colour = cut_out.texture[cut_out.texture.shape[0] // 2, cut_out.texture.shape[1] // 2, :3]
            if inside.any() and colour.max() > 100:  # not the black one
                seen += 1
                assert (image[inside].argmax(axis=1) == colour.argmax()).all()
    assert seen > 5


@pytest.mark.parametrize("kind", ["white", "numbered to 254", "of another size"])
def test_a_real_video_behind_cut_outs_may_hold_all_that_training_reads(kind, tmp_path):
    image, mask = np.full((40, 60, 3), 90, np.uint8), np.full((40, 60), 255, np.uint8)
    photographs = [written(tmp_path, str(i), image, mask) for i in range(4)]
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 20:40] = 255 if kind == "white" else 254
    labels = labels[:30] if kind == "of another size" else labels
    video = [written(tmp_path, f"v{i}", image, labels) for i in range(3)]
    for seed in range(6):
        scene = make_clips.VideoScene(np.random.default_rng(seed), photographs, video, length=3)
        if kind == "of another size":
            with pytest.raises(InputError, match="mask is 30x60, its picture is 40x60"):
                scene.render(0)
        elif kind == "white":
            assert scene.behind == 1
            assert 1 in scene.render(0)[1]
        else:
            assert not scene.cut_outs  # whose numbers would be 255 and 0
