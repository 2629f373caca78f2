"""Segment Anything from ONNX files, in place of the scribble network."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evaluation.cut import cut_by, cut_with_sam
from model import sam as module
from model.sam import BOTTOM_RIGHT, EFFICIENT_INPUTS, OFF, ON, SAM_INPUTS, TOP_LEFT, Sam
from util.errors import InputError


class Encoder:
    """Its answer is its input; `shape` says which kind of encoder it is."""

    def __init__(self, shape: list[Any]) -> None:
        self.shape, self.images = shape, []

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="image", shape=self.shape)]

    def run(self, _, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.images.append(given["image"])
        return [given["image"]]


class Decoder:
    """Finds a disc of 20 pixels around the first point; its second answer, of three, is the best and twice as wide."""

    def __init__(self, inputs: set[str]) -> None:
        self.inputs, self.given = inputs, {}

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in self.inputs]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in ("output_masks", "iou_predictions")]

    def run(self, answers: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.given = given
        if "orig_im_size" in given and "batched_point_coords" in given:
            height, width = given["orig_im_size"]
            y, x = np.mgrid[:height, :width]
            px, py = given["batched_point_coords"][0, 0, 0]
            discs = [(20 * k) ** 2 - (x - px) ** 2 - (y - py) ** 2 for k in (1, 2, 3)]
            return [np.float32(discs)[None, None], np.float32([[[0.1, 0.9, 0.2]]])]
        assert answers == ["low_res_masks", "iou_predictions"]
        y, x = np.mgrid[:256, :256] * 4 + 1.5  # where their pixels are in the image of 1,024 pixels
        px, py = given["point_coords"][0, 0]
        discs = [(20 * k) ** 2 - (x - px) ** 2 - (y - py) ** 2 for k in (3, 1, 2)]
        return [np.float32(discs)[None], np.float32([[0.5, 0.1, 0.9]])]


@pytest.fixture
def made(monkeypatch, tmp_path):
    """A function that makes a `Sam` of such parts."""

    def make(shape: list[Any], inputs: set[str]) -> tuple[Sam, Encoder, Decoder]:
        parts = Encoder(shape), Decoder(inputs)
        for name in ("a.encoder.onnx", "a.decoder.onnx"):
            (tmp_path / name).touch()
        monkeypatch.setattr(module, "open_onnx", lambda path: parts["decoder" in path.name])
        return Sam(tmp_path), *parts

    return make


def disc(size: tuple[int, int], x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


@pytest.mark.parametrize("size", [(512, 300), (200, 400)])
def test_masks_lie_where_the_points_are_whatever_the_proportions(made, size):
    sam, encoder, decoder = made([1, 3, 1024, 1024], SAM_INPUTS)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    scale = 1024 / max(size)
    found = sam(image, np.array([[90.0, 120.0]]), np.array([ON]))  # one point: the best of the answers for one
    assert (found ^ disc(size, 90, 120, 40 / scale)).mean() < 0.002
    several = sam(image, np.array([[90.0, 120.0], [5, 5]]), np.array([ON, OFF]))  # the answer for several
    assert (several ^ disc(size, 90, 120, 60 / scale)).mean() < 0.002
    assert decoder.given["point_labels"].tolist() == [[ON, OFF, -1]]
    (padded,) = encoder.images  # encoded once
    height, width = (round(each * scale) for each in size)
    assert padded.shape == (1, 3, 1024, 1024)
    assert not padded[..., height:, :].any()
    assert not padded[..., width:].any()
    assert abs(padded[0, :, :height, :width].mean()) < 0.5
    sam(image[::-1], np.array([[90.0, 120.0]]), np.array([ON]))
    assert len(encoder.images) == 2


def test_encoders_that_normalise_themselves_get_the_picture(made):
    sam, encoder, _ = made(["height", "width", 3], SAM_INPUTS)
    sam(np.full((100, 200, 3), 7, np.uint8), np.array([[1.0, 2.0], [30, 40]]), np.array([TOP_LEFT, BOTTOM_RIGHT]))
    assert encoder.images[0].shape == (512, 1024, 3)
    assert (encoder.images[0] == 7).all()


def test_efficient_sam_takes_points_and_pictures_as_they_are(made):
    sam, encoder, decoder = made(["batch", 3, "height", "width"], EFFICIENT_INPUTS)
    found = sam(np.full((90, 160, 3), 255, np.uint8), np.array([[80.0, 30.0]]), np.array([ON]))
    assert (found == disc((90, 160), 80, 30, 40)).all()
    assert encoder.images[0].shape == (1, 3, 90, 160)
    assert (encoder.images[0] == 1).all()
    assert decoder.given["batched_point_labels"].tolist() == [[[ON]]]


def asked(mask: np.ndarray, on: np.ndarray, off: np.ndarray) -> set[tuple[int, int, int]]:
    """The points (x, y, label) that Segment Anything is asked for."""
    points: list[tuple[int, int, int]] = []

    def sam(image: np.ndarray, places: np.ndarray, labels: np.ndarray) -> np.ndarray:
        points.extend((int(x), int(y), int(label)) for (x, y), label in zip(places, labels, strict=True))
        return np.ones(image.shape[:2], bool)

    found = cut_with_sam(sam, np.zeros((*mask.shape, 3), np.uint8), mask, np.zeros_like(mask), on, off)  # type: ignore
    assert (found == ~off).all()
    return set(points)


def test_marks_become_points_and_masks_boxes():
    nothing = np.zeros((100, 160), bool)
    on, off = disc(nothing.shape, 40, 30, 4), disc(nothing.shape, 120, 60, 4)
    assert asked(nothing, on, off) == {(40, 30, ON), (120, 60, OFF)}
    box = nothing.copy()
    box[20:50, 60:90] = True
    assert asked(box, nothing, ~box) == {(60, 20, TOP_LEFT), (89, 49, BOTTOM_RIGHT)}
    line = nothing.copy()
    line[50, 10:150] = True
    points = asked(box, line, nothing)
    assert {(10, 20, TOP_LEFT), (149, 50, BOTTOM_RIGHT)} < points
    along = sorted(x for x, _, label in points if label == ON)
    assert len(along) == 4
    assert {10, 149} < set(along)  # the ends, and between them


def test_nothing_marked_finds_nothing_and_others_keep_their_pixels():
    nothing, full = np.zeros((20, 30), bool), np.ones((20, 30), bool)
    image = np.zeros((20, 30, 3), np.uint8)
    everything: Any = lambda *_: full  # noqa: E731
    assert not cut_with_sam(everything, image, nothing, nothing, nothing, full).any()
    other, on = disc((20, 30), 20, 10, 5), disc((20, 30), 18, 10, 2)
    found = cut_with_sam(everything, image, nothing, other, on, nothing)
    assert (found == (~other | on)).all()


def test_other_folders_are_refused_in_one_line(made, tmp_path):
    with pytest.raises(InputError, match=r"expected one \*encoder\*\.onnx, found none"):
        Sam(tmp_path)
    with pytest.raises(InputError, match="expected a decoder of SAM, MobileSAM or EfficientSAM, found inputs prompt"):
        made([1, 3, 1024, 1024], {"prompt"})
    with pytest.raises(InputError, match="expected an encoder of images"):
        made([1, 1000], SAM_INPUTS)
    sam, encoder, _ = made([1, 3, 1024, 1024], SAM_INPUTS)
    encoder.run = lambda *_: 1 / 0
    with pytest.raises(InputError, match="cannot compute a mask"):
        sam(np.zeros((8, 8, 3), np.uint8), np.zeros((1, 2)), np.array([ON]))
    (tmp_path / "b.encoder.quant.onnx").touch()
    with pytest.raises(InputError, match=r"expected one \*encoder\*\.onnx, found a.encoder.onnx, b"):
        Sam(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("single", [False, True])
def test_the_graph_of_mobile_sam_answers_as_its_own_predictor(tmp_path, single):
    """With made-up weights."""
    mobile_sam = pytest.importorskip("mobile_sam", reason="the extra `dev` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    from mobile_sam.utils.onnx import SamOnnxModel

    torch.manual_seed(0)
    network = mobile_sam.sam_model_registry["vit_t"](checkpoint=None).eval()
    export(network.image_encoder, tmp_path / "m.encoder.onnx", {"image": torch.zeros(1, 3, 1024, 1024)}, ["image_embeddings"])
    inputs = {
        "image_embeddings": torch.randn(1, 256, 64, 64),
        "point_coords": torch.zeros(1, 5, 2),
        "point_labels": torch.ones(1, 5),
        "mask_input": torch.zeros(1, 1, 256, 256),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([1500.0, 2250.0]),
    }
    export(
        SamOnnxModel(network, single).eval(),
        tmp_path / "m.decoder.onnx",
        inputs,
        ["masks", "iou_predictions", "low_res_masks"],
    )
    ours, theirs = Sam(tmp_path), mobile_sam.SamPredictor(network)
    image = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    theirs.set_image(image)
    points = np.array([[20.0, 30.0], [70, 100], [50, 60]])
    for labels in ([ON], [ON, OFF, ON], [TOP_LEFT, BOTTOM_RIGHT]):
        told = points[: len(labels)]
        one = {"box": told.ravel()} if TOP_LEFT in labels else {"point_coords": told, "point_labels": np.array(labels)}
        masks, quality, _ = theirs.predict(**one, multimask_output=len(labels) < 3, return_logits=True)
        expected = masks[quality.argmax()] > 0
        assert 0.01 < expected.mean() < 0.99
        assert (ours(image, told, np.array(labels)) == expected).mean() > 0.999


def export(part: nn.Module, path: Path, inputs: dict[str, torch.Tensor], outputs: list[str]) -> None:
    """As `samexporter` does, with the number of points left open."""
    axes = {name: {1: "points"} for name in inputs if name.startswith("point_")}
    with pytest.warns():  # of tracing
        torch.onnx.export(
            part, tuple(inputs.values()), path, input_names=list(inputs), output_names=outputs, dynamic_axes=axes,
            opset_version=18, dynamo=False,
        )  # fmt: skip


def test_scripts_take_a_folder(made, tmp_path):
    made([1, 3, 1024, 1024], SAM_INPUTS)
    cut = cut_by(str(tmp_path), torch.device("cpu"))
    nothing = np.zeros((64, 64), bool)
    found = cut(np.zeros((64, 64, 3), np.uint8), nothing, nothing, disc((64, 64), 32, 32, 2), nothing)
    assert found[32, 32]
    assert not found[0, 0]
