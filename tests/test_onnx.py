"""The exported files compute what PyTorch computes, for every size and number of objects."""

import contextlib
import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, build_light_network, write_video
from export_onnx import clip_of
from films import square
from PIL import Image

from dataset.youtube import youtube_videos
from model import STCN, VideoSegmenter, load_network, save_network
from model.int8 import quantise
from model.onnx import SHAPES, OnnxNetwork, _config_of, export_onnx
from model.resnet import BACKBONES
from scripts.benchmark.made_up import made_up_mask, made_up_video
from util.errors import InputError
from util.image import read_image
from util.label_map import write_label_map

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

TOLERANCE = 1e-5  # of the largest magnitude: sums of some thousand float32 products, added in another order


@contextlib.contextmanager
def shallow() -> Iterator[None]:
    """A context in which ResNet-18 has one block in each stage: exporting takes as long as there are operators."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "resnet18", BACKBONES["resnet18"]._replace(blocks=(1, 1, 1)))
        yield


@pytest.fixture(scope="module")
def light_network() -> STCN:
    with shallow():
        return build_light_network(7)  # whose masks are sure


@pytest.fixture(scope="module")
def light_file(light_network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shallow") / "light.pth"
    save_network(light_network, path)
    return path


@pytest.fixture(scope="module")
def exported(light_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    with shallow():
        paths = export_onnx(light_file, folder)
    assert sorted(folder.iterdir()) == sorted(paths)
    return folder


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))


@pytest.mark.parametrize(("height", "width", "objects"), [(16, 16, 1), (64, 144, 3)])
@torch.inference_mode()
def test_each_part_agrees_with_pytorch_at_every_size(exported, light_network, height, width, objects):
    generator = torch.Generator().manual_seed(height)
    image = torch.randn(1, 3, height, width, generator=generator)
    masks = torch.rand(1, objects, height, width, generator=generator)
    network = OnnxNetwork(exported)
    features = light_network.encode_key(image)
    for found, expected in zip(network.encode_key(image), features, strict=True):
        assert_close(found, expected)
    _, values = light_network.memorise(image, masks, features)
    assert_close(network.memorise(image, masks, features)[1], values)
    assert_close(network.decode(values, features), light_network.decode(values, features))


def test_a_video_is_segmented_as_with_pytorch(exported, light_network):
    """Of odd size, with objects that enter late."""
    rng = np.random.default_rng(0)
    canvas = np.kron(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), np.ones((10, 10, 1), dtype=np.uint8))
    first, later = np.zeros((2, 90, 100), dtype=np.uint8)
    first[20:50, 10:40], first[20:60, 60:90], later[70:85, 30:70] = 3, 4, 9
    ours = VideoSegmenter(light_network, memory_every=2, size=70)
    theirs = VideoSegmenter(OnnxNetwork(exported), memory_every=2, size=70)
    for t in range(7):
        frame, mask = canvas[:, 2 * t : 2 * t + 100], {0: first, 4: later}.get(t)
        expected, found = ours.step(frame, mask), theirs.step(frame, mask)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)  # errors go through the memory, frame after frame
        best, second = expected.topk(2, dim=0).values
        decided = best - second > 2e-4  # elsewhere rounding decides
        assert decided.double().mean() > 0.8
        assert torch.equal(theirs.to_labels(found)[decided], ours.to_labels(expected)[decided])
    assert theirs.object_ids == [3, 4, 9]


def test_the_example_in_numpy_segments_a_video_as_we_do(exported, light_network):
    text = (ROOT / "docs" / "onnx_example.py").read_text()
    assert text.count('"out/onnx"') == 1
    example = {}
    exec(text.replace('"out/onnx"', repr(str(exported))), example)
    frame, mask = made_up_video((75, 90)), made_up_mask((75, 90), range(1, 4))
    frames = [frame(4 * t) for t in range(8)]
    labels = example["segment"](frames, mask)
    assert labels.shape == (8, 75, 90)
    assert set(np.unique(labels[0])) == {0, 1, 2, 3}
    segmenter = VideoSegmenter(light_network)
    expected = [segmenter.to_labels(segmenter.step(frame, None if t else mask)).numpy() for t, frame in enumerate(frames)]
    assert (labels == np.stack(expected)).mean() > 0.999  # a pixel on an edge may be a tie that rounding decides


def test_the_example_prints_what_it_has_found(exported, tmp_path, monkeypatch, capsys):
    write_video(tmp_path / "frames", tmp_path / "masks", [square((4, 4), (30, 20)), None, None])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/onnx").symlink_to(exported)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["onnx_example.py", "frames", "masks/00000.png"])
    runpy.run_path(str(ROOT / "docs/onnx_example.py"), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == [
        "segmenting 3 frames of 48x64 with the networks in out/onnx",
        "00000.jpg: object 1 256 pixels, object 2 256 pixels",
    ]
    assert len(printed) == 4


@pytest.mark.slow
def test_int8_finds_nearly_the_same_with_files_of_a_third_of_the_size(exported, light_file, tmp_path, script, capsys):
    write_video(tmp_path / "own/JPEGImages/a", tmp_path / "own/Annotations/a", [square((4, 4), (30, 20)), *[None] * 13])
    with shallow():
        flags = ("--model", light_file, "--int8", tmp_path / "own", "--output", tmp_path / "int8")
        assert script("export_onnx", *flags) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    for path in exported.iterdir():
        smaller = tmp_path / "int8" / path.name
        assert smaller.stat().st_size < path.stat().st_size / 2
        graph = onnx.load(smaller).graph
        dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        floats = {weight.name: tuple(weight.dims) for weight in graph.initializer}
        stay = [node for node in graph.node if node.op_type == "Conv" and node.input[0] not in dequantised]
        shapes = {floats[node.input[1]][:2] for node in stay}
        # what sees the image, the spatial attention, and what makes the logits
        assert shapes == {"key_encoder": {(64, 3)}, "value_encoder": {(64, 5), (1, 2)}, "decoder": {(1, 16)}}[path.stem]
    image = read_image(tmp_path / "own/JPEGImages/a/00000.jpg")

    def find(folder: Path) -> torch.Tensor:
        segmenter = VideoSegmenter(OnnxNetwork(folder))
        segmenter.step(image, square((4, 4), (30, 20)))
        return segmenter.step(image[:, ::-1].copy())

    expected, found = find(exported), find(tmp_path / "int8")
    assert 0 < (found - expected).std() < 0.2 * expected.std(dim=(1, 2)).mean()


def test_int8_refuses_videos_without_a_frame_after_the_first_mask_before_it_exports(tmp_path, script, capsys):
    write_video(tmp_path / "own/JPEGImages/a", tmp_path / "own/Annotations/a", [None, square((4, 4))])
    assert script("export_onnx", "--int8", tmp_path / "own", "--output", tmp_path / "int8") == 2
    told = capsys.readouterr().err
    assert told == f"error: {tmp_path}/own: expected a video with a frame after its first mask, found none\n"
    assert not (tmp_path / "int8").exists()


def test_int8_sees_frames_in_natural_order(tmp_path):
    (tmp_path / "JPEGImages/a").mkdir(parents=True)
    for number in range(1, 15):
        Image.new("RGB", (64, 48), (number, 0, 0)).save(tmp_path / f"JPEGImages/a/{number}.png")
    write_label_map(tmp_path / "Annotations/a/2.png", square((4, 4)), None)
    (video,) = youtube_videos(tmp_path)
    assert [image[0, 0, 0] for image, _ in clip_of(video)] == [2, 8, 14]


@pytest.mark.parametrize("frames", [0, 1])
def test_int8_needs_videos_to_see(frames, exported, tmp_path):
    clips = [[(np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.uint8))] * frames]
    with pytest.raises(InputError, match="expected videos with an object in at least two frames"):
        quantise(exported, clips, tmp_path, lambda: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_variants_of_the_network_and_newer_operators(tmp_path):
    network = build_light_network(1, similarity="cosine", attention=False)
    save_network(network, tmp_path / "other.pth")
    export_onnx(tmp_path / "other.pth", tmp_path / "onnx", opset=23)
    loaded = OnnxNetwork(tmp_path / "onnx", threads=1)
    assert loaded.config == network.config
    image = torch.rand(1, 3, 32, 32)
    assert_close(loaded.encode_key(image).key, network.encode_key(image).key.detach())


def test_files_say_their_shapes_and_have_no_axis_fixed_that_varies(exported, light_network):
    config = light_network.config
    channels = {"Ck": config.key_dim, "Cv": config.value_dim, "C16": 256, "C8": 128, "C4": 64}  # of ResNet-18
    for path in exported.iterdir():
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
        assert json.loads(proto.metadata_props[0].value)["version"] == 1
        assert [entry.version for entry in proto.opset_import] == [20]
        for tensor in (*proto.graph.input, *proto.graph.output):
            found = [axis.dim_param or axis.dim_value for axis in tensor.type.tensor_type.shape.dim]
            words = [channels.get(word, word) for word in SHAPES[tensor.name].split()]
            assert found == [int(word) if str(word).isdigit() else word for word in words]


@pytest.mark.slow
def test_the_script_writes_a_released_checkpoint(released_file, tmp_path, script, capsys):
    assert script("export_onnx", "--model", released_file, "--output", tmp_path / "onnx") == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in printed] == [
        str(tmp_path / "onnx" / f"{name}.onnx") for name in ("key_encoder", "value_encoder", "decoder")
    ]
    assert OnnxNetwork(tmp_path / "onnx").config == load_network(released_file).config


def test_bad_exports_are_refused_at_once(tmp_path, light_file, script, capsys):
    (tmp_path / "file").write_text("text")
    for flags, message in (
        (("--model", tmp_path / "none.pth", "--output", tmp_path / "onnx"), "none.pth: no such checkpoint"),
        (("--model", light_file, "--output", tmp_path / "file"), "expected a folder, found a file there"),
        (("--model", light_file, "--output", tmp_path / "onnx", "--opset", 17), "from 18 to 25, found '17'"),
    ):
        assert script("export_onnx", *flags) == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_network_too_large_for_a_file_is_refused(light_file, tmp_path, monkeypatch):
    monkeypatch.setattr("model.onnx.LARGEST", 10**6)
    told = r"expected at most 1000000 bytes of weights in key_encoder\.onnx, found \d+"
    with shallow(), pytest.raises(InputError, match=told):
        export_onnx(light_file, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_bad_folders_are_refused(exported, tmp_path):
    with pytest.raises(InputError, match=r"key_encoder\.onnx: no such file"):
        OnnxNetwork(tmp_path)
    with pytest.raises(InputError, match="found NoneProvider"):
        OnnxNetwork(exported, providers=["NoneProvider"])
    shutil.copytree(exported, tmp_path / "mixed")
    path = tmp_path / "mixed" / "value_encoder.onnx"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"value_encoder\.onnx: expected an ONNX file, cannot read it"):
        OnnxNetwork(tmp_path / "mixed")
    proto = onnx.load(exported / "value_encoder.onnx")
    proto.metadata_props[0].value = "{}"
    onnx.save(proto, path)
    with pytest.raises(InputError, match=r"value_encoder\.onnx: expected a part of the same network as key_encoder\.onnx"):
        OnnxNetwork(tmp_path / "mixed")
    for name in ("key_encoder", "value_encoder", "decoder"):
        proto = onnx.load(exported / f"{name}.onnx")
        proto.metadata_props[0].value = proto.metadata_props[0].value.replace('"version": 1', '"version": 2')
        onnx.save(proto, tmp_path / "mixed" / f"{name}.onnx")
    with pytest.raises(InputError, match=r"not written by .* of this version: version 2, this code knows 1"):
        OnnxNetwork(tmp_path / "mixed")
    with pytest.raises(InputError, match=r"a\.onnx: not written by scripts/export_onnx.py of this version"):
        _config_of({Path("a.onnx"): "[" * 100_000})
    shutil.copy(exported / "decoder.onnx", tmp_path / "mixed/key_encoder.onnx")
    with pytest.raises(InputError, match=r"key_encoder\.onnx: expected inputs .*, found "):
        OnnxNetwork(tmp_path / "mixed")


def test_without_the_packages_the_message_says_what_to_install(monkeypatch, exported, light_file, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnxruntime .*pip install -e"):
        OnnxNetwork(exported)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="exporting needs the package onnx, which is not installed"):
        export_onnx(light_file, tmp_path / "onnx")
