"""Regions of interest against whole frames, and against one crop after the other."""

import io

import numpy as np
import pytest
import torch
from conftest import ROOT, build_light_network

from model import VideoSegmenter, load_for_inference
from model.modules import KeyFeatures
from model.roi import GRID, LEAST, MARGIN, OUTSIDE, cells_with, decode_regions, regions_of
from util.image import read_image
from util.label_map import read_label_map

H, W = 30, 54  # cells, as of 480p


def shown(*boxes: tuple[int, int, int, int]) -> torch.Tensor:
    """For each object, what it shows in the cells of a box (top, left, bottom, right), and elsewhere hardly anything."""
    result = torch.full((len(boxes), H, W), LEAST / 2)
    for cells, (top, left, bottom, right) in zip(result, boxes, strict=True):
        cells[top:bottom, left:right] = 2 * LEAST
    return result


def test_cells_remember_the_most_that_they_show():
    masks = torch.zeros(2, 32, 48)
    masks[0, 3, 5], masks[1, 31, 47], masks[1, 30, 46] = 0.5, 0.2, 0.9
    expected = torch.zeros(2, 1, 2, 3)
    expected[0, 0, 0, 0], expected[1, 0, 1, 2] = 0.5, 0.9
    assert torch.equal(cells_with(masks), expected)


def test_objects_that_are_far_apart_have_regions_of_their_own_and_others_share_one():
    ((alone, (rows, columns)),) = regions_of(shown((10, 20, 12, 23)))
    assert alone == [0]
    assert rows == slice(10 - MARGIN, 12 + MARGIN)  # 8 rows, a multiple of GRID
    assert columns.start <= 20 - MARGIN
    assert columns.stop >= 23 + MARGIN
    assert (columns.stop - columns.start) % GRID == 0
    far = regions_of(shown((2, 2, 4, 4), (0, 0, 0, 0), (26, 50, 30, 54)))
    assert [objects for objects, _ in far] == [[0], [2]]  # the second is nowhere
    assert far[1][1][0].stop == H
    assert far[1][1][1].stop == W
    assert [objects for objects, _ in regions_of(shown((2, 2, 9, 9), (3, 3, 9, 9)))] == [[0, 1]]
    assert regions_of(shown((0, 0, 0, 0), (0, 0, 0, 0))) == []
    assert regions_of(shown((0, 0, H, W))) == [([0], (slice(0, H), slice(0, W)))]


def test_a_region_is_decoded_from_its_part_of_each_feature_and_shows_nothing_elsewhere():
    torch.manual_seed(0)
    readout = torch.rand(2, 5, H, W)
    readout[:, -1] = shown((2, 2, 4, 4), (20, 40, 24, 44))
    features = KeyFeatures(*(torch.rand(1, 3, n * H, n * W) for n in (1, 1, 1, 2, 4)))

    def decode(part: torch.Tensor, cut: KeyFeatures) -> torch.Tensor:  # a sum of what lies over each pixel
        return sum(x.mean(dim=-3).repeat_interleave(n, -1).repeat_interleave(n, -2) for x, n in of_each(part, cut))

    def of_each(part, cut):
        return zip((part, cut.key, cut.f16_compressed, cut.f16, cut.f8, cut.f4), (16, 16, 16, 16, 8, 4), strict=True)

    whole = decode(readout[None, :, :-1], features)[0]
    found = decode_regions(decode, readout, features)
    for i, (rows, columns) in enumerate([(slice(0, 8), slice(0, 8)), (slice(17, 29), slice(37, 49))]):
        inside = torch.zeros(16 * H, 16 * W, dtype=torch.bool)
        inside[16 * rows.start : 16 * rows.stop, 16 * columns.start : 16 * columns.stop] = True
        torch.testing.assert_close(found[i][inside], whole[i][inside])
        assert (found[i][~inside] == OUTSIDE).all()


def box(*boxes: tuple[int, int, int]) -> np.ndarray:
    """A label map with squares: (id, top, left)."""
    labels = np.zeros((37, 52), np.uint8)
    for number, top, left in boxes:
        labels[top : top + 12, left : left + 14] = number
    return labels


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("stcn", {"memory_every": 3, "include_last": True, "top_k": 7}),
        ("stcn", {"memory_every": 1, "max_memory_frames": 2, "flip": True}),
        ("stcn", {"memory_every": 2, "top_k": None, "size": 48}),
        ("stcn", {"memory_every": 2, "kernel": True}),
        ("stm", {"memory_every": 2}),
    ],
)
def test_regions_that_are_all_of_the_frame_change_nothing(arch, options, monkeypatch):
    monkeypatch.setattr("model.roi.LEAST", -1)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 37, 52, 3), dtype=np.uint8)
    masks = {0: box((2, 5, 5)), 3: box((7, 20, 30), (3, 2, 35))}
    network = build_light_network(arch=arch)
    whole, regional = (VideoSegmenter(network, roi=roi, **options) for roi in (False, True))
    if arch == "stcn":
        for segmenter in (whole, regional):
            segmenter.memorise(frames[7], box((9, 12, 12)), stated=[9])
    for t, frame in enumerate(frames):
        expected, found = (segmenter.step(frame, masks.get(t)) for segmenter in (whole, regional))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0, msg=f"frame {t}")
    assert len(regional.object_ids) == 3 + (arch == "stcn")


def test_probabilities_in_half_precision_come_from_logits_in_float32():
    readout = torch.ones(1, 5, 2, 2, dtype=torch.bfloat16)
    features = KeyFeatures(*(torch.rand(1, 3, n * 2, n * 2, dtype=torch.bfloat16) for n in (1, 1, 1, 2, 4)))
    found = decode_regions(lambda *_: torch.full((1, 1, 32, 32), 6.0123), readout, features)
    assert (found == 6.0123).all()


@pytest.fixture(scope="module")
def film(demo_data) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of a made-up video with two objects, and the mask of the first."""
    root = demo_data / "DAVIS/2017/trainval"
    paths = sorted((root / "JPEGImages/480p/val1").iterdir())[:12]
    mask = read_label_map(root / "Annotations/480p" / paths[0].parent.name / f"{paths[0].stem}.png").labels
    return [read_image(path) for path in paths], mask


def test_labels_are_as_of_whole_frames_and_a_saved_state_goes_on_with_the_same_bits(film, monkeypatch):
    frames, mask = film
    network = load_for_inference(ROOT / "saves/stcn_light.pth", device="cpu", amp=False)
    whole, regional, again = (VideoSegmenter(network, size=192, roi=roi) for roi in (False, True, True))
    areas = []
    decode = network.decode
    monkeypatch.setattr(network, "decode", lambda read, *given: areas.append(read[0, 0, 0].numel()) or decode(read, *given))
    for t, frame in enumerate(frames):
        if t in (5, 6):
            frame = np.full_like(frame, 90)  # they are gone for a while
        expected = whole.step(frame, mask if t == 0 else None)
        if t == 7:
            file = io.BytesIO()
            torch.save(regional.state_dict(), file)
            file.seek(0)
            again.load_state_dict(torch.load(file, weights_only=True))
        found = regional.step(frame, mask if t == 0 else None)
        if t >= 7:
            assert torch.equal(again.step(frame), found)
            assert {*regional.to_labels(found).unique().tolist()} == {0, 1, 2}
        assert (whole.to_labels(expected) == regional.to_labels(found)).float().mean() > 0.999, t
    assert min(areas) < max(areas) / 2


def test_a_lost_object_is_nowhere_and_costs_nothing(film, monkeypatch):
    frames, mask = film
    network = load_for_inference(ROOT / "saves/stcn_light.pth", device="cpu", amp=False)
    segmenter = VideoSegmenter(network, size=192, roi=True)
    segmenter.step(frames[0], mask)
    decoded = []
    monkeypatch.setattr(network, "decode", lambda *given: decoded.append(given))
    blank = np.zeros_like(frames[0])
    monkeypatch.setattr(segmenter.bank, "read", lambda key: torch.zeros(mask.max(), 129, *key.shape[1:]))
    found = segmenter.step(blank)
    assert found is not None
    assert not decoded
    assert (segmenter.to_labels(found) == 0).all()


def test_a_network_of_onnx_is_refused():
    from model.onnx import OnnxNetwork

    with pytest.raises(ValueError, match="roi: expected a network of PyTorch"):
        VideoSegmenter(OnnxNetwork.__new__(OnnxNetwork), roi=True)
