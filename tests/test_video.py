"""How DAVIS and YouTube-VOS lie on disk: every layout that is read, and one clear line for what is wrong."""

import json
import shutil

import numpy as np
import pytest
from conftest import write_video
from PIL import Image

from dataset.video import annotated_objects, davis_videos, read_youtube_meta, youtube_videos
from util.errors import InputError
from util.image import colour_map, read_label_map, write_label_map

SIZE = (24, 32)


def labels(*ids: int) -> np.ndarray:
    """A label map with a square for each id."""
    result = np.zeros(SIZE, dtype=np.uint8)
    for i, number in enumerate(ids):
        result[4:12, 2 + 10 * i : 10 + 10 * i] = number
    return result


@pytest.fixture
def davis(tmp_path):
    """DAVIS 2017 trainval with two videos of three frames."""
    root = tmp_path / "2017" / "trainval"
    for name in ("cat", "dog"):
        write_video(root / "JPEGImages/480p" / name, root / "Annotations/480p" / name, [labels(1, 2)] * 3)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("cat\ndog\n\n")
    return root


@pytest.fixture
def youtube(tmp_path):
    """YouTube-VOS valid: one video of eleven frames, annotated every fifth, where object 7 enters at the second of them."""
    root = tmp_path / "YouTube"
    masks = [None] * 11
    masks[0], masks[5] = labels(2, 5), labels(0, 0, 7)
    write_video(root / "all_frames/valid_all_frames/JPEGImages/late", root / "valid/Annotations/late", masks)
    objects = {"2": ["00000", "00005", "00010"], "5": ["00000", "00005", "00010"], "7": ["00005", "00010"]}
    meta = {"late": {"objects": {i: {"category": "cat", "frames": frames} for i, frames in objects.items()}}}
    (root / "valid/meta.json").write_text(json.dumps({"videos": meta}))
    return root


def test_davis_2017_is_found_with_and_without_trainval(davis):
    for path in (davis.parent, davis):
        videos = davis_videos(path)
        assert [video.name for video in videos] == ["cat", "dog"]
        assert [path.stem for path in videos[0].images] == ["00000", "00001", "00002"]
        assert videos[0].wanted == {"00000", "00001", "00002"} == set(videos[0].truth)
        assert list(videos[0].masks) == ["00000"]


def test_testdev_has_first_masks_and_no_truth(davis):
    root = davis.parent / "test-dev"
    shutil.copytree(davis, root)
    shutil.move(root / "ImageSets/2017/val.txt", root / "ImageSets/2017/test-dev.txt")
    for name in ("cat", "dog"):
        for frame in ("00001", "00002"):
            (root / "Annotations/480p" / name / f"{frame}.png").unlink()
    videos = davis_videos(davis.parent, split="testdev")
    assert [list(video.truth) for video in videos] == [["00000"], ["00000"]]
    assert videos[0].without_truth == ["cat/00001", "cat/00002"]
    assert [frame.mask is not None for frame in videos[0].frames()] == [True, False, False]


def davis_2016(root) -> None:
    for name in ("cat", "dog"):
        union = (labels(1, 2) != 0) * np.uint8(255)
        write_video(root / "JPEGImages/480p" / name, root / "Annotations/480p" / name, [union] * 3, palette=None)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("2016/ImageSets/2016/val.txt", "cat\n"),
        ("2017/trainval/ImageSets/2016/val.txt", "cat\n"),
        (
            "2016/ImageSets/480p/val.txt",
            "/JPEGImages/480p/cat/00000.jpg /Annotations/480p/cat/00000.png\n"
            "/JPEGImages/480p/cat/00001.jpg /Annotations/480p/cat/00001.png\n",
        ),
    ],
)
def test_davis_2016_finds_its_image_set(place, text, tmp_path):
    davis_2016(tmp_path / "2016")
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(text)
    (video,) = davis_videos(tmp_path / "2016", year=2016)
    assert video.name == "cat"
    assert len(video) == 3
    assert set(np.unique(next(video.frames()).mask)) == {0, 1}


def test_davis_2016_is_one_object_in_and_out(tmp_path):
    davis_2016(tmp_path)
    (tmp_path / "ImageSets/2016").mkdir(parents=True)
    (tmp_path / "ImageSets/2016/val.txt").write_text("dog\n")
    (video,) = davis_videos(tmp_path, year=2016)
    mask = next(video.frames()).mask
    video.write_mask(tmp_path / "out.png", mask)
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.array(image), mask * 255)


def test_the_palette_of_the_data_set_is_that_of_the_results(davis, tmp_path):
    palette = bytes(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8))
    write_label_map(davis / "Annotations/480p/cat/00000.png", labels(1, 2), palette)
    cat, dog = davis_videos(davis)
    for video, expected in ((cat, palette), (dog, colour_map())):
        video.write_mask(tmp_path / "out.png", labels(1))
        with Image.open(tmp_path / "out.png") as image:
            assert bytes(image.getpalette()) == expected


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_frames_come_in_order_with_any_number_of_workers(workers, youtube):
    (video,) = youtube_videos(youtube)
    frames = list(video.frames(workers=workers))
    assert [frame.name for frame in frames] == [f"{t:05d}" for t in range(11)]
    assert [frame.wanted for frame in frames] == [t % 5 == 0 for t in range(11)]
    assert frames[3].image.shape == (*SIZE, 3)


def test_only_an_objects_first_mask_is_input(youtube):
    write_label_map(youtube / "valid/Annotations/late/00005.png", labels(5, 0, 7), colour_map())
    write_label_map(youtube / "valid/Annotations/late/00010.png", labels(2, 5, 7), colour_map())
    (video,) = youtube_videos(youtube)
    given = {frame.name: np.unique(frame.mask).tolist() for frame in video.frames() if frame.mask is not None}
    assert given == {"00000": [0, 2, 5], "00005": [0, 7]}


def test_every_mask_is_input_where_asked(youtube):
    write_label_map(youtube / "valid/Annotations/late/00005.png", labels(5, 0, 7), colour_map())
    (video,) = youtube_videos(youtube, all_masks=True)
    given = {frame.name: np.unique(frame.mask).tolist() for frame in video.frames() if frame.mask is not None}
    assert given["00005"] == [0, 5, 7]


def test_a_data_set_of_ones_own_needs_neither_meta_nor_split(youtube, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(youtube / "valid/Annotations", own / "Annotations")
    shutil.copytree(youtube / "all_frames/valid_all_frames/JPEGImages", own / "JPEGImages")
    (theirs,), (video,) = youtube_videos(youtube, output_all=True), youtube_videos(own, truth=own / "Annotations")
    assert video.wanted == theirs.wanted == frozenset(f"{t:05d}" for t in range(11))
    assert [path.name for path in video.images] == [path.name for path in theirs.images]
    objects = annotated_objects(video)
    assert objects.keys() == {n for mask in video.truth.values() for n in np.unique(read_label_map(mask).labels)} - {0}
    for number, scored in objects.items():
        assert number in read_label_map(video.truth[scored.frames[0]]).labels


def test_frames_behind_the_last_wanted_one_are_not_read(youtube):
    meta = {"late": {"objects": {"2": {"category": "cat", "frames": ["00000", "00005"]}}}}
    (youtube / "valid/meta.json").write_text(json.dumps({"videos": meta}))
    (video,) = youtube_videos(youtube)
    assert [frame.name for frame in video.frames()][-1] == "00005"


def test_youtube_without_all_frames_uses_its_own(youtube):
    shutil.move(youtube / "all_frames/valid_all_frames/JPEGImages", youtube / "valid/JPEGImages")
    shutil.rmtree(youtube / "all_frames")
    assert [video.name for video in youtube_videos(youtube)] == ["late"]


def test_output_all_wants_every_frame_and_no_meta(youtube):
    (youtube / "valid/meta.json").unlink()
    with pytest.raises(InputError, match=r"meta.json: no such file; --output_all"):
        youtube_videos(youtube)
    (video,) = youtube_videos(youtube, output_all=True)
    assert len(video.wanted) == 11


def test_what_else_lies_about_is_ignored(davis, youtube):
    for folder in (davis / "JPEGImages/480p/cat", davis / "Annotations/480p/cat", youtube / "valid/Annotations/late"):
        for name in (".DS_Store", "Thumbs.db", "._00000.jpg", ".00000.png", "notes.txt"):
            (folder / name).write_bytes(b"\x00\x01")
    (youtube / "valid/Annotations/.DS_Store").write_bytes(b"")
    (youtube / "valid/Annotations/notes.txt").write_bytes(b"")
    assert len(davis_videos(davis)[0]) == 3
    assert [len(video) for video in youtube_videos(youtube, output_all=True)] == [11]


def test_meta_gives_categories_and_frames(youtube):
    meta = read_youtube_meta(youtube / "valid/meta.json")
    assert meta["late"][7] == ("cat", ("00005", "00010"))


def break_davis(root, how: str) -> None:
    mask, image = root / "Annotations/480p/dog/00000.png", root / "JPEGImages/480p/dog/00000.jpg"
    if how == "no images":
        shutil.rmtree(root / "JPEGImages")
    elif how == "no image set":
        (root / "ImageSets/2017/val.txt").unlink()
    elif how == "empty image set":
        (root / "ImageSets/2017/val.txt").write_text("\n")
    elif how == "absent video":
        (root / "ImageSets/2017/val.txt").write_text("cat\nfox\n")
    elif how == "no frames":
        shutil.rmtree(image.parent)
        image.parent.mkdir()
    elif how == "no first mask":
        mask.unlink()
    elif how == "mask of another size":
        write_label_map(mask, labels(1)[:, 1:], colour_map())
    elif how == "RGB mask":
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(mask)
    elif how == "mask without object":
        write_label_map(mask, labels(255), colour_map())
    elif how == "unreadable mask":
        mask.write_bytes(mask.read_bytes()[:60])
    elif how == "unreadable frame":
        image.write_bytes(image.read_bytes()[:200])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no images", r"trainval: expected trainval/JPEGImages/ or JPEGImages/ in it, found Annotations, ImageSets"),
        ("no image set", r"ImageSets/2017/val.txt: no such image set"),
        ("empty image set", r"ImageSets/2017/val.txt: expected names of videos, found an empty file"),
        ("absent video", r"480p/fox: no such folder, but .*val.txt lists fox"),
        ("no frames", r"480p/dog: expected frames \(jpg or png\), found an empty folder"),
        ("no first mask", r"dog/00000.png: no such mask"),
        ("mask of another size", r"dog/00000.png: mask is 24x31, its frame is 24x32"),
        ("RGB mask", r"dog/00000.png: expected a label map .*, found mode RGB"),
        ("mask without object", r"dog/00000.png: expected an object, found only the values 0, 255"),
        ("unreadable mask", r"dog/00000.png: cannot read this image"),
        ("unreadable frame", r"dog/00000.jpg: cannot read this image"),
    ],
)
def test_bad_davis_input_is_told_before_work_starts(how, message, davis):
    break_davis(davis, how)
    with pytest.raises(InputError, match=message) as caught:
        davis_videos(davis)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: expected .*found no such folder"):
        davis_videos(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"nowhere/valid/Annotations: no such folder"):
        youtube_videos(tmp_path / "nowhere")
    with pytest.raises(InputError, match="DAVIS 2016 has only val"):
        davis_videos(tmp_path, split="testdev", year=2016)


def break_youtube(root, how: str) -> None:
    meta = root / "valid/meta.json"
    if how == "meta is no JSON":
        meta.write_text("{")
    elif how == "meta of another shape":
        meta.write_text('{"videos": [1, 2]}')
    elif how == "a frame that is not there":
        meta.write_text(meta.read_text().replace("00010", "00099"))
    elif how == "no mask":
        shutil.rmtree(root / "valid/Annotations/late")
        (root / "valid/Annotations/late").mkdir()
    elif how == "absent video":
        shutil.rmtree(root / "all_frames/valid_all_frames/JPEGImages/late")
    elif how == "late mask of another size":
        write_label_map(root / "valid/Annotations/late/00005.png", labels(0, 0, 7)[1:], colour_map())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("meta is no JSON", r"meta.json: expected JSON"),
        ("meta of another shape", r"meta.json: expected videos/<video>/objects/<id>/frames"),
        ("a frame that is not there", r"meta.json: asks for late/00099"),
        ("no mask", r"late: expected a mask of at least one frame"),
        ("absent video", r"JPEGImages/late: no such folder, but .*meta.json lists late"),
        ("late mask of another size", r"late/00005.png: mask is 23x32, its frame is 24x32"),
    ],
)
def test_bad_youtube_input_is_told_before_work_starts(how, message, youtube):
    break_youtube(youtube, how)
    with pytest.raises(InputError, match=message):
        youtube_videos(youtube)


def test_a_later_frame_of_another_size_is_named_when_it_comes(davis):
    Image.fromarray(np.zeros((20, 32, 3), np.uint8)).save(davis / "JPEGImages/480p/cat/00001.jpg")
    frames = davis_videos(davis)[0].frames()
    next(frames)
    with pytest.raises(InputError, match=r"cat/00001.jpg: frame is 20x32, the first one is 24x32"):
        next(frames)
