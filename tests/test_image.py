"""Padding, resizing, normalising and label maps, and files that are not what they should be."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms
from torchvision.models import ResNet50_Weights

from util import image
from util.errors import InputError


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 52, 3), dtype=np.uint8)


def test_padding_reaches_multiples_of_16_and_is_undone():
    for height, width in itertools.product(range(1, 41), repeat=2):
        left, right, top, bottom = padding = image.padding_to_stride(height, width)
        assert left <= right <= left + 1, (height, width)
        assert top <= bottom <= top + 1, (height, width)
        x = torch.arange(height * width).view(1, height, width)
        padded = F.pad(x, padding)
        assert padded.shape == (1, -(-height // 16) * 16, -(-width // 16) * 16)
        assert torch.equal(image.unpad(padded, padding), x)


def test_each_colour_has_the_bits_of_its_id():
    def channel(number: int, which: int) -> int:
        """Every third bit of the id from bit `which` on, the lowest of them becoming the highest."""
        return sum(128 >> k for k, bit in enumerate(range(which, 8, 3)) if number & 1 << bit)

    colours = [tuple(image.colour_map()[3 * i : 3 * i + 3]) for i in range(256)]
    assert colours[:5] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert colours == [tuple(channel(number, which) for which in range(3)) for number in range(256)]


def test_normalising_equals_torchvision(picture):
    preset = ResNet50_Weights.IMAGENET1K_V1.transforms()
    expected = transforms.Compose([transforms.ToTensor(), transforms.Normalize(preset.mean, preset.std)])(picture)
    torch.testing.assert_close(image.normalise(torch.from_numpy(picture)), expected)


@pytest.mark.parametrize("size", [(37, 52), (74, 104), (20, 31), (37, 100)], ids=str)
def test_resizing_equals_torchvision(size, picture):
    x = image.normalise(torch.from_numpy(picture))
    expected = transforms.functional.resize(x, list(size), transforms.functional.InterpolationMode.BICUBIC, antialias=False)
    torch.testing.assert_close(image.resize_image(x, size), expected)


def test_resized_label_maps_hold_no_new_labels():
    labels = torch.tensor([[0, 255, 3], [7, 0, 9]], dtype=torch.uint8)
    expected = labels.repeat_interleave(2, dim=0).repeat_interleave(3, dim=1)
    assert torch.equal(image.resize_labels(labels, (4, 9)), expected)


def test_resized_probabilities_still_sum_to_1():
    probabilities = torch.randn(3, 12, 16).softmax(dim=0)
    found = image.resize_probabilities(probabilities, (25, 31))
    torch.testing.assert_close(found.sum(dim=0), torch.ones(25, 31))
    assert image.resize_probabilities(probabilities, (12, 16)) is probabilities


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
    ],
)
def test_the_shorter_side_is_exact_and_the_longer_rounded_down(height, width, size, expected):
    assert image.shorter_side_size(height, width, size) == expected


def test_one_hot_masks_are_in_the_order_of_the_ids():
    labels = torch.tensor([[0, 7, 255], [2, 7, 0]], dtype=torch.uint8)
    expected = torch.tensor([[[0, 1, 0], [0, 1, 0]], [[0, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]])
    found = image.one_hot(labels, [7, 2, 5])
    assert found.dtype == torch.float32
    assert torch.equal(found, expected.float())
    assert image.one_hot(labels, []).shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("labels", "expected"), [([[0, 255], [0, 0]], []), ([[9, 255, 0], [254, 9, 1]], [1, 9, 254])], ids=["none", "three"]
)
def test_background_and_ignored_pixels_are_no_objects(labels, expected):
    assert image.object_ids(np.array(labels, dtype=np.uint8)) == expected


def test_only_visible_images_are_listed_by_name(tmp_path):
    for name in ("b.jpg", "a.png", "C.JPEG", "c.PNG", ".b.jpg", "._a.png", ".DS_Store", "Thumbs.db", "notes.txt", "jpg"):
        (tmp_path / name).touch()
    for name in ("more", "more.bak"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "d.jpg").touch()
    assert [path.name for path in image.list_images(tmp_path)] == ["C.JPEG", "a.png", "b.jpg", "c.PNG"]


@pytest.mark.parametrize("palette", [None, image.colour_map(), bytes(range(256)) * 3], ids=["grey", "ours", "another"])
def test_a_label_map_comes_back_as_it_was_written(palette, tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    path = tmp_path / "a new folder" / "mask.png"
    image.write_label_map(path, labels, palette)
    found = image.read_label_map(path)
    assert np.array_equal(found.labels, labels)
    assert found.palette == palette
    assert image.image_size(path) == (8, 32)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_paletted_file_of_few_bits_keeps_its_labels_and_colours(bits, tmp_path):
    labels = np.arange(2**bits, dtype=np.uint8)[None].repeat(3, axis=0)
    file = Image.fromarray(labels)
    file.putpalette(image.colour_map()[: 3 * 2**bits])
    file.save(tmp_path / "mask.png", bits=bits)
    found = image.read_label_map(tmp_path / "mask.png")
    assert np.array_equal(found.labels, labels)
    assert found.palette[: 3 * 2**bits] == image.colour_map()[: 3 * 2**bits]
    assert len(found.palette) == 768


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_a_mask_with_colours_or_16_bits_is_refused_with_its_mode(mode, tmp_path):
    Image.new(mode, (6, 4)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=rf"mask.png: expected a label map .*, found mode {mode}$"):
        image.read_label_map(tmp_path / "mask.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("read", [image.read_image, image.read_label_map])
def test_a_truncated_file_is_named_and_never_half_read(read, suffix, tmp_path, picture):
    path = tmp_path / f"frame.{suffix}"
    Image.fromarray(picture[..., 0]).save(path)
    whole = path.read_bytes()
    for size in (0, 1, 30, len(whole) // 2, len(whole) - 50):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=rf"frame.{suffix}: cannot read this image"):
            read(path)


@pytest.mark.parametrize("read", [image.read_image, image.read_label_map, image.image_size])
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
