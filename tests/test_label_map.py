"""What numbers and colours mean in the masks that people bring: each file is made here, and its right reading asserted."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import SIZE, square
from PIL import Image, ImageColor, ImageDraw

from dataset.colours import parse_colour
from dataset.mask_files import list_masks, mask_size
from dataset.mask_reader import MaskReader
from dataset.soft_edges import rim_values
from util.errors import InputError
from util.label_map import colour_map, count_values, write_label_map

ONE, TWO, THREE = square((4, 4)), square((4, 4), (30, 20)), square((4, 4), (30, 20), (44, 4))
OURS = np.frombuffer(colour_map(), np.uint8).reshape(256, 3)
RED, GREEN, BLUE = (250, 10, 10), (10, 250, 10), (10, 10, 250)
THEIRS = [(0, 0, 0), (236, 95, 103), (249, 145, 87), (250, 200, 99)]  # the palette of YouTube-VOS begins like this


def paletted(labels: np.ndarray, colours, **options) -> Image.Image:
    file = Image.fromarray(labels)
    file.putpalette(np.asarray(colours, np.uint8).tobytes())
    return file


def coloured(labels: np.ndarray, colours) -> Image.Image:
    return Image.fromarray(np.asarray(colours, np.uint8)[labels])


def see_through(file: Image.Image, index: int) -> Image.Image:
    file.info["transparency"] = index  # which `save` writes
    return file


grey = Image.fromarray


def disc() -> np.ndarray:
    """A disc with soft edges, (48, 64) uint8, 0 to 255."""
    large = np.zeros((8 * SIZE[0], 8 * SIZE[1]), np.uint8)
    cv2.circle(large, (256, 200), 120, 255, -1)
    return cv2.resize(large, SIZE[::-1], interpolation=cv2.INTER_AREA)


def soft(colours) -> Image.Image:
    """Discs of several colours, shrunk with Lanczos."""
    large = np.zeros((4 * SIZE[0], 4 * SIZE[1], 3), np.uint8)
    for i, colour in enumerate(colours):
        cv2.circle(large, (64 + 64 * i, 60 + 32 * i), 40, colour, -1)
    return Image.fromarray(large).resize(SIZE[::-1], Image.Resampling.LANCZOS)


@pytest.fixture
def read(tmp_path):
    """Reads pictures as the masks of one video."""

    def run(*files: Image.Image, suffix: str = "png", **options) -> list[np.ndarray]:
        paths = [tmp_path / f"{t}.{suffix}" for t in range(len(files))]
        for path, file in zip(paths, files, strict=True):
            file.save(path)
        reader = MaskReader(**options)
        return [reader.read(path) for path in paths]

    return run


WHITE_PAGE = np.array([(255, 255, 255), RED, GREEN], np.uint8)
INVERTED = 255 * (ONE == 0).astype(np.uint8)
WHERE_BLACK = [
    ("black at 2", paletted(np.array([2, 0, 1], np.uint8)[TWO], [OURS[1], OURS[2], (0, 0, 0)]), TWO),
    ("black at 2, other colours", paletted(np.array([2, 0, 1], np.uint8)[TWO], [GREEN, RED, (0, 0, 0)]), TWO),
    ("black at 0", paletted(TWO, [(0, 0, 0), GREEN, RED]), TWO),
    ("a palette of its own at 0", paletted(TWO, [(70, 70, 200), GREEN, RED]), TWO),
    ("a grey ramp", paletted(TWO, [(i, i, i) for i in range(256)]), TWO),
    ("white at 0, black at 1", paletted((ONE == 0).astype(np.uint8), [(255, 255, 255), (0, 0, 0)]), ONE),
    ("only objects, 0 is black", paletted(ONE + 1, OURS), ONE + 1),
    (
        "black at 0 and 5, only 5 used",
        paletted(np.array([5, 1, 2], np.uint8)[TWO], [(0,) * 3, RED, GREEN, BLUE, RED, (0,) * 3]),
        TWO,
    ),
    ("2 is transparent", see_through(paletted(TWO, [(0, 0, 0), GREEN, RED]), 2), ONE),
]


@pytest.mark.parametrize(("file", "expected"), [case[1:] for case in WHERE_BLACK], ids=[case[0] for case in WHERE_BLACK])
def test_black_is_background_wherever_it_is_in_the_palette(file, expected, read):
    (found,) = read(file)
    assert np.array_equal(found, expected)


def cut_palette(path: Path, colours: int) -> None:
    """Keep only some of a PNG's colours, as some programs do; Pillow would change the indices."""
    content = path.read_bytes()
    start = content.index(b"PLTE")
    data = b"PLTE" + content[start + 4 : start + 4 + 3 * colours]
    chunk = struct.pack(">I", 3 * colours) + data + struct.pack(">I", zlib.crc32(data))
    path.write_bytes(content[: start - 4] + chunk + content[start + 4 + 768 + 4 :])


@pytest.mark.parametrize("stored", [2, 4, 256])
def test_objects_beyond_a_short_palette_keep_their_numbers_and_get_a_colour(stored, tmp_path):
    labels = 7 * TWO
    write_label_map(tmp_path / "a.png", labels, (OURS[::-1] if stored == 2 else OURS).tobytes())
    cut_palette(tmp_path / "a.png", stored)
    reader = MaskReader.of([tmp_path / "a.png"])
    assert np.array_equal(reader.read(tmp_path / "a.png"), labels)
    colours = np.frombuffer(reader.known.palette(), np.uint8).reshape(256, 3)
    assert np.array_equal(colours[:stored][1:], (OURS[::-1] if stored == 2 else OURS)[1:stored])
    assert len(np.unique(colours, axis=0)) == 256


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (coloured(TWO, WHITE_PAGE), r"white\) covers 83 % of the frame and 100 % of its border: is it the background"),
        (paletted(np.array([1, 0, 2], np.uint8)[TWO], [RED, (255, 255, 255), GREEN]), r"object 1 \(white\) covers 83 %"),
        (grey(INVERTED), r"white covers 92 % .* is it the background"),
        (grey(ONE + 1), r"object 1 covers 92 % .* is it the background"),
        (coloured(ONE * 0, [RED]), r"object 1 \(#fa0a0a\) covers 100 %"),
        (Image.fromarray(ONE == 0), r"white covers 92 %"),
    ],
    ids=["colours on white", "palette", "black on white", "numbers from 1", "one colour", "1 bit"],
)
def test_an_object_that_looks_like_the_background_is_refused(file, message, read):
    with pytest.raises(InputError, match=message.replace(" %", "%")):
        read(file)


EDGES = [
    ("grey", grey(disc())),
    ("grey as colour", grey(disc()).convert("RGB")),
    ("grey ramp", paletted(disc(), [(i, i, i) for i in range(256)])),
    ("grey, adaptive palette", grey(disc()).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=12)),
    ("one level", grey(np.where((disc() > 0) & (disc() < 255), np.uint8(128), disc()))),
    ("two levels", grey(np.array([0, 14, 225, 255], np.uint8)[np.digitize(disc(), [1, 100, 255])])),
    ("16 bits", Image.fromarray(disc().astype(np.uint16) * 257)),
]


@pytest.mark.parametrize("file", [case[1] for case in EDGES], ids=[case[0] for case in EDGES])
def test_one_white_object_with_soft_edges_is_cut_at_half_with_a_note(file, read, capsys):
    expected = (disc() if file.mode == "I;16" else np.asarray(file.convert("L"))) > 127
    for found in read(file, file):
        assert np.array_equal(found, expected)
    assert capsys.readouterr().err.count("soft edges; above half") == 1


THICK = cv2.dilate(TWO, np.ones((3, 3), np.uint8))
MANY = [
    ("Lanczos", soft([RED, GREEN, BLUE])),
    ("Lanczos and a palette", soft([RED, GREEN, BLUE]).convert("P")),
    ("Lanczos and an adaptive palette", soft([RED, GREEN, BLUE]).convert("P", palette=Image.Palette.ADAPTIVE, colors=32)),
    ("one colour", soft([RED])),
    ("a grey that is not white", grey(disc() // 2)),
    ("dithered", soft([(100, 180, 33), (17, 99, 201)]).convert("P", dither=Image.Dither.FLOYDSTEINBERG)),
    ("dithered in two colours", coloured(TWO, OURS).convert("P")),
    ("dithered in two numbers", grey((ONE * (1 + np.indices(SIZE).sum(axis=0) % 2)).astype(np.uint8))),
    ("numbers resized", grey(cv2.resize(TWO * 9, (160, 120), interpolation=cv2.INTER_LINEAR))),
    ("few levels of grey", grey(disc() // 51 * 50)),
    ("numbers resized, one level", paletted(np.where((THICK > 0) & (TWO == 0), 1, 2 * (TWO > 0)).astype(np.uint8), OURS)),
    ("outlines", coloured(np.where((THICK > 0) & (TWO == 0), np.uint8(3), TWO), [(0, 0, 0), RED, GREEN, BLUE])),
]


FEW = ("numbers resized, one level", "dithered in two numbers")  # as few and small as objects' numbers


@pytest.mark.parametrize(("name", "file"), MANY, ids=[case[0] for case in MANY])
def test_values_that_only_lie_between_others_are_no_objects(name, file, read):
    with pytest.raises(InputError, match=r"0.png: expected one plain number .* only edges of others .* --soft_edges"):
        read(file, careful=name in FEW)


def test_small_and_thin_objects_are_not_taken_for_edges(read):
    labels = np.zeros(SIZE, np.uint8)
    labels[10:40, 8:30] = 1
    for i, (y, x) in enumerate([(2, 40), (8, 50), (20, 40), (30, 50), (42, 58)], start=2):
        labels[y : y + 2, x : x + 2] = i  # far birds
    labels[20, 30:60] = 7  # a leash
    labels[25:27, 8:30] = 8  # a belt
    labels[8:10, 7:31] = 255  # ignored
    labels[8:42, 6:8] = 255
    expected = np.where(labels == 255, 0, labels)
    for file in (paletted(labels, OURS), grey(labels)):
        assert np.array_equal(read(file, careful=True)[0], expected)


SWAPPED = np.array([0, 2, 1], np.uint8)
LAST_SWAPPED = np.array([0, 1, 3, 2], np.uint8)
IDENTITY = [
    ("ours as RGB", [paletted(THREE, OURS), coloured(THREE * (THREE > 1), OURS)], [THREE, THREE * (THREE > 1)]),
    ("ours as RGB alone", [coloured(4 * TWO, OURS)], [4 * TWO]),
    ("only the grey one", [coloured(7 * ONE, OURS)], [7 * ONE]),
    ("theirs as RGB", [paletted(TWO, THEIRS), coloured(THREE, THEIRS)], [TWO, THREE]),
    ("another order", [paletted(TWO, OURS), paletted(SWAPPED[TWO], OURS[SWAPPED])], [TWO, TWO]),
    ("fewer colours", [paletted(5 * ONE, OURS), paletted(ONE, [OURS[0], OURS[5]])], [5 * ONE, 5 * ONE]),
    ("more colours later", [paletted(ONE, THEIRS[:2]), paletted(TWO, THEIRS)], [ONE, TWO]),
    (
        "own colours",
        [coloured(TWO, [(0,) * 3, RED, GREEN]), coloured(THREE, [(0,) * 3, GREEN, BLUE, RED])],
        [SWAPPED[TWO], LAST_SWAPPED[THREE]],
    ),
    (
        "own colours, then a palette",
        [coloured(TWO, [(0,) * 3, GREEN, RED]), paletted(TWO, [(0,) * 3, RED, GREEN])],
        [TWO, SWAPPED[TWO]],
    ),
    ("numbers in three channels", [Image.fromarray(np.stack([3 * TWO] * 3, axis=-1))], [3 * TWO]),
    ("numbers in three channels later", [grey(3 * TWO), Image.fromarray(np.stack([3 * TWO] * 3, axis=-1))], [3 * TWO] * 2),
    ("white, then colours", [grey(255 * ONE), coloured(TWO, [(0,) * 3, (255,) * 3, OURS[1]])], [ONE, TWO]),
    ("VOC with borders", [coloured(np.where(THICK > TWO, 255, TWO), OURS)], [TWO]),
]


@pytest.mark.parametrize(("files", "expected"), [case[1:] for case in IDENTITY], ids=[case[0] for case in IDENTITY])
def test_a_colour_is_one_object_in_all_masks_of_a_video(files, expected, read):
    for found, wanted in zip(read(*files), expected, strict=True):
        assert np.array_equal(found, wanted)


NEARLY = (246, 12, 10)
UNSURE = [
    ("white after numbers", [paletted(TWO, OURS), coloured(ONE, WHITE_PAGE * 0 + [[0], [255], [0]])], "found white"),
    ("another colour", [paletted(TWO, OURS), coloured(ONE, [(0,) * 3, (120, 4, 3)])], r"found #780403; .* #800000, object 1$"),
    ("own colours, nearly equal", [coloured(ONE, [(0,) * 3, RED]), coloured(ONE, [(0,) * 3, NEARLY])], "#f60c0a and #fa0a0a"),
    ("in one mask", [coloured(TWO, [(0,) * 3, RED, NEARLY])], "found #f60c0a and #fa0a0a, which is another object"),
    ("nearly black", [coloured(ONE, [(0,) * 3, (9, 0, 0)])], "found #090000 and black, which is the background"),
    ("other palette", [paletted(ONE, OURS), paletted(ONE, THEIRS)], "where object 1 is #800000, found #ec5f67"),
    ("red and blue swapped", [paletted(TWO, OURS), coloured(ONE, OURS[:, ::-1])], "found them with red and blue swapped"),
    ("brightness", [paletted(TWO, OURS), coloured(TWO, OURS).convert("L")], "found the brightness of their colours"),
    ("numbers after colours", [coloured(ONE, [(0,) * 3, RED]), grey(9 * ONE)], "expected colours, .* found number 9"),
    ("soft white after numbers", [grey(3 * TWO), grey(disc())], "found white with soft edges"),
    ("a photograph", [Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8))], "edges"),
]


@pytest.mark.parametrize(("files", "message"), [case[1:] for case in UNSURE], ids=[case[0] for case in UNSURE])
def test_what_could_be_another_object_is_refused_with_both_named(files, message, read):
    with pytest.raises(InputError, match=rf"{len(files) - 1}.png: .*{message}"):
        read(*files)


def png(path: Path, values: np.ndarray, bits: int) -> Path:
    """A greyscale PNG of 1 to 4 bits per pixel, which Pillow does not write."""
    per_byte = 8 // bits
    rows = values.reshape(len(values), -1, per_byte)
    packed = sum(rows[..., i].astype(np.uint8) << (8 - bits * (i + 1)) for i in range(per_byte))
    raw = b"".join(b"\0" + row.tobytes() for row in packed)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(("bits", "expected"), [(1, ONE), (2, THREE), (4, 5 * THREE)])
def test_greyscale_of_few_bits_is_not_scaled(bits, expected, tmp_path):
    assert np.array_equal(MaskReader().read(png(tmp_path / "a.png", expected, bits)), expected)


@pytest.mark.parametrize(("suffix", "kind"), [("png", np.uint16), ("tif", np.uint16), ("tif", np.int32), ("tif", np.float32)])
def test_numbers_of_16_and_32_bits_are_read_up_to_254(suffix, kind, tmp_path):
    many = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) // 4 % 401
    for labels, message in ((120 * TWO, ""), (many, "at most 254 objects, .* found 400 objects, numbered up to 400")):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(labels.astype(kind)).save(path)
        if message:
            with pytest.raises(InputError, match=message):
                MaskReader().read(path)
        else:
            assert np.array_equal(MaskReader().read(path), labels)


def test_colours_of_16_bits_that_8_would_lose_are_refused(tmp_path):
    assert cv2.imwrite(str(tmp_path / "a.png"), np.stack([TWO.astype(np.uint16)] * 3, axis=-1))
    with pytest.raises(InputError, match=r"a.png: expected 8 bits per channel, found 16 with nothing in the upper 8"):
        MaskReader().read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("background", "file", "expected"),
    [
        ("white", coloured(TWO, WHITE_PAGE), SWAPPED[TWO]),
        ("white", coloured(TWO, [(255,) * 3, (0,) * 3, RED]), TWO),
        ("#ffffff", grey(INVERTED), ONE),
        ("1", grey(np.array([1, 5, 7], np.uint8)[TWO]), np.array([0, 5, 7], np.uint8)[TWO]),
        ("black", coloured(ONE * 0, [RED]), ONE * 0 + 1),
        ("black", grey(INVERTED), INVERTED // 255),
        ("white", paletted(TWO, [(255,) * 3, GREEN, RED]), TWO),
        ("white", paletted((ONE == 0).astype(np.uint8), [(0,) * 3, (255,) * 3]), ONE),
    ],
)
def test_the_background_can_be_named(background, file, expected, read):
    assert np.array_equal(read(file, background=parse_colour(background))[0], expected)


def test_an_object_that_is_0_on_white_has_one_number_in_all_masks(read, capsys):
    page = np.full(SIZE, 255, np.uint8)
    files = [page.copy() for _ in range(3)]
    for i, file in enumerate(files):
        for number in range(3 - i):
            file[10 * number : 10 * number + 6, 4:20] = number
    for labels, file in zip(read(*map(grey, files), background=0xFFFFFF), files, strict=True):
        for number, stored in ((1, 1), (2, 2), (3, 0)):
            assert ((labels == number) == (file == stored)).all()
    assert "0 is object 3, since the background is another number" in capsys.readouterr().err
    files[1][files[1] == 1] = 3
    with pytest.raises(InputError, match=r"1\.png: expected no object 3, which 0 is in the masks before it, found both"):
        read(grey(files[0]), grey(files[1]), background=0xFFFFFF)
    with pytest.raises(InputError, match=r"1\.png: expected white on black"):
        read(grey(files[2]), grey(files[1]), background=0xFFFFFF)


def test_transparent_pixels_are_background(read):
    red = np.zeros((*SIZE, 4), np.uint8)
    red[ONE > 0] = (*RED, 255)
    large = cv2.resize(ONE, (256, 192), interpolation=cv2.INTER_NEAREST)  # a photograph that was cut out
    picture = np.dstack([np.random.default_rng(0).integers(0, 256, (192, 256, 3), dtype=np.uint8), 255 * large])
    for pixels, expected in ((red, ONE), (picture, large)):
        assert np.array_equal(read(Image.fromarray(pixels))[0], expected)
    with pytest.raises(InputError, match="expected a colour"):
        parse_colour("reddish")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_the_files_of_a_video_decide_by_the_first_that_is_not_empty(order, tmp_path):
    paths = [tmp_path / f"{t}.png" for t in range(3)]
    for path, labels in zip(paths, (0 * ONE, 255 * ONE, 3 * ONE), strict=True):
        write_label_map(path, labels, None)
    ordered = [paths[i] for i in order]
    expected = [None, None, True, True] if order[0] == 0 else [None, False, False, False]
    assert [MaskReader.of(ordered[:n]).known.white for n in range(4)] == expected


def test_a_video_with_own_colours_means_the_same_in_any_order_of_reading(read, tmp_path):
    masks = [coloured(TWO, [(0,) * 3, GREEN, RED]), coloured(THREE, [(0,) * 3, BLUE, RED, GREEN])]
    expected = read(*masks)
    reader = MaskReader.of([tmp_path / "0.png", tmp_path / "1.png"])
    for t in (1, 0, 1):
        assert np.array_equal(reader.read(tmp_path / f"{t}.png"), expected[t])
    assert np.frombuffer(reader.known.palette(), np.uint8).reshape(256, 3)[:4].tolist() == [
        [0] * 3,
        [*GREEN],
        [*RED],
        [*BLUE],
    ]
    coloured(ONE, [(0,) * 3, (200, 200, 10)]).save(tmp_path / "2.png")
    with pytest.raises(InputError, match=r"2.png: expected colours of the video's other masks, found #c8c80a$"):
        reader.read(tmp_path / "2.png")


@pytest.mark.parametrize("first", [grey(255 * ONE), coloured(ONE, [(0, 0, 0), (255, 255, 255)])])
def test_a_white_object_that_later_has_the_number_2_is_not_taken_for_another(first, tmp_path):
    first.save(tmp_path / "0.png")
    paletted(np.array([0, 2, 1], np.uint8)[TWO], [(0, 0, 0), RED, (255, 255, 255)]).save(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"1\.png: expected the colours .* found #fa0a0a and white, which are both object 1"):
        MaskReader.of(list_masks(tmp_path).values()).read(tmp_path / "1.png")


def test_objects_of_other_colours_may_enter_after_one_that_is_white(tmp_path):
    for i, (labels, colours) in enumerate([(ONE, [0, 255]), (TWO, [0, 255, RED]), (TWO - ONE, [0, 0, RED])]):
        coloured(labels, [np.broadcast_to(colour, 3) for colour in colours]).save(tmp_path / f"{i}.png")
    reader = MaskReader.of(list_masks(tmp_path).values())
    assert np.array_equal(reader.read(tmp_path / "1.png"), TWO)
    assert np.array_equal(reader.read(tmp_path / "2.png"), np.where(TWO == 2, 2, 0))


def test_an_object_that_enters_late_keeps_its_number_where_every_file_has_a_palette_of_its_own(tmp_path):
    for i, (labels, colours) in enumerate([(ONE, [RED]), (TWO, [RED, GREEN]), (TWO, [RED, BLUE])]):
        paletted(labels, [(0, 0, 0), *colours]).save(tmp_path / f"{i}.png")
    files = list(list_masks(tmp_path).values())
    with pytest.raises(InputError, match=r"2\.png: .*, where object 2 is #0afa0a, found #0a0afa"):
        MaskReader.of(files)
    paletted(np.array([0, 2, 1], np.uint8)[TWO], [(0, 0, 0), GREEN, RED]).save(files[2])
    assert np.array_equal(MaskReader.of(files).read(files[2]), TWO)


def test_a_first_mask_of_255_everywhere_is_refused_unless_black_is_the_background(tmp_path):
    grey(np.full(SIZE, 255, np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(InputError, match=r"0\.png: expected 0 where there is no object, found 255 everywhere"):
        MaskReader.of([tmp_path / "0.png"])
    assert (MaskReader(background=parse_colour("black")).read(tmp_path / "0.png") == 1).all()
    assert (MaskReader().merge({tmp_path / "0.png": 4})[0] == 4).all()  # of one object, anywhere in a video


@pytest.mark.parametrize("names", [("000", "001"), ("3", "12"), ("cat", "dog")])
def test_one_file_for_each_object_is_one_mask(names, tmp_path):
    ids = (3, 12) if names[0] == "3" else (1, 2)
    for name, (x, y) in zip(names, ((4, 4), (12, 12)), strict=True):
        for frame in ("00000", "00004"):
            write_label_map(tmp_path / name / f"{frame}.png", 255 * square((x, y)), None)
    (tmp_path / names[1] / "00004.png").unlink()
    masks = list_masks(tmp_path)
    assert list(masks) == ["00000", "00004"]
    assert mask_size(masks["00000"]) == SIZE
    expected = np.where(square((4, 4)), ids[0], 0) * (square((12, 12)) == 0) + ids[1] * square((12, 12))
    reader = MaskReader.of(masks.values())
    assert np.array_equal(reader.read(masks["00000"]), expected)  # of equal ones, the later is in front
    assert np.array_equal(reader.read(masks["00004"]), ids[0] * ONE)
    write_label_map(tmp_path / names[0] / "00004.png", TWO, None)
    with pytest.raises(InputError, match=rf"{names[0]}/00004.png: expected a mask of one object, found 2"):
        reader.read(masks["00004"])


def test_folders_of_objects_and_frames_are_in_the_order_of_their_numbers(tmp_path):
    for i in range(13):
        write_label_map(tmp_path / f"{i:03d}/{i:05d}.png", 255 * ONE, None)
    masks = list_masks(tmp_path)
    assert list(masks) == [f"{i:05d}" for i in range(13)]
    reader = MaskReader.of(masks.values())
    for i, path in enumerate(masks.values()):
        np.testing.assert_array_equal(reader.read(path), (i + 1) * ONE)


@pytest.mark.parametrize("number", [2, 3])
def test_a_line_of_small_numbers_around_an_object_is_an_edge_in_the_mask_that_decides(number, read, tmp_path):
    large = np.zeros((96, 128), np.uint8)
    cv2.circle(large, (60, 48), 30, number, -1)
    resized = Image.fromarray(large).resize((100, 75), Image.Resampling.BILINEAR)
    read(resized)
    for options in ({"note": None}, {"strict": True}):
        with pytest.raises(InputError, match=r"0.png: .* found [12] that are only edges of others \(1"):
            MaskReader.of([tmp_path / "0.png"], **options)
    with pytest.raises(InputError, match="only edges"):
        read(resized, careful=True)
    MaskReader.of([tmp_path / "0.png"], drawn=False)  # a network may find such a thing


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_an_object_drawn_in_black_on_nothing_is_an_object(mode, read):
    if mode == "P":
        mask = paletted(1 - ONE, [(0, 0, 0)] * 2)
        mask.info["transparency"] = bytes([255, 0])
    else:
        mask = Image.merge(mode, [Image.fromarray(0 * ONE)] * (len(mode) - 1) + [Image.fromarray(255 * ONE)])
    for options in ({}, {"union": True}):
        assert np.array_equal(read(mask, **options)[0], ONE)


def test_soft_edges_are_cut_at_half_where_all_objects_count_as_one(tmp_path):
    sharp = np.zeros((12, 16), np.uint8)
    sharp[3:9, 4:12] = 255
    soft = np.array(Image.fromarray(sharp).resize((64, 48), Image.Resampling.BILINEAR))
    assert len(np.unique(soft)) > 2
    Image.fromarray(soft).save(tmp_path / "soft.png")
    told: list[str] = []
    reader = MaskReader(union=True, note=told.append)
    np.testing.assert_array_equal(reader.read(tmp_path / "soft.png"), soft > 127)
    assert not told
    shades = np.linspace(8, 237, soft.size).round().astype(np.uint8).reshape(soft.shape)
    Image.fromarray(shades).save(tmp_path / "probabilities.png")
    np.testing.assert_array_equal(reader.read(tmp_path / "probabilities.png"), shades > 127)
    assert told == [f"{tmp_path}/probabilities.png: has 230 shades; what is above 127 is the object"]
    Image.fromarray(shades).convert("RGB").save(tmp_path / "in RGB.png")
    np.testing.assert_array_equal(reader.read(tmp_path / "in RGB.png"), shades > 127)


@pytest.mark.parametrize("clear", [0, 1])
def test_what_is_transparent_in_a_1_bit_mask_is_background(clear, read, tmp_path):
    file = see_through(Image.fromarray(ONE.astype(bool) if clear == 0 else ~ONE.astype(bool)), clear)
    assert np.array_equal(read(file)[0], ONE)


def test_a_mask_whose_colours_are_all_new_is_noted(read):
    told: list[str] = []
    read(coloured(TWO, [(0,) * 3, GREEN, RED]), coloured(ONE, [(0,) * 3, RED]), note=told.append)
    assert not told
    read(coloured(TWO, [(0,) * 3, GREEN, RED]), coloured(ONE, [(0,) * 3, BLUE]), note=told.append)
    read(grey(TWO), grey(127 * TWO), careful=True, note=told.append)
    assert "1.png: shares no colour with the masks before it" in told[0]
    assert "1.png: shares no number with the masks before it" in told[1]


def test_255_beside_numbers_is_told_and_refused_where_it_is_nearly_all(read, capsys):
    both = np.where(TWO == 2, np.uint8(255), TWO * 127)
    (found,) = read(grey(both), careful=True)
    assert sorted(np.unique(found)) == [0, 127]
    assert "255 beside other numbers is no object" in capsys.readouterr().err
    nearly_white = ONE * 255
    nearly_white[6, 6] = 254
    with pytest.raises(InputError, match=r"found 255 in .* pixels and 254 in 1; make them all one of the two"):
        read(grey(nearly_white), careful=True)


@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
def test_pixels_of_soft_edges_become_what_is_nearest_where_asked(mode, tmp_path, capsys):
    """Two discs, drawn eight times as large and shrunk."""
    scale, colours = 8, {"RGB": ["#fa0a0a", "#14c81e"], "P": ["#cc0000", "#009900"], "L": ["#505050", "#c8c8c8"]}[mode]
    drawn = Image.new("RGB", (160 * scale, 120 * scale))
    draw = ImageDraw.Draw(drawn)
    draw.ellipse([scale * side for side in (20, 20, 80, 90)], fill=colours[0])
    draw.ellipse([scale * side for side in (60, 40, 140, 110)], fill=colours[1])
    sharp, soft = (drawn.resize((160, 120), way) for way in (Image.Resampling.NEAREST, Image.Resampling.BOX))
    soft.convert(mode).save(tmp_path / "soft.png")
    with pytest.raises(InputError, match="only edges of others"):
        MaskReader(careful=True).read(tmp_path / "soft.png")
    found = MaskReader(careful=True, soft=True).read(tmp_path / "soft.png")
    assert "pixels of soft edges became what is nearest" in capsys.readouterr().err
    expected = np.select([(np.array(sharp) == ImageColor.getrgb(colour)).all(axis=-1) for colour in colours], [1, 2])
    order = [0, *(found[y, x] for y, x in ((50, 40), (80, 120)))]
    assert len({*order}) == len(np.unique(found)) == 3
    assert (found != np.array(order)[expected]).mean() < 0.02


def test_a_given_mask_that_is_inverted_is_refused_also_after_one_that_is_not(read):
    with pytest.raises(InputError, match=r"1.png: white covers 92% of the frame"):
        read(grey(255 * ONE), grey(INVERTED), careful=True)
    assert np.array_equal(read(grey(255 * ONE), grey(INVERTED), careful=True, background=0)[1], INVERTED // 255)


def test_a_later_mask_that_may_be_inverted_is_asked_about_where_the_object_has_moved_away(tmp_path, capsys):
    far = square((44, 28))
    masks = {"first.png": ONE, "inverted.png": 1 - far, "far.png": far, "lens.png": 0 * ONE + 1}
    for name, labels in masks.items():
        paletted(labels, [(0,) * 3, RED]).save(tmp_path / name)
    for name, labels in masks.items():
        assert np.array_equal(MaskReader.of([tmp_path / "first.png"]).read(tmp_path / name), labels)
        told = "inverted.png: object 1 is 92% of the frame and nearly all of its border, and was 8% in"
        assert (told in capsys.readouterr().err) == (name == "inverted.png")


def test_a_note_on_one_mask_does_not_silence_another_kind_of_note_on_a_later_one(tmp_path, capsys):
    masks = {"soft.png": disc(), "soft_too.png": disc(), "inverted.png": 255 * (1 - square((1, 1)))}
    for name, values in masks.items():
        grey(values).save(tmp_path / name)
    reader = MaskReader.of([tmp_path / "soft.png"])
    for name in masks:
        reader.read(tmp_path / name)
    told = capsys.readouterr().err
    assert told.count("has soft edges; above half is the object") == 1
    assert told.count("inverted.png: object 1 is 92% of the frame") == 1


@pytest.mark.parametrize("mode", ["RGBA", "P"])
@pytest.mark.parametrize(
    ("opacity", "message"),
    [
        ([0, 255, 255], ""),
        ([0, 255, 100], "some that are more than half so"),
        ([0, 100, 100], "some"),
        ([0, 0, 0], "nothing else"),
    ],
)
def test_an_object_that_is_nearly_transparent_is_not_left_out_in_silence(mode, opacity, message, read):
    if mode == "P":
        mask = paletted(TWO, [(0,) * 3, RED, GREEN])
        mask.info["transparency"] = bytes(opacity)
    else:
        colours = np.asarray([(0,) * 3, RED, GREEN], np.uint8)[TWO]
        mask = Image.fromarray(np.dstack([colours, np.array(opacity, np.uint8)[TWO]]))
    if not message:
        assert np.array_equal(read(mask)[0] != 0, TWO != 0)
        return
    with pytest.raises(InputError, match=rf"0.png: expected objects that are not transparent, found {message}"):
        read(mask)


def test_lines_around_one_of_many_objects_are_found():
    labels = np.zeros((160, 160), np.uint8)
    for i in range(64):
        y, x = 20 * (i // 8), 20 * (i % 8)
        labels[y + 2 : y + 16, x + 2 : x + 16] = i + 10
    assert rim_values(labels, count_values(labels)) == []
    around = cv2.dilate((labels == 50).astype(np.uint8), np.ones((3, 3), np.uint8)) > (labels == 50)
    labels[around] = 5
    assert rim_values(labels, count_values(labels)) == [5]


@pytest.mark.parametrize("grey", [64, 128, 160, 255])
def test_a_dithered_mask_of_1_bit_is_refused_and_a_thin_line_is_not(grey, tmp_path):
    soft = Image.fromarray(cv2.GaussianBlur(grey * np.pad(square((4, 4)), 24).repeat(2, 0), (0, 0), 6 if grey == 255 else 0.1))
    line = np.zeros((96, 96), np.uint8)
    cv2.line(line, (0, 0), (95, 95), 255)
    for name, file in (("dithered", soft.convert("1")), ("line", Image.fromarray(line))):
        file.save(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match=r"dithered.png: expected plain objects, found \d+ single pixels .* a threshold"):
        MaskReader.of([tmp_path / "dithered.png"])
    MaskReader.of([tmp_path / "dithered.png"], drawn=False)  # a network may find such a thing
    MaskReader.of([tmp_path / "line.png"])


SWITCHED = np.array([2, 1, 0], np.uint8)


@pytest.mark.parametrize("kind", [paletted, coloured, "numbers"])
@pytest.mark.parametrize(("first", "later"), [(ONE, 1 - ONE), (TWO, SWITCHED[TWO])], ids=["one", "two"])
def test_a_mask_in_which_an_object_has_become_the_background_is_refused(kind, first, later, tmp_path):
    paths = [tmp_path / f"{t}.png" for t in range(4)]
    whole = np.roll(first, 30, axis=1)
    whole[-1] = whole[0] = whole[:, 0] = 1  # an object that surrounds the frame, where the first was is nothing
    for path, labels in zip(paths, (0 * first, first, whole, later), strict=True):
        file = Image.fromarray(5 * labels) if kind == "numbers" else kind(labels, OURS)
        file.save(path)
    reader = MaskReader.of(paths)
    assert np.array_equal(reader.read(paths[2]) != 0, whole != 0)
    with pytest.raises(InputError, match=r"3.png: object \d+ is \d+% of the frame and nothing of where it was in .*1.png"):
        reader.read(paths[3])
    MaskReader.of(paths, drawn=False).read(paths[3])  # a network may have lost it


def test_numbers_that_are_the_brightness_of_our_colours_are_told(read, capsys):
    read(grey(np.array([0, 38, 75], np.uint8)[TWO]))
    assert "its numbers are the brightness of DAVIS's colours: was it saved as greyscale?" in capsys.readouterr().err
    read(grey(np.array([0, 38, 76], np.uint8)[TWO]))
    assert "brightness" not in capsys.readouterr().err


def test_an_object_of_255_beside_numbers_is_told_in_a_data_set_too_and_a_border_is_not(tmp_path):
    told: list[str] = []
    for name, labels in (("border", np.where(THICK > TWO, 255, 64 * TWO)), ("object", np.array([0, 64, 255])[TWO])):
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / f"{name}.png")
        MaskReader.of([tmp_path / f"{name}.png"], note=told.append)
    assert len(told) == 1
    assert "object.png: 255 beside other numbers is no object" in told[0]
