"""Padding, resizing, normalising, label maps, and invalid image files."""

import io
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import PLANAR_CONFIGURATION, SAMPLEFORMAT, ImageFileDirectory_v2
from torchvision import transforms
from torchvision.models import ResNet50_Weights

from dataset import mask_files
from dataset.mask_reader import MaskReader
from dataset.preparation import convert_mask
from util import image, image_folder, label_map, tensors
from util.errors import InputError


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 52, 3), dtype=np.uint8)


def test_padding_reaches_multiples_of_16_and_is_undone():
    for height, width in itertools.product(range(1, 34), (1, 8, 15, 16, 17)):
        left, right, top, bottom = padding = tensors.padding_to_stride(height, width)
        assert left <= right <= left + 1, (height, width)
        assert top <= bottom <= top + 1, (height, width)
        x = torch.arange(height * width).view(1, height, width)
        padded = F.pad(x, padding)
        assert padded.shape == (1, -(-height // 16) * 16, -(-width // 16) * 16)
        assert torch.equal(tensors.unpad(padded, padding), x)


def test_each_colour_has_the_bits_of_its_id():
    def channel(number: int, which: int) -> int:
        """Every third bit of the id, from bit `which` on, in reverse order from the highest bit down."""
        return sum(128 >> k for k, bit in enumerate(range(which, 8, 3)) if number & 1 << bit)

    colours = [tuple(label_map.colour_map()[3 * i : 3 * i + 3]) for i in range(256)]
    assert colours[:5] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert colours == [tuple(channel(number, which) for which in range(3)) for number in range(256)]


def test_normalising_equals_torchvision(picture):
    preset = ResNet50_Weights.IMAGENET1K_V1.transforms()
    expected = transforms.Compose([transforms.ToTensor(), transforms.Normalize(preset.mean, preset.std)])(picture)
    torch.testing.assert_close(tensors.normalise(torch.from_numpy(picture)), expected)


@pytest.mark.parametrize("size", [(37, 52), (74, 104), (20, 31), (37, 100)], ids=str)
def test_resizing_equals_torchvision(size, picture):
    x = tensors.normalise(torch.from_numpy(picture))
    expected = transforms.functional.resize(x, list(size), transforms.functional.InterpolationMode.BICUBIC, antialias=False)
    torch.testing.assert_close(tensors.resize_image(x, size), expected)


def test_label_maps_are_resized_as_by_pytorch():
    rng = np.random.default_rng(0)
    for old in (1, 2, 7, 47, 480, 854, 1080):
        for new in (1, 3, 10, 53, 144, 480, 853, 1081):
            labels = rng.integers(0, 256, (old, 3), dtype=np.uint8)
            expected = F.interpolate(torch.from_numpy(labels)[None, None], (new, 2), mode="nearest")[0, 0].numpy()
            assert (label_map.resize_labels(labels, (new, 2)) == expected).all(), (old, new)


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (480, 854, 600, (600, 1067)),  # 1067.5
        (854, 480, 600, (1067, 600)),
        (480, 854, 480, (480, 854)),
        (1080, 1920, 480, (480, 853)),  # 853.3
        (1920, 1080, 481, (855, 481)),  # 855.1
        (100, 100, 33, (33, 33)),
        (480, 854, None, (480, 854)),
        (180, 320, 480, (480, 853)),
        (1, 4000, 480, (1, 4000)),  # very long frames are enlarged only a little
        (100, 1000, 480, (192, 1920)),
        (1000, 100, 480, (1920, 192)),
        (100, 1000, 50, (50, 500)),
    ],
)
def test_the_shorter_side_is_exact_and_the_longer_rounded_down(height, width, size, expected):
    assert tensors.shorter_side_size(height, width, size) == expected


@pytest.mark.parametrize(
    ("labels", "expected"), [([[0, 255], [0, 0]], []), ([[9, 255, 0], [254, 9, 1]], [1, 9, 254])], ids=["none", "three"]
)
def test_background_and_ignored_pixels_are_no_objects(labels, expected):
    assert label_map.object_ids(np.array(labels, dtype=np.uint8)) == expected


def test_only_visible_images_are_listed_by_name(tmp_path):
    for name in ("b.jpg", "a.png", "C.JPEG", "c.PNG", ".b.jpg", "._a.png", ".DS_Store", "Thumbs.db", "notes.txt", "jpg"):
        (tmp_path / name).touch()
    for name in ("more", "more.bak"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "d.jpg").touch()
    assert [path.name for path in image_folder.list_images(tmp_path)] == ["C.JPEG", "a.png", "b.jpg", "c.PNG"]


@pytest.mark.parametrize(
    "names",
    [
        "-2 -1 0 1 10",
        "-0010 -0002 0000 0003",
        "-1.5 -1 -0.25 0.5",
        "0.5 1.0 1.5 10.0",
        "0.25 0.5 1 1.125 2.75 10",
        "1305031102.175304 1305031102.2 1305031103.04",
        "frame_-2 frame_-1 frame_0 frame_1.25 frame_1.5",
        "t=0.25 t=0.5s t=10",
        "0,25 0,5 10,0",
        "-001 -002 -010",  # what an empty prefix leaves
        "shot-1 shot-2 shot-10",
        "take_-1 take_-2",
        "1.1 1.9 1.10 1.11",  # shot and frame
        "v1.2.9 v1.2.10",
        "1.2.9 1.2.10",
        "2021-01-02 2021-01-10 2021-02-01",
        "a1 a1b2 a01b3 a2",
        "01 1 2 10 a a9 a10 a-1",
    ],
)
def test_numbers_in_names_are_in_order_of_their_values(names):
    assert image_folder.natural_order(sorted(names.split(), reverse=True)) == names.split()


@pytest.mark.parametrize("palette", [None, label_map.colour_map(), bytes(range(256)) * 3], ids=["grey", "ours", "another"])
def test_a_label_map_comes_back_as_it_was_written(palette, tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    path = tmp_path / "a new folder" / "mask.png"
    label_map.write_label_map(path, labels, palette)
    found = label_map.read_label_map(path)
    assert np.array_equal(found.labels, labels)
    assert found.palette == palette
    assert image.image_size(path) == (8, 32)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16", "1"])
def test_a_mask_with_colours_or_16_bits_is_refused_with_its_mode(mode, tmp_path):
    Image.new(mode, (6, 4)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=rf"mask.png: expected a label map .*, found mode {mode}$"):
        label_map.read_label_map(tmp_path / "mask.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("read", [image.read_image, label_map.read_label_map])
def test_a_truncated_file_is_named_and_never_half_read(read, suffix, tmp_path, picture):
    path = tmp_path / f"frame.{suffix}"
    Image.fromarray(picture[..., 0]).save(path)
    whole = path.read_bytes()
    for size in (0, 1, 30, len(whole) // 2, len(whole) - 50):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=rf"frame.{suffix}: cannot read this image"):
            read(path)


@pytest.mark.parametrize("read", [image.read_image, label_map.read_label_map, image.image_size])
def test_an_absent_file_or_a_text_is_named(read, tmp_path):
    with pytest.raises(InputError, match=r"none\.png: no such file$"):
        read(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("a mask")
    with pytest.raises(InputError, match=r"text\.png: cannot read this image"):
        read(tmp_path / "text.png")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_a_picture_of_any_mode_becomes_rgb(mode, tmp_path, picture):
    file = Image.fromarray(picture).convert(mode)
    file.save(tmp_path / "frame.png")
    found = image.read_image(tmp_path / "frame.png")
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.array(file.convert("RGB")))


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def written(path: Path, values: np.ndarray) -> np.ndarray:
    """Values as read back after OpenCV has written them; it writes 16 bits as other programs do."""
    assert cv2.imwrite(str(path), values)
    return image.read_image(path)


@pytest.mark.parametrize("name", ["frame.png", "frame.tif"])
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_16_bits_are_scaled_to_8(channels, name, tmp_path):
    values = np.stack([RAMP] * channels, axis=-1).astype(np.uint16) * 257
    assert np.array_equal(written(tmp_path / name, values), np.stack([RAMP] * 3, axis=-1))
    assert np.array_equal(written(tmp_path / name, (values > 30_000) * np.uint16(65_535))[..., 0], 255 * (RAMP > 116))
    assert not written(tmp_path / name, 0 * values).any()


def test_a_file_of_absurd_size_is_no_picture(tmp_path):
    written(tmp_path / "a.png", np.stack([RAMP] * 3, axis=-1).astype(np.uint16) * 257)
    with open(tmp_path / "a.png", "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=r"a.png: .*\(it has 1024 GiB, more than 2\)$"):
        image.read_image(tmp_path / "a.png")


def test_a_16_bit_tiff_in_which_white_is_0_is_turned_over(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "frame.tif", tiffinfo={262: 0})
    assert np.array_equal(image.read_image(tmp_path / "frame.tif")[..., 0], 255 - RAMP)


@pytest.mark.parametrize(
    ("values", "tags", "message"),
    [
        (RAMP.astype(np.int8), {SAMPLEFORMAT: 2}, "found a signed picture of unknown range"),
        (np.stack([RAMP] * 2, axis=-1), {}, "(found 2 channels; save the one that counts|it is not JPEG)"),  # Pillow 11
        (np.stack([RAMP] * 3).astype(np.uint16), {PLANAR_CONFIGURATION: 2}, "16-bit channels pixel by pixel, found one after"),
    ],
)
def test_a_tiff_that_would_be_read_as_another_picture_is_refused(values, tags, message, tmp_path):
    """As tifffile and ImageJ write them."""
    channels, bits = values.size // RAMP.size, 8 * values.itemsize
    planes = channels if tags.get(PLANAR_CONFIGURATION) == 2 else 1
    starts = tuple(i * values.nbytes // planes for i in range(planes))
    head = ImageFileDirectory_v2()
    tags = {256: RAMP.shape[1], 257: RAMP.shape[0], 258: (bits,) * channels, 262: 2 if channels == 3 else 1} | tags
    tags |= {273: starts, 277: channels, 278: RAMP.shape[0], 279: (values.nbytes // planes,) * planes}
    tags |= {338: (0,)} if channels == 2 else {}
    for tag, value in tags.items():
        head[tag] = value
    with open(tmp_path / "a.tif", "wb") as file:
        head.save(file)
        file.write(values.tobytes())
    with pytest.raises(InputError, match=rf"a.tif: .*{message}"):
        image.read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("float.tif", RAMP.astype(np.float32), "found a floating-point picture of unknown range"),
        (
            "cam.png",
            RAMP.astype(np.uint16) * 16,
            "expected a 16-bit picture that uses its range, found values from 16 to 4080",
        ),
        ("rgb.png", np.stack([RAMP.astype(np.uint16) * 16] * 3, axis=-1), "that uses its range, found values from 16 to 4080"),
        ("low.png", RAMP.astype(np.uint16), "expected a 16-bit picture, found no value above 255"),
        ("low.tif", RAMP.astype(np.uint16), "expected a 16-bit picture, found no value above 255"),
    ],
)
def test_a_picture_of_unknown_range_is_refused(name, values, message, tmp_path):
    with pytest.raises(InputError, match=rf"{name}: .*{message}"):
        written(tmp_path / name, values)


@pytest.mark.parametrize(
    ("name", "orientation"),
    [
        *((name, n) for name in ("frame.jpg", "deep.png") for n in range(1, 9)),
        *((name, n) for name in ("frame.png", "frame.webp", "frame.tif") for n in (5, 8)),
    ],
)
def test_a_picture_is_turned_as_its_exif_orientation_says(orientation, name, tmp_path):
    """Against Pillow's own way."""
    stored = Image.fromarray(np.repeat(np.repeat(RAMP[:4, :6] * np.uint8(10), 8, axis=0), 8, axis=1))
    exif = stored.getexif()
    exif[0x0112] = orientation
    stored.save(tmp_path / name, exif=exif, **({"lossless": True} if name.endswith("webp") else {}))
    expected = np.array(ImageOps.exif_transpose(stored).convert("RGB"))
    if name == "deep.png":  # Pillow writes no colours with 16 bits
        content = (tmp_path / name).read_bytes()
        chunk = content[content.index(b"eXIf") - 4 : content.index(b"IDAT") - 4]
        assert cv2.imwrite(str(tmp_path / name), np.stack([np.array(stored).astype(np.uint16) * 257] * 3, axis=-1))
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:33] + chunk + content[33:])
    found = image.read_image(tmp_path / name)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 8
    assert image.image_size(tmp_path / name) == expected.shape[:2]


@pytest.mark.parametrize("mode", ["P", "L"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
def test_a_mask_is_turned_only_if_its_own_exif_says_so(orientation, mode, tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    mask = Image.fromarray(labels)
    if mode == "P":
        mask.putpalette(label_map.colour_map())
    mask.save(tmp_path / "mask.png", exif=exif)
    found = MaskReader(note=None).read(tmp_path / "mask.png")
    assert np.array_equal(found, np.rot90(labels, {3: 2, 6: -1}.get(orientation, 0)))
    assert mask_files.mask_size(tmp_path / "mask.png") == found.shape


def test_a_damaged_exif_turns_nothing(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "frame.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(image.read_image(tmp_path / "frame.png"), picture)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(suffix, tmp_path):
    red = np.full((8, 8, 3), (200, 20, 20), np.uint8)
    Image.fromarray(red).convert("CMYK").save(tmp_path / f"frame.{suffix}")
    assert np.abs(image.read_image(tmp_path / f"frame.{suffix}").astype(int) - red).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels_are_refused_and_an_opaque_picture_with_alpha_is_not(mode, tmp_path, picture):
    grey = Image.fromarray(picture[..., 0])
    if mode in ("RGBA", "LA"):
        frame = grey.convert(mode)
        frame.save(tmp_path / "opaque.png")
        frame.putalpha(Image.fromarray(np.where(picture[..., 0] > 9, np.uint8(255), np.uint8(0))))
        frame.save(tmp_path / "clear.png")
    else:
        frame = grey.convert(mode)
        frame.save(tmp_path / "opaque.png", transparency=None)
        frame.save(tmp_path / "clear.png", transparency=7 if mode == "P" else (7, 7, 7))
    assert np.array_equal(image.read_image(tmp_path / "opaque.png")[..., 0], picture[..., 0])
    with pytest.raises(InputError, match=r"clear.png: expected an opaque picture, found transparent pixels"):
        image.read_image(tmp_path / "clear.png")


def test_several_pictures_in_a_file_are_refused(tmp_path):
    pages = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    for read in (image.read_image, label_map.read_label_map, image.image_size):
        with pytest.raises(InputError, match=r"stack.tif: expected one picture in a file, found 2"):
            read(tmp_path / "stack.tif")


@pytest.mark.parametrize("read", [label_map.read_label_map, mask_files.mask_size])
def test_a_mask_in_a_lossy_format_is_refused_whatever_it_is_called(read, tmp_path):
    mask = Image.fromarray((RAMP > 99) * np.uint8(255))
    mask.save(tmp_path / "mask.jpg")
    mask.save(tmp_path / "called.png", format="JPEG")
    mask.save(tmp_path / "mask.tif", compression="jpeg")
    mask.save(tmp_path / "mask.webp")
    for name, kind in (("mask.jpg", "JPEG"), ("called.png", "JPEG"), ("mask.tif", "JPEG"), ("mask.webp", "WEBP")):
        with pytest.raises(InputError, match=rf"{name}: expected a mask as PNG, found {kind}, .* save the mask as PNG$"):
            read(tmp_path / name)


def as_numbered(*maps: list[int], **options) -> list[list[int]]:
    numbering = label_map.Numbering(**options)
    return [numbering.read(np.array([labels], dtype=np.uint8), f"{t}.png")[0].tolist() for t, labels in enumerate(maps)]


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        ([[0, 255, 0], [255, 255, 0]], [[0, 1, 0], [1, 1, 0]]),
        ([[255, 255, 255]], [[1, 1, 1]]),
        ([[0, 0, 0], [0, 255, 0]], [[0, 0, 0], [0, 1, 0]]),  # empty ones decide nothing
        ([[0, 255, 3], [255, 9, 0]], [[0, 0, 3], [0, 9, 0]]),
        ([[0, 4, 0], [0, 255, 0], [255, 4, 0]], [[0, 4, 0], [0, 0, 0], [0, 4, 0]]),  # only what is ignored is left
        ([[0, 255, 0], [0, 1, 2]], [[0, 1, 0], [0, 1, 2]]),
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]]),
    ],
)
def test_the_first_mask_of_a_video_says_what_255_means_in_all(maps, expected):
    assert as_numbered(*maps) == expected


@pytest.mark.parametrize("strict", [False, True])
def test_255_beside_numbers_after_white_on_black_is_refused(strict):
    with pytest.raises(InputError, match=r"^1.png: expected white on black, .* found 255 and other numbers"):
        as_numbered([0, 255], [255, 7], strict=strict)


def test_white_on_black_after_numbers_is_refused_where_each_mask_must_state_something():
    with pytest.raises(InputError, match=r"^1.png: expected numbered objects, .* found only 0 and 255"):
        as_numbered([0, 7], [255, 0], strict=True)


def test_a_picture_that_shrinks_much_does_not_alias():
    stripes = torch.zeros(3, 96, 96)
    stripes[:, :, ::2] = 1
    for size, blurred in ((40, False), (24, True)):
        found = tensors.resize_image(stripes, (size, size))[:, 4:-4, 4:-4]
        assert (found.std() < 0.05) == blurred, size


def test_only_the_formats_that_we_mean_are_opened(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n")
    with pytest.raises(InputError, match=r"a.jpg: cannot read this image \(it is not JPEG, .* or GIF\)"):
        image.read_image(path)


@pytest.mark.parametrize("colour", [0, 255])
def test_the_brightness_of_a_mask_whose_content_is_its_opacity(colour, tmp_path):
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:5, 3:7] = 255
    Image.merge("LA", [Image.fromarray(np.full_like(alpha, colour)), Image.fromarray(alpha)]).save(tmp_path / "a.png")
    assert np.array_equal(image.read_grey(tmp_path / "a.png"), alpha)
    converted = convert_mask((tmp_path / "a.png").read_bytes(), grey=True)
    assert np.array_equal(np.array(Image.open(io.BytesIO(converted))), alpha)


def test_a_mask_named_like_the_frames_around_it_is_noticed(tmp_path, picture):
    large = np.tile(picture, (4, 4, 1))
    paths = [tmp_path / f"{i:05d}.png" for i in range(5)]
    for path in paths:
        Image.fromarray(large).save(path)
    assert image_folder.masks_among(paths) == []
    mask = np.zeros_like(large)
    mask[20:90, 30:99] = (200, 20, 20)
    Image.fromarray(mask).save(paths[0])
    Image.fromarray(np.zeros_like(large)).save(paths[3])  # a black frame
    assert image_folder.masks_among(paths) == [paths[0]]
    for path in paths:
        Image.fromarray(mask).save(path)
    assert image_folder.masks_among(paths) == []


@pytest.mark.parametrize(
    "name", ["2 (1)", "2(1)", "2 copy", "2 - Copy (3)", "2~2", "2-edited", "2_overlay", "2 (conflicted copy 2024-01-31)"]
)
def test_a_copy_of_a_frame_is_no_frame(name, tmp_path):
    paths = [tmp_path / f"{stem}.png" for stem in ("1", "2", name, "3")]
    for path in paths:
        Image.fromarray(np.arange(3072, dtype=np.uint32).reshape(48, 64).astype(np.uint8)).save(path)
    with pytest.raises(InputError, match="is called like a copy of frame 2; move it away"):
        image_folder.refuse_strangers(paths, [".png"] * 4)
    image_folder.refuse_strangers([tmp_path / "2.png", tmp_path / f"{name}.png", tmp_path / "2 (4).png"], [".png"] * 3)
    image_folder.refuse_strangers([tmp_path / "1.png", tmp_path / "2.png", tmp_path / "2_1.png"], [".png"] * 3)  # in a second
