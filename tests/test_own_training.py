"""What users bring to train on: what is refused before training, and what is told."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import square
from PIL import Image
from test_training_data import roots

from dataset.sources import stage_sources
from dataset.static import StaticClips
from dataset.vos import VideoClips
from util.errors import InputError
from util.image import read_grey
from util.label_map import write_label_map

MASK = square((4, 4))
OTHER = square((30, 20))


def test_masks_of_own_videos_that_have_no_frames_are_told(tmp_path):
    for name in ("00000", "00001"):
        for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".png")):
            (tmp_path / folder / "a").mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(32, dtype=np.uint8)).save(tmp_path / folder / "a" / f"{name}{suffix}")
    (tmp_path / "Annotations/a/00001.png").rename(tmp_path / "Annotations/a/0001.png")
    with pytest.raises(InputError, match=r"Annotations/a: found 0001.png, but no such frames in .*JPEGImages/a"):
        stage_sources(3, {"yv_root": None, "davis_root": None}, own=[tmp_path])


def write_own(folder: Path, masks: dict[str, np.ndarray], frames: int, video: str = "a") -> None:
    """An own video of so many frames, of which some have masks."""
    for t in range(frames):
        (folder / "JPEGImages" / video).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (t, t, t)).save(folder / f"JPEGImages/{video}/{t:05d}.jpg")
    for name, labels in masks.items():
        write_label_map(folder / f"Annotations/{video}/{name}.png", labels, None)


def own_source(folder: Path, **options) -> VideoClips:
    ((source, _),) = stage_sources(3, {"yv_root": None, "davis_root": None}, own=[folder], crop=32, **options).values()
    return source


def test_own_videos_with_few_masks_are_drawn_by_the_distance_of_frames(tmp_path, capsys):
    write_own(tmp_path, {f"{t:05d}": square((4, 4)) for t in range(0, 60, 10)}, 60)
    write_own(tmp_path, {"00000": square((4, 4))}, 3, "one")
    write_own(tmp_path, {}, 3, "none")
    source = own_source(tmp_path, spacing="paper")
    told = capsys.readouterr().err
    assert "JPEGImages: training without none, of which " in told
    assert "one/00000.png: is the only mask of its video" in told
    rng, apart = np.random.default_rng(0), set()
    for _ in range(20):
        if clip := source.draw(0, rng, max_skip=20):  # the crop may not show the object
            frames = map(int, clip.name.split()[1].split(","))
            apart |= {abs(a - b) for a, b in itertools.pairwise(frames)}
    assert apart == {10, 20}


def test_white_in_own_masks_of_numbers_is_told_or_refused(tmp_path, capsys):
    one = square((4, 4))
    write_own(tmp_path / "ignored", {"00000": np.maximum(one, 255 * square((30, 20))), "00001": one}, 2)
    own_source(tmp_path / "ignored")
    assert "255 beside other numbers is no object" in capsys.readouterr().err
    write_own(tmp_path / "gone", {"00000": one, "00001": 255 * one, "00002": 255 * one}, 3)
    with pytest.raises(InputError, match="expected numbered objects, as in the masks before it"):
        own_source(tmp_path / "gone")


def test_a_gap_in_the_masks_of_one_object_of_several_is_refused(tmp_path):
    for name, frames in (("cat", range(4)), ("dog", (0, 3))):
        write_own(tmp_path, {f"{name}/{t:05d}": square((4, 4) if name == "cat" else (30, 20)) for t in frames}, 4)
    with pytest.raises(InputError, match=r"a/dog/00001.png: no such mask, but there are others before and after it"):
        own_source(tmp_path)
    write_own(tmp_path, {f"dog/{t:05d}": 0 * square((4, 4)) for t in (1, 2)}, 4)
    assert len(own_source(tmp_path)) == 1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda mask: Image.fromarray(np.where(mask, 1, np.where(square((30, 20)), 2, 0)).astype(np.uint8)),
            "expected one object",
        ),
        (lambda mask: Image.fromarray(np.where(mask[..., None], (200, 30, 0), 0).astype(np.uint8)), "in other colours"),
        (lambda mask: Image.fromarray(255 * (mask == 0).astype(np.uint8)), "is it the background"),
    ],
    ids=["numbers", "red", "black on white"],
)
def test_own_photographs_whose_masks_are_not_white_on_black_are_refused(make, told, tmp_path, capsys):
    Image.new("RGB", (64, 48)).save(tmp_path / "cat.jpg")
    Image.new("RGB", (64, 48)).save(tmp_path / "dog.jpg")
    make(square((4, 4))).save(tmp_path / "cat.png")
    with pytest.raises(InputError, match=f"cat.png: .*{told}"):
        stage_sources(0, {"static_root": None}, photos=[tmp_path])
    assert "training without dog.jpg, to which there is no name.png" in capsys.readouterr().err


def test_the_problem_of_some_own_photographs_is_told_wherever_they_are(tmp_path, capsys):
    for i in range(50):
        mask = square((4, 4))
        Image.new("RGB", (64, 48)).save(tmp_path / f"{i:02d}.jpg")
        Image.fromarray(255 * (mask if i < 40 else 1 - mask)).save(tmp_path / f"{i:02d}.png")
    stage_sources(0, {"static_root": None}, photos=[tmp_path])
    told = capsys.readouterr().err
    assert re.search(r"40.png: white covers .* background.*; so it is with 5 of 20 masks that were looked at", told)


def test_a_cut_out_of_a_photograph_is_a_mask_by_its_opacity(tmp_path):
    picture, mask = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8), np.zeros((120, 160), np.uint8)
    mask[10:110, 20:120] = 255
    Image.fromarray(np.dstack([picture, mask])).save(tmp_path / "cat.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "cat.png"), mask)
    Image.fromarray(picture).save(tmp_path / "cat.jpg")
    (source, _) = stage_sources(0, {"static_root": None}, photos=[tmp_path])[tmp_path.name]
    assert len(source) == 1


def test_own_photographs_are_trained_on_alone_or_beside_others(demo_data, tmp_path):
    def write(folder, suffix: str, mask: np.ndarray) -> None:
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        Image.new("RGB", (64, 48)).save(folder / "images" / f"cat{suffix}")
        Image.new("RGB", (64, 48)).save(folder / "images" / "without a mask.jpg")
        Image.fromarray(mask).save(folder / "masks/cat.png")

    white = np.pad(np.full((20, 20), 255, np.uint8), ((14, 14), (22, 22)))
    write(tmp_path / "mine", ".png", white)
    nothing = {**roots(demo_data), "static_root": None}
    ((source, often),) = stage_sources(0, nothing, photos=[tmp_path / "mine"], crop=32).values()
    assert [source.name(i) for i in range(len(source))] == [str(tmp_path / "mine/images/cat.png")]
    assert often == 5
    assert source.draw(0, np.random.default_rng(0), max_skip=0).masks.max() == 255
    found = stage_sources(0, roots(demo_data), photos=[tmp_path / "mine"], mix={"mine": 2, "fss": 0})
    assert found["mine"][1] == 2
    assert "ecssd" in found
    assert "fss" not in found
    write(tmp_path / "numbers", ".jpg", white // 255)
    with pytest.raises(InputError, match=r"masks/cat.png: expected the object in white on black"):
        stage_sources(0, nothing, photos=[tmp_path / "numbers"])
    with pytest.raises(InputError, match="same name as another data set, ecssd"):
        stage_sources(0, roots(demo_data), photos=[demo_data / "static/ecssd"])
    with pytest.raises(InputError, match="--photo_root: expected stage 0, found 3"):
        stage_sources(3, roots(demo_data), photos=[tmp_path / "mine"])
    with pytest.raises(InputError, match="--static_root: stage 0 needs it, or --photo_root"):
        stage_sources(0, nothing)


def photographs(folder: Path, masks: dict[str, np.ndarray], *, exif: int = 1) -> StaticClips:
    """Photographs of 48x64 as stored, with these masks; all other files there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in masks.items():
        tags = Image.Exif()
        tags[0x0112] = exif
        Image.new("RGB", (64, 48)).save(folder / f"{name}.jpg", exif=tags)
        Image.fromarray(mask).save(folder / f"{name}.png")
    ((source, _),) = stage_sources(0, {"static_root": None}, photos=[folder]).values()
    return source


def a_frame_of_another_size(folder: Path) -> None:
    Image.new("RGB", (48, 64)).save(folder / "JPEGImages/a/00002.jpg")


def a_mask_of_another_size(folder: Path) -> None:
    Image.fromarray(np.kron(MASK, np.ones((2, 2), np.uint8))).save(folder / "Annotations/a/00002.png")


def a_frame_that_is_not_read(folder: Path) -> None:
    (folder / "JPEGImages/a/00003.jpg").rename(folder / "JPEGImages/a/00003.heic")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (a_frame_of_another_size, "00002.jpg: frame is 64x48, the first one is 48x64"),
        (a_mask_of_another_size, "00002.png: mask is 96x128, its frame is 48x64"),
        (a_frame_that_is_not_read, "found 00003.png, but no such frames"),
    ],
)
def test_own_videos_that_training_could_not_read_are_refused_before_it(change: Callable, told, tmp_path):
    write_own(tmp_path, {f"{t:05d}": MASK for t in range(4)}, 4)
    change(tmp_path)
    with pytest.raises(InputError, match=told):
        own_source(tmp_path)


def two_cameras(folder: Path) -> None:
    for part, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".png")):
        (folder / part / "b").mkdir()
        for t, camera in itertools.product(range(20), (1, 2)):
            (folder / part / f"b/cam{camera}_{t:04d}{suffix}").symlink_to(folder / part / f"a/00000{suffix}")


def annotations_of_labelme(folder: Path) -> None:
    (folder / "Annotations/a/00003.json").write_text("{}")


def a_folder_of_masks(folder: Path) -> None:
    write_label_map(folder / "Annotations/a/dog/00003.png", MASK, None)


def a_link_to_nothing(folder: Path) -> None:
    (folder / "Annotations/gone").symlink_to(folder / "nothing")


def empty_masks(folder: Path) -> None:
    write_own(folder, {f"{t:05d}": 0 * MASK for t in range(4)}, 4, "empty")


def white_that_comes_later(folder: Path) -> None:
    write_label_map(folder / "Annotations/a/00003.png", np.maximum(MASK, 255 * OTHER), None)


def masks_resized_smoothly(folder: Path) -> None:
    rim = cv2.dilate(OTHER, np.ones((3, 3), np.uint8))
    write_label_map(folder / "Annotations/a/00003.png", np.maximum(MASK, np.where(OTHER, 2, rim)), None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (two_cameras, "b: names hold 2 series of frames with the same numbers"),
        (annotations_of_labelme, "Annotations/a: training without 00003.json"),
        (a_folder_of_masks, "Annotations/a: training without dog"),
        (a_link_to_nothing, "Annotations: training without gone, links that lead nowhere"),
        (empty_masks, "Annotations/empty: all 4 masks are empty"),
        (white_that_comes_later, "00003.png: 255 beside other numbers is no object"),
        (masks_resized_smoothly, "00003.png: 1 only lies along the edges of others"),
    ],
)
def test_what_is_left_out_of_own_videos_or_strange_in_them_is_told(change: Callable, told, tmp_path, capsys):
    write_own(tmp_path, {f"{t:05d}": MASK for t in range(4)}, 4)
    own_source(tmp_path)
    assert capsys.readouterr().err == ""
    change(tmp_path)
    own_source(tmp_path)
    assert told in capsys.readouterr().err


def test_photographs_that_are_turned_without_their_masks_are_told_or_refused(tmp_path, capsys):
    photographs(tmp_path / "upside down", {"cat": 255 * MASK}, exif=3)
    assert "1 of 1 photographs that were looked at are turned upright by their EXIF orientation" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"cat.png: mask is 48x64, its picture is 64x48 \(turned by its EXIF orientation\)"):
        photographs(tmp_path / "sideways", {"cat": 255 * MASK}, exif=6)
    photographs(tmp_path / "as they are", {"cat": 255 * MASK})
    assert capsys.readouterr().err == ""


def test_masks_without_a_photograph_and_folders_further_below_are_told(tmp_path, capsys):
    photographs(tmp_path, {"cat": 255 * MASK})
    Image.fromarray(255 * MASK).save(tmp_path / "dog.png")
    assert len(photographs(tmp_path, {})) == 1
    assert "training without the masks dog.png, to which there is no photograph" in capsys.readouterr().err
    (tmp_path / "dog.heic").write_bytes(b"x")
    photographs(tmp_path / "more/below", {"cow": 255 * MASK})
    photographs(tmp_path, {})
    told = capsys.readouterr().err
    assert "to which there is no photograph (.heic is not read)" in told
    assert "training without what is in more/below" in told


def test_static_data_of_other_masks_is_told(tmp_path, capsys):
    photographs(tmp_path / "ecssd", {"cat": 255 * MASK})
    for name, mask in (("DUTS-TR", MASK), ("fss", 255 * (1 - MASK))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 48)).save(tmp_path / name / "1.jpg")
        Image.fromarray(mask).save(tmp_path / name / "1.png")
    stage_sources(0, {"static_root": tmp_path})
    told = capsys.readouterr().err
    assert "DUTS-TR/1.png: expected the object in white on black" in told
    assert re.search("fss/1.png: white covers .*is it the background", told)
    assert "ecssd/" not in told


def test_where_photographs_are_not_found_what_is_there_is_told(tmp_path):
    (tmp_path / "train/images").mkdir(parents=True)
    (tmp_path / "train/masks").mkdir()
    with pytest.raises(InputError, match=r"expected photographs .*, found train; did you mean .*/train\?"):
        photographs(tmp_path, {})
