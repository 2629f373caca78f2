"""The masks that people give for a video of their own: files, folders, arrays and JSON, and the frames they are for."""

import base64
import io
import json
import os

import cv2
import numpy as np
import pytest
from conftest import PALETTE
from films import SIZE, picture, square, write_film, write_folder
from PIL import Image

from dataset.given_masks import keep_objects, read_given_masks
from dataset.mask_frames import parse_masks
from dataset.mask_reader import MaskReader
from dataset.own_video import open_video
from dataset.shapes import _segmentation, decode_rle, encode_rle, fill_polygon
from dataset.sources import own_videos
from util.errors import InputError
from util.image import read_image
from util.label_map import object_ids, read_label_map, write_label_map

ONE, TWO = square((4, 4)), square((4, 4), (30, 20))
SMALL = np.pad(np.ones((5, 7), np.uint8), ((10, 33), (30, 27)))
SECOND = (TWO == 2) * np.uint8(1)
NAMES = [f"{t:05d}" for t in range(1, 13)]  # frame 0 is named 00001


def found_in(*texts: object, names=NAMES, **options) -> dict[int, list[int]]:
    """The objects in each mask, by frame."""
    masks = read_given_masks(parse_masks([str(text) for text in texts]), names, SIZE, **options)
    return {frame: object_ids(mask.labels) for frame, mask in masks.items()}


@pytest.fixture
def drawn(tmp_path):
    """Masks of one square and of two, in the formats that people use."""
    colours = np.array([[0, 0, 0], [255, 255, 255], [250, 10, 10]], np.uint8)
    for name, labels in (("one", ONE), ("two", TWO)):
        Image.fromarray(colours[labels]).save(tmp_path / f"{name}_coloured.png")
        write_label_map(tmp_path / f"{name}_numbered.png", labels, PALETTE)
    write_label_map(tmp_path / "white.png", 255 * ONE, None)
    write_label_map(tmp_path / "second.png", 255 * SECOND, None)
    Image.fromarray(ONE > 0).save(tmp_path / "bits.png")
    write_label_map(tmp_path / "empty.png", 0 * ONE, None)
    Image.fromarray(255 * ONE).save(tmp_path / "photo.jpg")
    return tmp_path


@pytest.mark.parametrize("white", ["white.png", "bits.png", "one_coloured.png"])
def test_white_on_black_is_one_object_however_it_is_saved(white, drawn):
    for other in ("white.png", "bits.png", "one_coloured.png", "one_numbered.png"):
        assert found_in(f"0:{drawn / white}", f"10:{drawn / other}") == {0: [1], 10: [1]}
    assert found_in(f"0:{drawn / white}", f"10:{drawn / 'two_coloured.png'}") == {0: [1], 10: [1, 2]}
    assert found_in(*(f"{t}:{drawn / name}" for t, name in enumerate(["empty.png", "empty.png", white]))) == {2: [1]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("two_numbered.png", "white.png"), r"white.png: expected numbered objects, .*give the object its number$"),
        (("empty.png", "empty.png"), r"empty.png, .*empty.png: expected an object, found none$"),
        (("photo.jpg",), r"photo.jpg: expected a mask as PNG, found JPEG, which changes values; save the mask as PNG$"),
        (("two_numbered.png", "two_coloured.png"), r"two_coloured.png: expected colours of the masks before it .* #fa0a0a"),
        (("nowhere.png",), "nowhere.png: no such file"),
    ],
)
def test_masks_that_would_be_misunderstood_are_refused(names, message, drawn):
    with pytest.raises(InputError, match=message):
        found_in(*(f"{t}:{drawn / name}" for t, name in enumerate(names)))


def test_an_empty_mask_after_the_first_object_says_that_all_are_gone(drawn):
    given = parse_masks([f"{drawn / 'two_numbered.png'}", f"4:{drawn / 'empty.png'}", f"7:{drawn / 'one_numbered.png'}"])
    masks = read_given_masks(given, NAMES, SIZE)
    assert {frame: (object_ids(mask.labels), set(mask.gone)) for frame, mask in masks.items()} == {
        0: ([1, 2], set()),
        4: ([], {1, 2}),
        7: ([1], set()),
    }
    kept = keep_objects(masks, [2])
    assert {frame: (object_ids(mask.labels), set(mask.gone)) for frame, mask in kept.items()} == {
        0: ([2], set()),
        4: ([], {2}),
    }
    with pytest.raises(InputError, match="--objects 3: expected an object of the masks, 1, 2"):
        keep_objects(masks, [3])


def test_a_palette_that_was_put_over_other_indices_is_doubted(tmp_path):
    """Pillow's `convert("P")` makes black 10 or so; DAVIS's palette, put over it, makes that an object."""
    write_label_map(tmp_path / "a.png", np.where(ONE == 0, np.uint8(10), np.uint8(35)), PALETTE)
    with pytest.raises(InputError, match=r"object 10 \(#408000\) covers 92% .* \(--background '#408000'"):
        found_in(tmp_path / "a.png")
    assert found_in(tmp_path / "a.png", background=0x408000) == {0: [35]}
    assert found_in(tmp_path / "a.png", background=0) == {0: [10, 35]}


def test_several_files_for_a_frame_are_one_object_each(drawn):
    both = (f"0:{drawn / 'white.png'}", f"0:{drawn / 'second.png'}")
    assert found_in(*both) == {0: [1, 2]}
    given = parse_masks([*both, f"6:{drawn / 'empty.png'}", f"6:{drawn / 'second.png'}"])
    masks = read_given_masks(given, NAMES, SIZE)
    assert (object_ids(masks[6].labels), set(masks[6].gone)) == ([2], {1})
    with pytest.raises(InputError, match="found 2 for frame 0 and 1 for frame 6; give an empty one"):
        found_in(*both, f"6:{drawn / 'second.png'}")
    with pytest.raises(InputError, match=r"white.png: expected masks of different objects, found one that the others cover"):
        found_in(f"0:{drawn / 'white.png'}", f"0:{drawn / 'bits.png'}")
    with pytest.raises(InputError, match=r"two_numbered.png: expected a mask of one object, found 2"):
        found_in(f"0:{drawn / 'white.png'}", f"0:{drawn / 'two_numbered.png'}")


def test_files_that_differ_in_a_number_are_of_frames_or_of_objects_only_if_that_is_said(drawn):
    for name, like in (("mask_3.png", "white.png"), ("mask_6.png", "second.png"), ("dog.png", "second.png")):
        (drawn / name).write_bytes((drawn / like).read_bytes())
    three, six = drawn / "mask_3.png", drawn / "mask_6.png"
    with pytest.raises(InputError, match=r"mask_3.png and .*mask_6.png of two frames, or of two objects in one\?"):
        found_in(three, six)
    assert found_in(f"0:{three}", f"0:{six}") == {0: [1, 2]}
    assert found_in(f"3:{three}", f"6:{six}") == {3: [1], 6: [1]}
    assert found_in(three, drawn / "dog.png") == {0: [1, 2]}


def test_several_files_for_a_frame_are_the_same_objects_in_every_frame(drawn):
    for name in ("a", "b"):
        (drawn / name).mkdir()
        for number, mask in (("1", "white.png"), ("2", "second.png")):
            (drawn / name / f"{number}.png").write_bytes((drawn / mask).read_bytes())
    first = [f"0:{drawn}/a/1.png", f"0:{drawn}/a/2.png"]
    assert found_in(*first, f"6:{drawn}/b/1.png", f"6:{drawn}/b/2.png") == {0: [1, 2], 6: [1, 2]}
    with pytest.raises(InputError, match=r"expected objects in the same order .*, found 2, 1 for frame 6"):
        found_in(*first, f"6:{drawn}/b/2.png", f"6:{drawn}/b/1.png")


def test_a_folder_for_each_frame_is_none_for_each_object(drawn):
    for frame in ("00001", "00005"):
        (drawn / "a" / frame).mkdir(parents=True)
        for number, mask in (("1", "white.png"), ("2", "second.png")):
            (drawn / "a" / frame / f"{number}.png").write_bytes((drawn / mask).read_bytes())
    with pytest.raises(InputError, match=r"a: expected a folder for each object, .* found one for each frame"):
        found_in(drawn / "a")


@pytest.mark.parametrize("name", ["00005.npy", "5.pgm", "00005.heic"])
def test_masks_of_frames_that_would_be_left_out_are_refused(name, drawn):
    (drawn / "a").mkdir()
    (drawn / "a/00001.png").write_bytes((drawn / "white.png").read_bytes())
    for other in ("mean.npy", "00001.npy"):
        (drawn / "a" / other).write_bytes(b"")
    assert found_in(drawn / "a") == {0: [1]}
    (drawn / "a" / name).write_bytes(b"")
    with pytest.raises(InputError, match=rf"a: cannot read {name} there; save all masks as PNG"):
        found_in(drawn / "a")


@pytest.mark.parametrize("other", ["00001.PNG", "00001.tif"])
def test_objects_files_of_a_frame_have_one_name(other, drawn):
    for number, name, mask in ((1, "00001.png", "white.png"), (2, other, "second.png")):
        (drawn / "a" / str(number)).mkdir(parents=True)
        with Image.open(drawn / mask) as image:
            image.save(drawn / "a" / str(number) / name)
    with pytest.raises(InputError, match=r"expected files of one name for a frame, one for each object, found"):
        found_in(drawn / "a")


def test_two_folders_of_one_file_for_each_object_are_not_one(drawn):
    for name in ("a", "b"):
        for number, mask in ((1, "white.png"), (2, "second.png")):
            (drawn / name / str(number)).mkdir(parents=True)
            (drawn / name / str(number) / "00001.png").write_bytes((drawn / mask).read_bytes())
    assert found_in(drawn / "a") == {0: [1, 2]}
    with pytest.raises(InputError, match="expected a mask of one object, found 2"):
        found_in(drawn / "a", drawn / "b")


def test_a_mask_is_for_the_frame_of_its_name_and_never_for_another(drawn, capsys):
    for name, like in (("00007.png", "white.png"), ("00001.png", "second.png"), ("7.png", "white.png")):
        (drawn / name).write_bytes((drawn / like).read_bytes())
    assert found_in(drawn / "00007.png") == {6: [1]}
    assert "00007.png is for frame 6, by its name" in capsys.readouterr().err
    assert found_in(drawn / "7.png") == {0: [1]}  # it may be an object's number
    assert "if its number is that of a frame, write 6:" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"00007.png is named like frame 6 \(00007\), but given for frame 7"):
        found_in(f"7:{drawn / '00007.png'}")
    assert found_in(f"3:{drawn / '00007.png'}", f"3:{drawn / '00001.png'}") == {3: [1, 2]}  # names of objects
    with pytest.raises(InputError, match=r"--mask 12:.*white.png: the video has frames 0 to 11"):
        found_in(f"12:{drawn / 'white.png'}")
    with pytest.raises(InputError, match="expected FRAME:FILE with a frame from 0 on"):
        parse_masks(["-3:a.png"])


@pytest.mark.parametrize("layout", ["flat", "objects"])
def test_a_folder_of_masks_is_matched_to_frames_by_name(layout, drawn):
    for frame in ("00003", "9"):
        for i, name in enumerate(("white.png", "second.png")):
            path = drawn / "masks" / (frame if layout == "flat" else f"{i:03d}/{frame}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".png").write_bytes((drawn / name).read_bytes())
    assert found_in(drawn / "masks") == ({2: [1], 8: [1]} if layout == "flat" else {2: [1, 2], 8: [1, 2]})
    (path.parent / "99.png").write_bytes((drawn / "white.png").read_bytes())
    with pytest.raises(InputError, match=r"masks: expected masks named like frames \(00001, .* to 00012\), found 99"):
        found_in(drawn / "masks")
    with pytest.raises(InputError, match="masks in a folder go by their names"):
        found_in(f"3:{drawn / 'masks'}")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (7 * TWO, [7, 14]),
        (TWO.astype(np.int64), [1, 2]),
        (ONE > 0, [1]),
        (ONE.astype(float)[None], [1]),
        (np.stack([ONE > 0, SECOND > 0]), [1, 2]),
        (np.stack([ONE, 2 * SECOND]), "masks (N, H, W) of 0 and 1"),
        (ONE / 2, "whole numbers"),
        (np.where(ONE == 0, -1, 3), [3]),
        (TWO.astype(int) - 1, "expected 0 as background, found -1 along most of the border; add 1 to all numbers"),
        (TWO.astype(np.float16), [1, 2]),
        (np.stack([i == TWO for i in range(3)]), "found no pixel outside all 3 of them; leave out the one of the background"),
        (np.array(["a"]), "expected an array (H, W) of numbers"),
        (ONE * 20.0 - 10, "of probabilities, save what is above half"),
        (np.stack([square((x, 4)) for x in (4, 6, 8)]), "(N, H, W), found some that overlap in (3, 48, 64)"),
        (np.stack([ONE, 0 * ONE])[..., None], "(N, H, W), found an empty one in (2, 48, 64)"),
        (np.stack([TWO == 1, TWO == 2], axis=-1), "found an empty one in (48, 64, 2)"),
        (np.stack([square((4 * i, 30 - 2 * i)) for i in range(12)]), "found one for each; save them as PNG"),
        (np.stack([7 * TWO] * 12), "found one for each; save them as PNG"),
        (np.array([{}], dtype=object), "cannot read this array"),
    ],
)
def test_an_array_of_numbers_or_of_masks_is_read(array, expected, tmp_path):
    np.save(tmp_path / "a.npy", array)
    if isinstance(expected, list):
        assert found_in(tmp_path / "a.npy") == {0: expected}
        return
    with pytest.raises(InputError) as caught:
        found_in(tmp_path / "a.npy")
    assert expected in str(caught.value)


def test_a_given_mask_that_is_dithered_is_refused(tmp_path):
    Image.fromarray((np.indices(SIZE).sum(axis=0) % 2 > 0) & (ONE > 0)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a.png: expected plain objects, found \d+ single pixels .* is it dithered"):
        found_in(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.txt", "a.xml", "a.zip", "a.npz", "a.tar.gz", "a.csv"])
def test_what_is_not_read_is_named_with_what_to_export(name, tmp_path):
    (tmp_path / name).write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(InputError, match=rf"{name}: expected a mask as PNG, found .*: export PNG masks or COCO JSON"):
        found_in(tmp_path / name)


def runs(mask: np.ndarray) -> list[int]:
    """COCO's run lengths, down the columns."""
    flat, result, value = mask.T.ravel() != 0, [0], False
    for pixel in flat:
        if pixel != value:
            result.append(0)
            value = pixel
        result[-1] += 1
    return result


def compressed(counts: list[int]) -> str:
    """COCO's text of run lengths."""
    text = ""
    for i, count in enumerate(counts):
        rest = count - (counts[i - 2] if i > 2 else 0)
        while True:
            bits, rest = rest & 31, rest >> 5
            more = not (rest == 0 and not bits & 16) and not (rest == -1 and bits & 16)
            text += chr(48 + (bits | (32 if more else 0)))
            if not more:
                break
    return text


CORNER = [[40, 4], [60, 4], [60, 9]]
BOX = [4, 4, 20, 4, 20, 20, 4, 20]


def annotation(mask: np.ndarray, **facts) -> dict:
    return {"image_id": 1, "category_id": 3, "segmentation": {"size": [*SIZE], "counts": compressed(runs(mask))}, **facts}


def coco(*annotations, images=("00005.jpg",)) -> dict:
    return {
        "images": [{"id": i, "file_name": f"a/{n}", "height": 48, "width": 64} for i, n in enumerate(images, start=1)],
        "categories": [{"id": 3, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": list(annotations),
    }


def vis(*masks: np.ndarray | None, names=("00005.jpg",), **facts) -> dict:
    """YouTube-VIS: one object's masks by frame."""
    segmentations = [None if mask is None else annotation(mask)["segmentation"] for mask in masks]
    return {
        "videos": [{"id": 1, "file_names": [*names], "height": 48, "width": 64}],
        "annotations": [{"id": 6, "video_id": 1, "segmentations": segmentations, **facts}],
    }


def labelme(*shapes, name="00005.jpg") -> dict:
    return {"imagePath": f"..\\frames\\{name}", "imageHeight": 48, "imageWidth": 64, "shapes": list(shapes)}


def shape(label="dog", kind="polygon", points=None, **facts) -> dict:
    return {"label": label, "shape_type": kind, "points": points or [BOX[i : i + 2] for i in range(0, 8, 2)], **facts}


def png_of(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask > 0).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


RUNS = {"segmentation": annotation(ONE)["segmentation"]}
READ = [
    ("compressed", coco(annotation(ONE)), {4: [1]}),
    ("uncompressed", coco(annotation(ONE) | {"segmentation": {"size": [*SIZE], "counts": runs(ONE)}}), {4: [1]}),
    ("polygons", coco(annotation(ONE) | {"segmentation": [BOX]}), {4: [1]}),
    ("a flat polygon", coco(annotation(ONE) | {"segmentation": BOX}), {4: [1]}),
    ("two of a kind", coco(annotation(ONE), annotation(SECOND)), {4: [1, 2]}),
    ("with its box", coco(annotation(ONE, bbox=[4.2, 4.2, 15.5, 15.5])), {4: [1]}),
    ("tracks", coco(annotation(SECOND, track_id=8), annotation(ONE, attributes={"track_id": 3})), {4: [3, 8]}),
    (
        "a track as 3 and 3.0",
        coco(annotation(ONE, track_id=3), annotation(ONE, image_id=2, track_id=3.0), images=("00005.jpg", "00009.jpg")),
        {4: [3], 8: [3]},
    ),
    ("frames", coco(annotation(ONE), annotation(ONE, image_id=2), images=("00005.jpg", "00009.jpg")), {4: [1], 8: [1]}),
    ("SA-1B", {"image": {"file_name": "00005.jpg", "height": 48, "width": 64}, "annotations": [{**RUNS}]}, {4: [1]}),
    ("SAM", [{**RUNS, "area": 256}], {0: [1]}),
    ("one run length", RUNS["segmentation"], {0: [1]}),
    ("labelme", labelme(shape()), {4: [1]}),
    ("labelme rectangle", labelme(shape(kind="rectangle", points=[[20, 4], [4, 20]])), {4: [1]}),
    ("labelme mask", labelme(shape(kind="mask", points=[[4, 4], [19, 19]], mask=png_of(np.ones((16, 16))))), {4: [1]}),
    (
        "labelme group",
        labelme(shape(group_id=1), shape(group_id=1), shape("cat", points=CORNER)),
        {4: [1, 2]},
    ),
    ("unknown categories", coco(annotation(ONE, category_id=8), annotation(SECOND, category_id="9")), {4: [8, 9]}),
    ("no track", coco(annotation(ONE, track_id=-1), annotation(SECOND, category_id=4, instance_id="")), {4: [1, 2]}),
    ("null beside a first mask", vis(None, ONE, None, names=("00001.jpg", "00002.jpg", "00003.jpg")), {1: [6]}),
    (
        "gone, in YouTube-VIS",
        vis(ONE, None, ONE, names=("00001.jpg", "00002.jpg", "00003.jpg")),
        {0: [6], 1: [], 2: [6]},
    ),
    (
        "YouTube-VIS",
        vis(None, ONE, names=("v/00001.jpg", "v/00005.jpg"), bboxes=[None, [4, 4, 16, 16]], areas=[None, 256]),
        {4: [6]},
    ),
]


@pytest.mark.parametrize(("content", "expected"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_shapes_are_read_from_json(content, expected, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert found_in(tmp_path / "a.json") == expected
    (masks, *_) = read_given_masks(parse_masks([str(tmp_path / "a.json")]), NAMES, SIZE).values()
    if expected in ({4: [1]}, {0: [1]}, {4: [6]}):
        assert np.array_equal(masks.labels > 0, ONE)


@pytest.mark.parametrize(
    ("titles", "numbers", "told"),
    [
        (["2", "1"], [2, 1], ""),
        (["car 5", "dog 2"], [5, 2], ""),
        (["car 5", "dog"], [1, 2], "note: object 1 is car 5, 2 is dog\n"),
        (["car 5", "dog 5"], [1, 2], "note: object 1 is car 5, 2 is dog 5\n"),
        (["car 0", "car 1"], [1, 2], "note: object 1 is car 0, 2 is car 1\n"),
        (["car 7", "car 255"], [1, 2], "note: object 1 is car 7, 2 is car 255\n"),
    ],
)
def test_objects_keep_the_numbers_that_json_gives_them_or_it_is_told_which_is_which(titles, numbers, told, tmp_path, capsys):
    first, second = (shape(title, points=points) for title, points in zip(titles, (CORNER, None), strict=True))
    (tmp_path / "a.json").write_text(json.dumps(labelme(first, second)))
    (mask,) = read_given_masks(parse_masks([str(tmp_path / "a.json")]), NAMES, SIZE).values()
    assert [int(mask.labels[5, 58]), int(mask.labels[10, 10])] == numbers
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    "content",
    [
        labelme(shape("car 1", points=CORNER), shape("car", group_id=1)),
        coco(annotation(ONE, category_id=5), annotation(SECOND, track_id=1))
        | {"categories": [{"id": 3, "name": "car"}, {"id": 5, "name": "car 1"}]},
    ],
)
def test_a_name_that_ends_like_another_one_with_its_number_is_refused(content, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"a\.json: expected names that differ, found 'car 1' as a name, and as"):
        read_given_masks(parse_masks([str(tmp_path / "a.json")]), NAMES, SIZE)


def outlines(mask: np.ndarray) -> list[list[float]]:
    """As everybody takes them from pixels with OpenCV."""
    found, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [outline.ravel().tolist() for outline in found if len(outline) > 2]


BLOCK = [10, 10, 50, 10, 50, 50, 10, 50]


def block(width: int, *, hole: bool = False) -> np.ndarray:
    mask = np.zeros((480, 640), np.uint8)
    mask[10:50, 10 : 10 + width] = 1
    mask[14:22, 14:22] = 1 - hole
    return mask


def ring(inner: int) -> np.ndarray:
    mask = cv2.circle(np.zeros((480, 640), np.uint8), (300, 200), 100, 1, cv2.FILLED)
    return cv2.circle(mask, (300, 200), inner, 0, cv2.FILLED) if inner else mask


@pytest.mark.parametrize(
    ("polygons", "area", "expected"),
    [
        (outlines(ring(80)), int(ring(80).sum()), ring(80)),
        (outlines(ring(95)), int(ring(95).sum()), ring(95)),
        (outlines(ring(20)), int(ring(20).sum()), ring(20)),
        (outlines(ring(80)), 201 * 201, ring(0)),  # that of its box, as some write
        (outlines(ring(80)), 0, ring(0)),
        ([BLOCK, [14, 14, 22, 14, 22, 22, 14, 22]], 1536, block(40, hole=True)),  # exact outlines
        ([BLOCK, [40, 10, 80, 10, 80, 50, 40, 50]], 2780, block(70)),  # parts that overlap, and an area that is a little less
    ],
)
def test_polygons_within_others_are_holes_where_the_area_says_so(polygons, area, expected, tmp_path):
    """Also where outlines run through the centres of pixels, and so lose half of those on the edge."""
    content = {
        "images": [{"id": 1, "file_name": "00005.jpg", "height": 480, "width": 640}],
        "annotations": [{"image_id": 1, "segmentation": polygons, "area": area}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    (mask,) = read_given_masks(parse_masks([str(tmp_path / "a.json")]), NAMES, (480, 640)).values()
    sure = cv2.morphologyEx(expected, cv2.MORPH_GRADIENT, np.ones((3, 3))) == 0
    np.testing.assert_array_equal(mask.labels[sure], expected[sure])


def test_titles_that_differ_in_case_are_refused_and_new_ones_are_told(tmp_path, capsys):
    def read(title: str) -> dict:
        for name, label in (("00001", "dog"), ("00005", title)):
            (tmp_path / f"{name}.json").write_text(json.dumps(labelme(shape(label), name=f"{name}.jpg")))
        return read_given_masks(parse_masks([str(tmp_path / "00001.json"), str(tmp_path / "00005.json")]), NAMES, SIZE)

    assert object_ids(read("dog")[4].labels) == [1]
    assert "shares no object" not in capsys.readouterr().err
    assert object_ids(read("cat")[4].labels) == [2]
    assert "00005.json: shares no object with the masks before it" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"00005.json: expected dog, as before, found Dog"):
        read("Dog ")


@pytest.mark.parametrize(("before", "after"), [("dog 1", "dog"), ("dog", "dog 1")])
def test_an_object_with_a_group_in_one_frame_and_without_in_another_is_told(before, after, tmp_path, capsys):
    for name, title in (("00001", before), ("00005", after)):
        label, _, group = title.partition(" ")
        dog = shape(label, group_id=int(group) if group else None)
        other = shape("cat", points=[[30, 20], [40, 20], [40, 30]])
        (tmp_path / f"{name}.json").write_text(json.dumps(labelme(dog, other, name=f"{name}.jpg")))
    assert found_in(tmp_path / "00001.json", tmp_path / "00005.json") == {0: [1, 2], 4: [2, 3]}
    assert f"00005.json: {after} is a new object, not {before}, which" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "names", "like"),
    [
        ("film_00007.png", NAMES, 6),
        ("00007_mask.png", NAMES, 6),
        ("frame_000007.png", NAMES, 6),
        ("00007_jpg.rf.0a1b.png", NAMES, 6),
        ("0007.png", ["a_0006", "a_0007", "a_0008"], 1),
        ("007.png", ["a_0006", "a_0007", "a_0008"], 1),
        ("cat_2.png", NAMES, None),
        ("mask.png", NAMES, None),
        ("cat_00500.png", NAMES, None),
    ],
)
def test_a_mask_of_frame_0_whose_name_has_the_number_of_another_is_told(file, names, like, tmp_path, capsys):
    write_label_map(tmp_path / file, ONE, None)
    assert found_in(tmp_path / file, names=names) == {0: [1]}
    told = capsys.readouterr().err
    assert (f"write {like}:{tmp_path / file}" in told) if like is not None else "write" not in told


def test_cvats_name_of_a_films_frame_is_that_frame(tmp_path, capsys):
    write_label_map(tmp_path / "frame_000003.PNG", ONE, None)
    assert found_in(tmp_path / "frame_000003.PNG", names=[f"{t:05d}" for t in range(6)]) == {3: [1]}
    assert "for frame 3, by its name" in capsys.readouterr().err


def test_masks_of_sam_without_a_frames_name_go_by_that_of_their_file(tmp_path, capsys):
    (tmp_path / "film_00007.json").write_text(json.dumps([{"segmentation": {"size": SIZE, "counts": encode_rle(ONE > 0)}}]))
    assert found_in(tmp_path / "film_00007.json") == {0: [1]}
    assert f"write 6:{tmp_path / 'film_00007.json'}" in capsys.readouterr().err


def test_a_number_with_zeros_before_it_is_the_end_of_a_frames_name(drawn, capsys):
    names = [f"a_{t:04d}" for t in range(100, 212)]
    assert found_in(f"0110:{drawn / 'white.png'}", names=names) == {10: [1]}
    assert "means frame 10, a_0110" in capsys.readouterr().err
    both = [f"{which}_{t:04d}" for which in "ab" for t in range(100, 160)]
    assert found_in(f"0110:{drawn / 'white.png'}", names=both) == {110: [1]}  # which of both is not said


def test_objects_in_another_order_are_refused_also_if_names_have_the_frame(drawn):
    for name in ("cat_000", "dog_000", "cat_010", "dog_010"):
        write_label_map(drawn / f"{name}.png", 255 * (ONE if "cat" in name else SECOND), None)
    files = [f"0:{drawn / 'cat_000.png'}", f"0:{drawn / 'dog_000.png'}"]
    assert found_in(*files, f"10:{drawn / 'cat_010.png'}", f"10:{drawn / 'dog_010.png'}") == {0: [1, 2], 10: [1, 2]}
    with pytest.raises(InputError, match=r"same order .* found dog_010, cat_010 for frame 10"):
        found_in(*files, f"10:{drawn / 'dog_010.png'}", f"10:{drawn / 'cat_010.png'}")


def test_white_masks_of_several_names_are_told_to_be_one_object(drawn, capsys):
    assert found_in(f"0:{drawn / 'white.png'}", f"10:{drawn / 'second.png'}") == {0: [1], 10: [1]}
    assert "second.png, white.png are all masks of object 1" in capsys.readouterr().err


def test_an_inverted_mask_is_refused_also_if_the_object_stands_on_the_edge(tmp_path):
    person = np.zeros(SIZE, bool)
    person[SIZE[0] // 2 :, 20:40] = True
    write_label_map(tmp_path / "a.png", 255 * (~person).astype(np.uint8), None)
    with pytest.raises(InputError, match=r"white covers .* of the frame and .* of its border: is it the background"):
        found_in(tmp_path / "a.png")
    write_label_map(tmp_path / "b.png", 255 * person.astype(np.uint8), None)
    assert found_in(tmp_path / "b.png") == {0: [1]}


@pytest.mark.parametrize("radius", [1.5, 2, 3])
@pytest.mark.parametrize("reader", ["mask", "data set"])
def test_a_small_object_with_soft_edges_is_one_object(radius, reader, tmp_path, capsys):
    y, x = np.mgrid[: 8 * SIZE[0], : 8 * SIZE[1]] / 8
    disc = (np.hypot(y - 20.3, x - 30.6) <= radius).reshape(SIZE[0], 8, SIZE[1], 8).mean(axis=(1, 3))
    grey = np.round(255 * disc).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    read = MaskReader.of([tmp_path / "a.png"]).read if reader == "data set" else MaskReader(strict=True, careful=True).read
    assert np.array_equal(read(tmp_path / "a.png") > 0, grey > 127)
    assert object_ids(MaskReader.of([tmp_path / "a.png"]).read(tmp_path / "a.png")) == [1]


def test_an_array_of_a_few_masks_is_told_to_be_of_objects_in_one_frame(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.stack([ONE > 0, SECOND > 0]))
    assert found_in(tmp_path / "a.npy") == {0: [1, 2]}
    assert "a.npy: its 2 masks are of 2 objects in one frame" in capsys.readouterr().err


def test_a_folder_with_two_masks_for_a_frame_is_refused_and_folders_in_it_are_told(tmp_path, capsys):
    write_label_map(tmp_path / "00005.png", ONE, None)
    (tmp_path / "1").mkdir()
    write_label_map(tmp_path / "1/00005.png", ONE, None)
    assert found_in(tmp_path) == {4: [1]}
    assert "reads the masks in it, not those in 1" in capsys.readouterr().err
    write_label_map(tmp_path / "5.png", TWO, None)
    with pytest.raises(InputError, match=r"expected one mask of frame 4, found 00005.png and 5.png"):
        found_in(tmp_path)


def test_of_a_coco_file_of_several_folders_only_the_videos_own_are_read(tmp_path):
    size = {"height": SIZE[0], "width": SIZE[1]}
    images = [{"id": i, "file_name": f"{place}/0000{i}.jpg", **size} for i, place in ((1, "a"), (5, "b"))]
    one = {"size": SIZE, "counts": encode_rle(ONE > 0)}
    entries = [{"id": i, "image_id": i, "category_id": 1, "segmentation": one} for i in (1, 5)]
    (tmp_path / "all.json").write_text(json.dumps({"images": images, "annotations": entries}))
    assert found_in(tmp_path / "all.json", video="a") == {0: [1]}
    assert found_in(tmp_path / "all.json", video="b") == {4: [1]}
    with pytest.raises(InputError, match=r"all.json: expected the pictures of one folder, found those of a, b"):
        found_in(tmp_path / "all.json", video="c")


def test_a_picture_that_is_named_by_number_in_a_file_is_the_frame_of_that_number(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(labelme(shape(), name="7.jpg")))
    assert list(read_given_masks(parse_masks([str(tmp_path / "a.json")]), NAMES, SIZE)) == [6]
    assert list(read_given_masks(parse_masks([f"0:{tmp_path / 'a.json'}"]), NAMES, SIZE)) == [0]  # as FFmpeg counts


@pytest.mark.parametrize("name", ["00005.png", "00005.json"])
def test_a_mask_that_is_called_like_its_video_is_for_frame_0_also_if_a_frame_is_called_so(name, tmp_path, capsys):
    write_label_map(tmp_path / "00005.png", ONE, None)
    (tmp_path / "00005.json").write_text(json.dumps(labelme(shape(), name="first.png")))
    given = parse_masks([str(tmp_path / name)])
    assert list(read_given_masks(given, NAMES, SIZE)) == [4]
    assert list(read_given_masks(given, NAMES, SIZE, video="00005")) == [0]
    assert "is called like the video; 4:" in capsys.readouterr().err
    assert list(read_given_masks(parse_masks([f"2:{tmp_path / name}"]), NAMES, SIZE, video="00005")) == [2]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_json_among_the_frames_of_the_video_is_its_masks(suffix, tmp_path):
    for t in range(6):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{t:05d}{suffix}")
    (tmp_path / "00005.json").write_text(json.dumps(labelme(shape(), name=f"00005{suffix}")))
    names = [f"{t:05d}" for t in range(6)]
    assert list(read_given_masks(parse_masks([str(tmp_path)]), names, SIZE, frames=tmp_path)) == [5]


def test_a_circle_of_labelme_is_its_centre_and_a_point_on_it(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(labelme(shape(kind="circle", points=[[20, 12], [20, 20]]))))
    (mask,) = read_given_masks(parse_masks([str(tmp_path / "a.json")]), NAMES, SIZE).values()
    distances = np.hypot(*(np.mgrid[:48, :64].T + 0.5 - (12, 20)).T)  # of the middles of pixels
    np.testing.assert_array_equal(mask.labels, distances <= 8)


REFUSED = [
    (
        coco(annotation(ONE), annotation(ONE), annotation(ONE, image_id=2), images=("00005.jpg", "00006.jpg")),
        "without one: which",
    ),
    (coco(annotation(ONE) | {"segmentation": []}), "boxes are not enough"),
    (coco(annotation(ONE) | {"segmentation": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]}), "in pixels, found numbers from 0 to 1"),
    (coco(annotation(ONE) | {"segmentation": {"size": [48, 64], "counts": "00"}}), "run lengths of 48x64 pixels, found 0"),
    (coco(annotation(ONE, image_id=7)), "found image_id 7"),
    (coco(annotation(ONE), images=("other.jpg",)), "expected masks named like frames .* found other"),
    (labelme(shape(), shape()), "found 'dog' twice"),
    (labelme(shape(points=[[4, 4], [9, 4]])), "found one that holds none"),
    (labelme(shape(points=[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]])), "in pixels, found numbers from 0 to 1"),
    (labelme(shape(), shape("_background_", points=CORNER)), "found a shape called _background_"),
    (labelme(shape(kind="line")), "found a line, which has no area"),
    ({"version": 1, "result": []}, "expected COCO or labelme JSON"),
    ([3], "expected COCO or labelme JSON"),
    (labelme(shape()) | {"imageHeight": 10**9}, "expected the size of a picture"),
    (labelme(shape(kind="mask", points=[[4, 4], [19, 19]], mask="bm8=")), "expected COCO or labelme JSON"),
    (labelme(shape()) | {"imageHeight": 24}, "mask is 24x64, its frame is 48x64"),
    (
        labelme(shape(kind="mask", points=[[4, 4], [29, 29]], mask=png_of(np.ones((16, 16))))),
        "a mask of 26x26, as its points, found 16x16",
    ),
    (
        coco(annotation(SECOND, bbox=[4, 4, 16, 16])),
        "within their bbox, found one mostly outside",
    ),
    (coco(annotation(ONE) | {"segmentation": {"size": [*SIZE], "counts": runs(ONE.T)}}), "runs down the columns, found some"),
    ([{"segmentation": {"size": [*SIZE], "counts": compressed(runs(SECOND.T))}}], "runs down the columns, found some"),
    (coco(annotation(1 - ONE, area=256)), "of 256 pixels, as its area says, found 2816; is it inverted"),
    (coco(annotation(SMALL) | {"segmentation": {"size": [*SIZE], "counts": runs(SMALL.T)}}), "runs down the columns"),
    (vis(0 * ONE + 1, bboxes=[[4, 4, 16, 16]]), "within their bbox, found one mostly outside"),
    (vis(1 - ONE, areas=[256]), "of 256 pixels, as its area says, found 2816"),
    (vis(ONE, ONE, names=("a/00001.jpg", "b/00001.jpg")), "each object once in a frame, found 6 twice in 00001"),
    (vis(ONE, video_id=2), "annotations of video 1, found one of video 2"),
    (vis(None), "expected an object, found none"),
    (coco(annotation(ONE)) | {"images": 2 * coco()["images"]}, "an id of its own for each image, found 1 twice"),
    (
        coco(
            annotation(ONE, category_id=8),
            annotation(ONE, category_id=8),
            annotation(ONE, image_id=2),
            images=("00005.jpg", "00006.jpg"),
        ),
        "'category 8' in 00005 without one",
    ),
    (coco(annotation(1 - ONE)), "object 1 covers 92% of the frame .* is it the background"),
    ([annotation(ONE), annotation(SECOND, image_id=2)], "found their image_id alone"),
    ({"size": [37, 41], "counts": [1 << 62, 1 << 62, 1 << 62, (1 << 62) + 37 * 41]}, "expected run lengths of 37x41"),
    ({"size": [37, 41], "counts": "o" * 100_000}, "expected compressed run lengths, found ooo"),
    (labelme(shape(points=[[-1e308, 0], [1e308, 0], [1, 9]])), "in pixels"),
    (labelme(shape(points=[[float("nan"), 0], [1, 9]])), "in pixels"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_json_that_does_not_say_which_mask_is_whose_is_refused(content, message, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"a.json: .*{message}") as told:
        found_in(tmp_path / "a.json")
    assert len(str(told.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(("area", "hole"), [(256 - 64, True), (256, False), (512, False), (None, False)])
def test_a_polygon_within_another_is_a_hole_if_the_area_says_so(area, hole, tmp_path):
    inner = [8, 8, 16, 8, 16, 16, 8, 16]
    content = coco(annotation(ONE, area=area) | {"segmentation": [BOX, inner]})
    (tmp_path / "a.json").write_text(json.dumps(content))
    (mask,) = read_given_masks(parse_masks([str(tmp_path / "a.json")]), NAMES, SIZE).values()
    expected = ONE.copy()
    if hole:
        expected[8:16, 8:16] = 0
    assert np.array_equal(mask.labels, expected)


def test_a_folder_of_json_and_frames_as_labelme_leaves_it(tmp_path):
    for t in range(3):
        Image.fromarray(picture(t)).save(tmp_path / f"0000{t + 1}.jpg")
    (tmp_path / "00001.json").write_text(json.dumps(labelme(shape(), name="00001.jpg")))
    (tmp_path / "00003.JSON").write_text(json.dumps(labelme(name="00003.jpg")))  # without shapes: all are gone
    (tmp_path / "._00001.json").write_bytes(b"\0\5\26\7")  # of macOS
    assert found_in(tmp_path) == {0: [1], 2: []}
    Image.fromarray(ONE).save(tmp_path / "00002.png")
    (tmp_path / "00002.jpg").unlink()
    with pytest.raises(InputError, match="expected JSON files or pictures, found both"):
        found_in(tmp_path)
    (tmp_path / "00001.json").write_text(json.dumps(labelme(name="00001.jpg")))
    with pytest.raises(InputError, match="expected an object, found none"):
        found_in(tmp_path / "00001.json")


def test_cvat_counts_the_frames_of_a_film_from_0(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(coco(annotation(ONE), images=("frame_000005.PNG",))))
    film = [f"{t:05d}" for t in range(9)]
    assert found_in(tmp_path / "a.json", names=film) == {5: [1]}
    assert found_in(tmp_path / "a.json", names=[f"frame_{t:06d}" for t in range(1, 9)]) == {4: [1]}
    for names in (NAMES, film[:5]):
        with pytest.raises(InputError, match=r"expected masks named like frames \(.*\), found frame_000005.PNG"):
            found_in(tmp_path / "a.json", names=names)
    with pytest.raises(InputError, match=r"is of frame 4 \(frame_000005\), but given for frame 0"):
        found_in(f"0:{tmp_path / 'a.json'}", names=[f"frame_{t:06d}" for t in range(1, 9)])


def test_names_are_the_same_however_their_accents_are_stored(tmp_path):
    write_label_map(tmp_path / "e\u0301_2.png", ONE, PALETTE)
    assert found_in(tmp_path / "e\u0301_2.png", names=["\u00e9_1", "\u00e9_2"]) == {1: [1]}
    assert found_in(tmp_path, names=["\u00e9_1", "\u00e9_2"]) == {1: [1]}


@pytest.mark.parametrize("corner", [(-6, -3), (60, 40)])
def test_a_labelme_mask_that_leaves_the_frame_is_cut_at_its_border(corner, tmp_path):
    drawn = np.random.default_rng(0).random((12, 10)) > 0.5
    whole = np.zeros((SIZE[0] + 24, SIZE[1] + 24), bool)
    left, top = corner
    whole[12 + top : 24 + top, 12 + left : 22 + left] = drawn
    content = labelme(shape(kind="mask", points=[corner, [left + 9, top + 11]], mask=png_of(drawn)))
    (tmp_path / "a.json").write_text(json.dumps(content))
    (mask,) = read_given_masks(parse_masks([str(tmp_path / "a.json")]), NAMES, SIZE).values()
    assert np.array_equal(mask.labels, whole[12:-12, 12:-12])


def test_pictures_and_json_are_not_mixed_and_labels_are_objects_in_all_files(tmp_path):
    (tmp_path / "00002.json").write_text(json.dumps(labelme(shape("cat"), name="00002.jpg")))
    (tmp_path / "00003.json").write_text(json.dumps(labelme(shape("dog", points=CORNER), shape("cat"))))
    assert found_in(f"1:{tmp_path / '00002.json'}", f"2:{tmp_path / '00003.json'}") == {1: [1], 2: [1, 2]}
    write_label_map(tmp_path / "a.png", ONE, None)
    with pytest.raises(InputError, match=r"00002.json: expected JSON files or pictures, found both"):
        found_in(tmp_path / "00002.json", f"5:{tmp_path / 'a.png'}")


def test_json_is_for_the_frame_that_its_name_or_its_content_tells_and_for_no_other(tmp_path):
    for name, told in (("a", "00005.jpg"), ("00003", "00005.jpg"), ("00004", "old_4.jpg")):
        (tmp_path / f"{name}.json").write_text(json.dumps(labelme(shape(), name=told)))
    assert found_in(tmp_path / "a.json") == {4: [1]}
    assert found_in(f"2:{tmp_path / '00003.json'}") == {2: [1]}
    assert found_in(tmp_path / "00004.json") == {3: [1]}  # renamed with its picture
    with pytest.raises(InputError, match=r"a.json is of frame 4 \(00005\), but given for frame 0"):
        found_in(f"0:{tmp_path / 'a.json'}")
    with pytest.raises(InputError, match=r"00003.json is of frame 4 \(00005\) or 2 \(00003\)$"):
        found_in(tmp_path / "00003.json")


def test_an_object_that_others_cover_is_told(tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps(coco(annotation(ONE), annotation(ONE))))
    assert found_in(tmp_path / "a.json") == {4: [2]}
    assert "a.json: dog #1 left out, since other objects cover it" in capsys.readouterr().err


def test_a_polygon_has_the_pixels_whose_centres_lie_in_it():
    assert np.array_equal(fill_polygon(np.array(BOX, float).reshape(-1, 2), SIZE), ONE > 0)
    outside = fill_polygon(np.array([(-9.0, -9), (99, -9), (99, 99), (-9, 99)]), (3, 4))
    assert outside.all()
    triangle = fill_polygon(np.array([(0.0, 0), (4, 0), (0, 4)]), (4, 4))
    assert triangle.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_run_lengths_come_back_whatever_their_text():
    rng = np.random.default_rng(0)
    for density in (0.02, 0.5, 0.98):
        mask = rng.random((37, 41)) < density
        for counts in (runs(mask), compressed(runs(mask))):
            assert np.array_equal(decode_rle({"size": [37, 41], "counts": counts}), mask)


@pytest.mark.parametrize(
    "shape", ["(48, 64", "((((", "(1 << 40, 1)", "(9223372036854775807, 9223372036854775807)", "(3.5, 4)"]
)
def test_an_array_with_an_odd_header_is_one_line(shape, tmp_path):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}".encode()
    header += b"" if shape.count("(") > shape.count(")") else b"}"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match=r"a.npy: cannot read this array \(.+\)$"):
        found_in(tmp_path / "a.npy")


def test_what_is_called_an_array_and_is_none_is_told(tmp_path):
    np.savez(tmp_path / "a.npz", ONE)
    (tmp_path / "a.npz").rename(tmp_path / "several.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    for name, message in (("several", "the magic string is not correct"), ("pipe", "it is a pipe or a device")):
        with pytest.raises(InputError, match=rf"{name}.npy: cannot read this array \({message}"):
            found_in(tmp_path / f"{name}.npy")


def test_a_mask_among_the_frames_is_no_frame_and_an_empty_one_says_that_objects_are_gone(light_file, script, tmp_path, capsys):
    folder = write_folder(tmp_path / "frames", 3)
    write_label_map(folder / "0.png.png", TWO, PALETTE)
    write_label_map(tmp_path / "b.png", 0 * TWO, PALETTE)
    masks = (f"0:{folder / '0.png.png'}", f"1:{tmp_path / 'b.png'}")
    flags = ("--size", 32, "--model", light_file, "--output", tmp_path / "out")
    assert script("segment_video", folder, "--mask", *masks, *flags) == 0
    assert "0.png.png is a mask, so it is left out of the frames" in capsys.readouterr().err
    found = {path.name: object_ids(read_label_map(path).labels) for path in (tmp_path / "out/masks").iterdir()}
    assert found.keys() == {"0.png", "1.png", "2.png"}
    assert (found["0.png"], found["1.png"]) == ([1, 2], [])


def test_a_number_like_a_frames_name_means_that_frame_or_is_refused(drawn, capsys):
    padded, plain = [f"{n:05d}" for n in range(1, 13)], [str(n) for n in range(1, 13)]

    def frames(number: str, names: list[str]) -> list[int]:
        return list(read_given_masks(parse_masks([f"{number}:{drawn / 'white.png'}"]), names, SIZE))

    assert frames("00003", padded) == [2]
    assert "note: --mask 00003:" in capsys.readouterr().err
    assert frames("3", padded) == frames("03", plain) == [3]
    assert frames("0", plain) == [0]
    for number in ("3", "12"):
        with pytest.raises(InputError, match=rf"--mask {number}:.*(is it frame 3|has frames 0 to 11)"):
            frames(number, plain)
    assert frames("00003", [f"{n:05d}" for n in range(12)]) == [3]
    assert not capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pattern", "film", "in place"])
def test_json_and_its_video_become_a_folder_to_train_on(kind, script, tmp_path, capsys):
    mine = tmp_path / "mine"
    (mine / "JPEGImages").mkdir(parents=True)
    if kind == "film":
        source = write_film(tmp_path / "cat.mp4", [picture(t) for t in range(6)])
    else:
        source = write_folder(mine / "JPEGImages/cat" if kind == "in place" else tmp_path / "cat", 6)
    source = source / "*.png" if kind == "pattern" else source
    names = ("00002.jpg", "00004.jpg")
    annotations = [annotation(TWO, track_id=1), annotation(SECOND, image_id=2, track_id=7)]
    (tmp_path / "coco.json").write_text(json.dumps(coco(*annotations, images=names)))
    flags = (source, "--mask", tmp_path / "coco.json", "--output", mine)
    assert script("from_coco", *flags) == 0
    assert "masks of 2 of 6 frames" in capsys.readouterr().out
    clips = own_videos(mine, crop=32)
    assert [int(image.stem) for image, _ in clips.annotated(0)] == [2, 4]
    found = [read_label_map(mask).labels for _, mask in clips.annotated(0)]
    np.testing.assert_array_equal(found, [TWO > 0, 7 * SECOND])
    for (image, _), original in zip(clips.annotated(0), (2, 4), strict=True):
        assert abs(read_image(image).astype(int) - open_video(source).frame(original)).mean() < 2
    assert sorted(path.name for path in mine.glob("*/*")) == ["cat", "cat"]
    assert script("from_coco", *flags) == 2
    assert "Annotations/cat: already exists" in capsys.readouterr().err
    (mine / "Annotations/cat").rename(mine / "Annotations/.cat.unfinished")  # as if it had been killed before its last step
    if kind != "in place":  # with another video of this name
        for path in (mine / "JPEGImages/cat").iterdir():
            Image.new("RGB", (64, 48)).save(path)
    assert script("from_coco", *flags) == 0
    assert sorted(path.name for path in mine.glob("*/*")) == ["cat", "cat"]
    assert read_image(image).mean() > 20


@pytest.mark.parametrize("inner", [5, 10])
def test_a_polygon_within_another_is_a_part_where_the_area_is_that_of_both(inner):
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for centre in np.random.default_rng(0).uniform(119, 121, (20, 2)):
        outer, within = (centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1) for radius in (100, inner))
        x, y = outer.T
        area = abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2
        polygons = [outer.ravel().tolist(), within.ravel().tolist()]
        found, hollow = (_segmentation(polygons, (240, 240), given) for given in (area, area - 3.1 * inner**2))
        assert found[tuple(centre.astype(int)[::-1])]
        assert not hollow[tuple(centre.astype(int)[::-1])]
