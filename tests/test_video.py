"""DAVIS and YouTube-VOS on disk: every supported layout, and one clear line for each problem."""

import json
import shutil

import numpy as np
import pytest
from conftest import write_davis, write_video
from PIL import Image

from dataset.davis import davis_videos
from dataset.video_names import read_image_set
from dataset.vos import VideoClips
from dataset.youtube import annotated_objects, read_youtube_meta, youtube_videos
from util.errors import InputError
from util.label_map import colour_map, read_label_map, write_label_map

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
    return write_davis(tmp_path / "2017/trainval", {name: [labels(1, 2)] * 3 for name in ("cat", "dog")})


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


def test_davis_without_frames_of_which_there_are_masks_is_left_out(davis):
    (davis / "JPEGImages/480p/cat/00001.jpg").unlink()
    with pytest.raises(InputError, match=r"JPEGImages/480p/cat: lacks 00001, of which there are masks"):
        davis_videos(davis)
    left_out: list[str] = []
    assert [video.name for video in davis_videos(davis, left_out=left_out)] == ["dog"]
    assert "lacks 00001" in left_out[0]


def test_testdev_has_first_masks_and_no_truth(davis):
    root = davis.parent / "test-dev"
    davis.rename(root)
    shutil.move(root / "ImageSets/2017/val.txt", root / "ImageSets/2017/test-dev.txt")
    for path in (root / "Annotations").rglob("0000[12].png"):
        path.unlink()
    videos = davis_videos(root.parent, split="testdev")
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
def test_davis_2016_finds_its_image_set_and_has_one_object(place, text, tmp_path):
    davis_2016(tmp_path / "2016")
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(text)
    (video,) = davis_videos(tmp_path / "2016", year=2016)
    assert video.name == "cat"
    assert len(video) == 3
    mask = next(video.frames()).mask
    assert set(np.unique(mask)) == {0, 1}
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
def test_frames_come_in_order_up_to_the_last_wanted_one_with_any_number_of_workers(workers, youtube):
    (video,) = youtube_videos(youtube)
    frames = list(video.frames(workers=workers))
    assert [frame.name for frame in frames] == [f"{t:05d}" for t in range(11)]
    assert [frame.wanted for frame in frames] == [t % 5 == 0 for t in range(11)]
    assert frames[3].image.shape == (*SIZE, 3)
    meta = {"late": {"objects": {"2": {"category": "cat", "frames": ["00000", "00005"]}}}}
    (youtube / "valid/meta.json").write_text(json.dumps({"videos": meta}))
    (video,) = youtube_videos(youtube)
    assert [frame.name for frame in video.frames(workers=workers)] == [f"{t:05d}" for t in range(6)]


def test_only_an_objects_first_mask_is_input_or_every_mask_where_asked(youtube):
    write_label_map(youtube / "valid/Annotations/late/00005.png", labels(5, 0, 7), colour_map())
    write_label_map(youtube / "valid/Annotations/late/00010.png", labels(2, 5, 7), colour_map())
    assert given_in(youtube_videos(youtube)[0]) == {"00000": [0, 2, 5], "00005": [0, 7]}
    every = given_in(youtube_videos(youtube, all_masks=True)[0])
    assert every == {"00000": [0, 2, 5], "00005": [0, 5, 7], "00010": [0, 2, 5, 7]}


def test_masks_that_do_not_number_objects_as_the_list_does_are_refused(youtube, capsys):
    """As RGB, its colours would be numbered as they come; as greyscale, by their brightness: the server would see others."""
    paths = sorted((youtube / "valid/Annotations/late").iterdir())
    saved = {path: path.read_bytes() for path in paths}
    youtube_videos(youtube)
    for mode, found in (("RGB", "1, 2, 3"), ("L", "53, 75, 128")):
        for path, content in saved.items():
            path.write_bytes(content)
            with Image.open(path) as image:
                converted = image.convert(mode)
            if mode == "RGB":  # the colours of another program
                converted = Image.fromarray(np.array(converted)[..., ::-1] // 2 * 3 // 2)
            converted.save(path)
        with pytest.raises(InputError, match=rf"late: expected objects 2, 5, 7, as in .*meta.json, found {found}; save"):
            youtube_videos(youtube)
    paths[0].write_bytes(saved[paths[0]])
    paths[1].write_bytes(saved[paths[1]][:-20])
    youtube_videos(youtube)  # a broken mask is told when its video is segmented
    paths[1].unlink()
    capsys.readouterr()
    youtube_videos(youtube)
    assert "warning: late: expected objects 2, 5, 7, as in" in capsys.readouterr().err


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


def test_the_first_truth_of_an_object_is_scored_unless_it_is_input(youtube, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(youtube / "all_frames/valid_all_frames/JPEGImages", own / "JPEGImages")
    for folder, frames in (("Annotations", (0,)), ("truth", (2, 4))):
        for t in frames:
            write_label_map(own / f"{folder}/late/{t:05d}.png", labels(0, 3), None)
    (video,) = youtube_videos(own, truth=own / "truth")
    assert annotated_objects(video)[3].frames == ("00000", "00002", "00004")  # the first of which counts as input


def test_frames_before_an_objects_mask_cannot_be_known_and_are_not_scored(youtube, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(youtube / "all_frames/valid_all_frames/JPEGImages", own / "JPEGImages")
    for t in range(11):
        write_label_map(own / f"truth/late/{t:05d}.png", labels(0, 3, 4), None)
    write_label_map(own / "Annotations/late/00000.png", labels(0, 3), None)
    write_label_map(own / "Annotations/late/00008.png", labels(0, 4), None)
    (video,) = youtube_videos(own, truth=own / "truth")
    assert annotated_objects(video)[3].frames == tuple(f"{t:05d}" for t in range(11))
    assert annotated_objects(video)[4].frames == ("00008", "00009", "00010")


@pytest.fixture
def own(tmp_path):
    """The user's own data set: two videos of four frames each."""
    root = tmp_path / "own"
    for name in ("cat", "dog"):
        write_video(root / "JPEGImages" / name, root / "Annotations" / name, [labels(1), *[None] * 3])
    return root


@pytest.mark.parametrize("whole", ["JPEGImages", "Annotations"])
def test_a_half_of_ones_own_data_is_told_what_both_layouts_are(whole, own, tmp_path):
    (tmp_path / "half").mkdir()
    shutil.copytree(own / whole, tmp_path / "half" / whole)
    expected = r"half: expected JPEGImages/ and Annotations/ in it \(your own videos\) or valid/ \(YouTube-VOS\), found "
    with pytest.raises(InputError, match=f"{expected}{whole}$"):
        youtube_videos(tmp_path / "half")


def test_a_video_that_lacks_its_masks_or_its_frames_is_named(own):
    shutil.rmtree(own / "Annotations/dog")
    with pytest.raises(InputError, match=r"JPEGImages: expected masks of each video in .*Annotations, found none of dog$"):
        youtube_videos(own)
    shutil.copytree(own / "Annotations/cat", own / "Annotations/dog")
    shutil.rmtree(own / "JPEGImages/cat")
    with pytest.raises(InputError, match=r"JPEGImages/cat: no such folder, but .*Annotations lists cat$"):
        youtube_videos(own)


def given_in(video) -> dict[str, list[int]]:
    """The values of the input masks, by frame."""
    return {frame.name: np.unique(frame.mask).tolist() for frame in video.frames() if frame.mask is not None}


def test_white_on_black_is_object_1_and_comes_back_as_such(own):
    for t in (0, 2):
        write_label_map(own / f"Annotations/cat/0000{t}.png", labels(255), None if t else colour_map())
    cat, dog = youtube_videos(own, all_masks=True, truth=own / "Annotations")
    assert (cat.reader.known.white, dog.reader.known.white) == (True, False)
    assert given_in(cat) == {"00000": [0, 1], "00002": [0, 1]}
    assert given_in(youtube_videos(own)[0]) == {"00000": [0, 1]}
    assert annotated_objects(cat).keys() == {1}
    cat.write_mask(own / "out.png", labels(1))
    assert np.array_equal(read_label_map(own / "out.png").labels, labels(1))
    assert read_label_map(own / "out.png").palette == colour_map()  # so that object 1 is visible


@pytest.mark.parametrize("form", ["coloured", "our colours", "one file for each object"])
def test_masks_of_ones_own_data_come_in_the_forms_of_labelling_tools(form, own):
    folder = own / "Annotations/cat"
    (folder / "00000.png").unlink()
    colours = np.frombuffer(colour_map(), np.uint8).reshape(256, 3)
    for t, shown in ((0, (0, 2)), (2, (1, 2))):
        if form == "one file for each object":
            for number in set(shown) - {0}:
                write_label_map(folder / f"{number - 1:03d}/0000{t}.png", (labels(*shown) == number) * np.uint8(255), None)
        else:
            of_id = colours if form == "our colours" else np.array([(0, 0, 0), (250, 20, 20), (20, 250, 20)], np.uint8)
            Image.fromarray(of_id[labels(*shown)]).save(folder / f"0000{t}.png")
    (video,) = (video for video in youtube_videos(own, truth=own / "Annotations") if video.name == "cat")
    # colours of one's own are numbered in order of appearance
    expected = {"00000": [0, 1], "00002": [0, 2]} if form == "coloured" else {"00000": [0, 2], "00002": [0, 1]}
    assert given_in(video) == expected
    assert [np.unique(video.read_mask(path)).tolist() for path in video.truth.values()][1] == [0, 1, 2]
    clips = VideoClips(own / "JPEGImages", own / "Annotations", ["cat"], crop=16)
    assert len(clips.annotated(0)) == 2
    clips.draw(0, np.random.default_rng(0), max_skip=1)


@pytest.mark.parametrize("palette", [None, colour_map()], ids=["grey", "paletted"])
def test_255_that_is_left_alone_stays_ignored_in_a_video_that_numbers_its_objects(palette, own):
    for t, ids in enumerate([(3, 255), (255,), (0, 255, 9)]):
        write_label_map(own / f"Annotations/cat/0000{t}.png", labels(*ids), palette)
    video = youtube_videos(own, truth=own / "Annotations")[0]
    assert given_in(video) == {"00000": [0, 3], "00002": [0, 9]}
    assert {number: scored.frames for number, scored in annotated_objects(video).items()} == {
        3: ("00000", "00001", "00002"),
        9: ("00002",),
    }


@pytest.mark.parametrize(
    ("first", "second", "all_masks", "message"),
    [
        ((255,), (255, 7), False, r"cat/00001.png: expected white on black"),
        ((7,), (255,), True, r"cat/00001.png: expected numbered objects"),
    ],
)
def test_masks_that_fit_no_meaning_of_255_end_their_video(first, second, all_masks, message, own):
    write_label_map(own / "Annotations/cat/00000.png", labels(*first), None)
    write_label_map(own / "Annotations/cat/00001.png", labels(*second), None)
    with pytest.raises(InputError, match=message):
        list(youtube_videos(own, all_masks=all_masks)[0].frames())


def test_truth_that_means_another_thing_by_255_is_refused(own, tmp_path):
    shutil.copytree(own / "Annotations", tmp_path / "truth")
    write_label_map(tmp_path / "truth/dog/00000.png", labels(255), None)
    with pytest.raises(InputError, match=r"truth/dog: expected numbered objects, .*found white on black$"):
        youtube_videos(own, truth=tmp_path / "truth")


@pytest.mark.parametrize("layout", ["own", "YouTube-VOS"])
def test_empty_masks_before_the_first_object_say_that_there_is_none_yet(layout, own, youtube):
    masks = own / "Annotations/cat" if layout == "own" else youtube / "valid/Annotations/late"
    for t in range(3):
        write_label_map(masks / f"0000{t}.png", labels(*[5] * (t // 2)), colour_map())
    video = youtube_videos(own if layout == "own" else youtube)[0]
    assert next(iter(given_in(video))) == "00002"
    for mask in masks.iterdir():
        write_label_map(mask, labels(), colour_map())
    count = len(list(masks.iterdir()))
    with pytest.raises(InputError, match=rf"00000.png: expected an object, found a mask .* and so are all {count} masks of"):
        youtube_videos(own if layout == "own" else youtube)


def test_frames_of_several_formats_come_in_the_order_of_their_numbers(own):
    frames = sorted((own / "JPEGImages/cat").iterdir())
    for path, name in zip(frames, ("2.tif", "9.webp", "10.bmp", "11.jpeg"), strict=True):
        with Image.open(path) as image:
            image.save(path.with_name(name))
        path.unlink()
    (own / "Annotations/cat/00000.png").rename(own / "Annotations/cat/2.png")
    video = youtube_videos(own)[0]
    assert [frame.name for frame in video.frames()] == ["2", "9", "10", "11"]
    assert given_in(video) == {"2": [0, 1]}


@pytest.mark.parametrize("given", ["2016", "2017", "2017/trainval"])
def test_a_missing_2016_set_is_looked_for_in_places_that_make_sense(given, tmp_path):
    (tmp_path / "DAVIS/2017/trainval/JPEGImages").mkdir(parents=True)
    (tmp_path / "DAVIS/2016/JPEGImages").mkdir(parents=True)
    with pytest.raises(InputError, match=r"ImageSets/2016/val.txt: no such image set") as caught:
        davis_videos(tmp_path / "DAVIS" / given, year=2016)
    assert "2017/2017" not in str(caught.value)
    assert "DAVIS/2017/trainval/ImageSets/2016/val.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_youtube_without_all_frames_uses_its_own_and_output_all_needs_no_meta(youtube):
    assert read_youtube_meta(youtube / "valid/meta.json")["late"][7] == ("cat", ("00005", "00010"))
    shutil.move(youtube / "all_frames/valid_all_frames/JPEGImages", youtube / "valid/JPEGImages")
    shutil.rmtree(youtube / "all_frames")
    assert [video.name for video in youtube_videos(youtube)] == ["late"]
    (youtube / "valid/meta.json").unlink()
    with pytest.raises(InputError, match=r"meta.json: no such file; .*--output_all"):
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


DAVIS_BREAKS = {  # by a part of the message, what is done to DAVIS
    r"trainval: expected trainval/JPEGImages/ or JPEGImages/ in it or in 2017/, found Annotations, ImageSets": (
        lambda root: shutil.rmtree(root / "JPEGImages")
    ),
    r"ImageSets/2017/val.txt: no such image set": lambda root: (root / LIST).unlink(),
    r"ImageSets/2017/val.txt: expected names of videos, found an empty file": lambda root: (root / LIST).write_text("\n"),
    r"480p/fox: no such folder, but .*val.txt lists fox": lambda root: (root / LIST).write_text("cat\nfox\n"),
    r"480p/dog: expected frames \(jpg, png, webp, bmp or tif\), found an empty folder": lambda root: emptied(
        (root / IMAGE).parent
    ),
    r"dog/00000.png: no such mask; dog has none for its first frame": lambda root: (root / MASK).unlink(),
    r"dog/00000.png: expected one plain .* for each object, found": lambda root: Image.fromarray(NOISE).save(root / MASK),
    r"dog/00000.png: expected an object, found a mask that is 0 everywhere$": (
        lambda root: write_label_map(root / MASK, labels(), colour_map())
    ),
    r"dog/00000.png: no such mask; found 00000.jpg, save masks as PNG$": lambda root: (
        Image.fromarray(labels(1)).save((root / MASK).with_suffix(".jpg")),
        (root / MASK).unlink(),
    ),
    r"480p/dog: expected one picture of each name, found 00001.jpg and 00001.png$": (
        lambda root: Image.fromarray(labels(1)).save((root / IMAGE).with_name("00001.png"))
    ),
    r"dog/00000.png: cannot read this image": lambda root: cut(root / MASK, 60),
    r"dog/00000.jpg: cannot read this image": lambda root: cut(root / IMAGE, 200),
}
LIST, MASK, IMAGE = "ImageSets/2017/val.txt", "Annotations/480p/dog/00000.png", "JPEGImages/480p/dog/00000.jpg"
NOISE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def emptied(folder) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def cut(path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("message", DAVIS_BREAKS)
def test_bad_davis_input_is_told_before_work_starts(message, davis):
    DAVIS_BREAKS[message](davis)
    with pytest.raises(InputError, match=message) as caught:
        davis_videos(davis)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: expected .*found no such folder"):
        davis_videos(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"nowhere: expected JPEGImages/ .* or valid/ .*found no such folder$"):
        youtube_videos(tmp_path / "nowhere")
    with pytest.raises(InputError, match="DAVIS 2016 has only val"):
        davis_videos(tmp_path, split="testdev", year=2016)


ALL_FRAMES, GIVEN = "all_frames/valid_all_frames/JPEGImages", "valid/Annotations/late"
YOUTUBE_BREAKS = {  # likewise
    r"meta.json: expected JSON": lambda root: (root / "valid/meta.json").write_text("{"),
    r"meta.json: expected videos/<video>/objects/<id>/frames": (
        lambda root: (root / "valid/meta.json").write_text('{"videos": [1, 2]}')
    ),
    r"meta.json: lists late/00099": lambda root: (root / "valid/meta.json").write_text(
        (root / "valid/meta.json").read_text().replace("00010", "00099")
    ),
    r"late: expected a mask of at least one frame": lambda root: emptied(root / GIVEN),
    r"JPEGImages/late: no such folder, but .*meta.json lists late": lambda root: shutil.rmtree(root / ALL_FRAMES / "late"),
    r"valid/JPEGImages: no such folder, nor .*all_frames/valid_all_frames/JPEGImages$": (
        lambda root: shutil.rmtree(root / "all_frames")
    ),
    r"valid/Annotations: no such folder$": lambda root: shutil.rmtree(root / "valid/Annotations"),
    r"Annotations/late: found 00020.png, but no such frames in .*JPEGImages/late$": (
        lambda root: write_label_map(root / GIVEN / "00020.png", labels(2), colour_map())
    ),
    r"Annotations/late: expected one picture of each name, found 00005.bmp and 00005.png$": (
        lambda root: Image.fromarray(labels(2)).save(root / GIVEN / "00005.bmp")
    ),
    r"late/00005.png: expected a mask as PNG, found JPEG": (
        lambda root: Image.fromarray(labels(2)).save(root / GIVEN / "00005.png", format="JPEG")
    ),
    r"late/00005.png: mask is 23x32, its frame is 24x32": (
        lambda root: write_label_map(root / GIVEN / "00005.png", labels(0, 0, 7)[1:], colour_map())
    ),
}


@pytest.mark.parametrize("message", YOUTUBE_BREAKS)
def test_bad_youtube_input_is_told_before_work_starts(message, youtube):
    YOUTUBE_BREAKS[message](youtube)
    with pytest.raises(InputError, match=message):
        youtube_videos(youtube)


def test_a_later_frame_of_another_size_is_named_when_it_comes(davis):
    Image.fromarray(np.zeros((20, 32, 3), np.uint8)).save(davis / "JPEGImages/480p/cat/00001.jpg")
    frames = davis_videos(davis)[0].frames()
    next(frames)
    with pytest.raises(InputError, match=r"cat/00001.jpg: frame is 20x32, the first one is 24x32"):
        next(frames)


def test_masks_may_be_gifs_and_folders_links_to_elsewhere(own):
    folder = own / "Annotations/cat"
    (folder / "00000.png").unlink()
    Image.fromarray(labels(1)).save(folder / "00000.gif")
    for part in ("JPEGImages", "Annotations"):
        (own / part).rename(own / f"elsewhere{part}")
        (own / part).symlink_to(f"elsewhere{part}")
        for clutter in ("@eaDir", "lost+found", ".git"):
            (own / part / clutter).mkdir()
            (own / part / clutter / "00000.jpg").touch()
        (own / part / "Thumbs.db").touch()
    (video,) = (video for video in youtube_videos(own) if video.name == "cat")
    assert given_in(video)["00000"] == [0, 1]


def test_names_in_lists_may_hold_spaces(tmp_path):
    path = tmp_path / "val.txt"
    path.write_text("ant\n two words \n\n")
    assert read_image_set(path) == ["ant", "two words"]
    lines = [f"/JPEGImages/480p/{name}/00000.jpg /Annotations/480p/{name}/00000.png 1 0" for name in ("ant", "two words")]
    path.write_text("\n".join(lines))
    assert read_image_set(path) == ["ant", "two words"]
