"""Agreement with what the paper's released network and inference code compute (tests/golden/README.md)."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import GOLDEN

from dataset.davis import davis_videos
from dataset.youtube import youtube_videos
from evaluation.run import segment_video
from model import MemoryBank, VideoSegmenter
from model.losses import clip_losses, hard_pixel_fraction
from model.network import soft_aggregate
from model.released import to_released
from model.similarity import embed_memory
from model.views import MultiViewSegmenter, View
from util.image import read_image
from util.label_map import read_label_map
from util.tensors import normalise, one_hot, padding_to_stride

DAVIS = GOLDEN / "DAVIS" / "2017"
YOUTUBE = GOLDEN / "YouTube"

# The weights are random, so the affinity is flat: in each read, some thirty of 1,200 query positions have two memory
# positions that compete for the 20th place with similarities less than 3e-5 apart.  In float32 the rounding of the machine
# decides, which leaves traces of up to 5e-3 around some of them.  In float64 one such pair remains that matters, 6e-7 apart,
# in the last frame at query position (6, 23): the reference has this memory position, and a nudge makes sure that we do.
TIED_MEMORY = 695
# With the kernel, the object that enters at 00020 has two memory positions 1.4e-6 apart for query position (3, 14) of 00030,
# which decide over 20 pixels.  The reference does not have this one.
TIED_WITH_KERNEL = 54


class Recording:
    """A segmenter that keeps the probabilities that become labels, which are at the original size."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.recorded = []

    def to_labels(self, probabilities):
        self.recorded.append(probabilities.cpu())
        return super().to_labels(probabilities)


class Recorder(Recording, VideoSegmenter): ...


class ViewsRecorder(Recording, MultiViewSegmenter): ...


def settle_tie(monkeypatch, position: int, by: float) -> None:
    def embed_with_the_tie_of_the_reference(*arguments):
        keys = embed_memory(*arguments)
        keys[position, -1] += by
        return keys

    monkeypatch.setattr("model.memory.embed_memory", embed_with_the_tie_of_the_reference)


def assert_probabilities_agree(
    recorded: list[torch.Tensor], names: list[str], expected, *, within: float = 2e-3, share: float = 1
) -> None:
    """`share` of the probabilities to 2e-3, all of them to `within`."""
    assert set(expected.files) <= set(names)
    for name in expected.files:
        difference = (recorded[names.index(name)].double() - torch.from_numpy(expected[name].astype(np.float64))).abs()
        assert difference.max() <= within, name
        assert (difference <= 2e-3).double().mean() >= share, name


def assert_labels_agree(results: Path, expected: Path, *, up_to: str = "99999") -> None:
    files = [path for path in sorted(expected.glob("*.png")) if path.stem <= up_to]
    assert sorted(path.name for path in results.glob("*.png")) == [path.name for path in files]
    for path in files:
        found, wanted = read_label_map(results / path.name), read_label_map(path)
        assert found.palette == wanted.palette
        assert np.mean(found.labels == wanted.labels) >= 0.9998, path


@pytest.fixture
def recorders(monkeypatch) -> list[Recorder]:
    """The segmenters that a script makes, in their order."""
    made = []

    def recorder(network, **options):
        made.append(Recorder(network, **options))
        return made[-1]

    monkeypatch.setattr("evaluation.run.VideoSegmenter", recorder)
    return made


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("default", ["blobs", "strip"]),
        ("include_last", ["strip"]),
        pytest.param("include_last", ["blobs"], marks=pytest.mark.slow),
    ],
)
def test_davis_agrees_through_the_command_line(setting, names, recorders, released_file, script, tmp_path):
    root, out = tmp_path / "DAVIS", tmp_path / "out"
    shutil.copytree(DAVIS, root)
    (root / "trainval/ImageSets/2017/val.txt").write_text("\n".join(names))
    flags = ["--include_last"] if setting == "include_last" else []
    assert script("eval_davis", "--model", released_file, "--davis_path", root, "--output", out, *flags) == 0
    videos = sorted(davis_videos(root), key=len, reverse=True)  # as they are evaluated
    for video, segmenter in zip(videos, recorders, strict=True):
        expected = GOLDEN / "expected_davis" / setting / video.name
        assert_labels_agree(out / video.name, expected)
        stems = [path.stem for path in video.images]
        assert_probabilities_agree(segmenter.recorded, stems, np.load(expected / "probabilities.npz"))


LATE = GOLDEN / "expected_youtube" / "default" / "Annotations" / "late"


def youtube_up_to(last: str, root: Path) -> Path:
    """A copy of the YouTube video that ends with this frame; what comes later has no say about what is before."""
    shutil.copytree(YOUTUBE, root)
    for path in root.rglob("*.jpg"):
        if path.stem > last:
            path.unlink()
    meta = json.loads((root / "valid/meta.json").read_text())
    for entry in meta["videos"]["late"]["objects"].values():
        entry["frames"] = [frame for frame in entry["frames"] if frame <= last]
    (root / "valid/meta.json").write_text(json.dumps(meta))
    return root


@pytest.mark.parametrize("last", ["00020", pytest.param("00060", marks=pytest.mark.slow)])  # an object enters at 00020
def test_youtube_agrees_through_the_command_line(last, recorders, released_file, script, tmp_path):
    root = youtube_up_to(last, tmp_path / "YouTube")
    assert script("eval_youtube", "--model", released_file, "--yv_path", root, "--output", tmp_path / "out") == 0
    assert_labels_agree(tmp_path / "out/Annotations/late", LATE, up_to=last)
    (video,) = youtube_videos(root)
    (segmenter,) = recorders
    assert segmenter.object_ids == [2, 5, 7]
    if last == "00060":
        expected = np.load(LATE / "probabilities.npz")
        assert_probabilities_agree(segmenter.recorded, sorted(video.wanted), expected, within=1e-2, share=0.999)


def assert_youtube_agrees(segmenter, setting: str, folder: Path, *, root: Path = YOUTUBE, up_to: str = "00060") -> None:
    (video,) = youtube_videos(root)
    segment_video(video, segmenter, folder)
    expected = GOLDEN / "expected_youtube" / setting / "Annotations" / "late"
    assert_labels_agree(folder, expected, up_to=up_to)
    assert segmenter.object_ids == [2, 5, 7]
    if up_to == "00060":
        assert_probabilities_agree(segmenter.recorded, sorted(video.wanted), np.load(expected / "probabilities.npz"))


@pytest.mark.parametrize("last", ["00030", pytest.param("00060", marks=pytest.mark.slow)])  # the tie decides over 00030
def test_youtube_with_the_kernel_agrees(last, golden_network, tmp_path, monkeypatch):
    settle_tie(monkeypatch, TIED_WITH_KERNEL, -1e-5)
    network = golden_network.for_inference(winograd=False)  # other roundings have other ties
    segmenter, root = Recorder(network, size=240, kernel=True), youtube_up_to(last, tmp_path / "YouTube")
    (tmp_path / "out").mkdir()
    assert_youtube_agrees(segmenter, "kernel", tmp_path / "out", root=root, up_to=last)


@pytest.mark.slow
def test_youtube_at_two_sizes_and_flipped_agrees(golden_network, tmp_path):
    views = [View(golden_network, size, flip) for size in (192, 240) for flip in (False, True)]
    assert_youtube_agrees(ViewsRecorder(views), "multiscale", tmp_path)


@pytest.mark.slow
def test_youtube_agrees_everywhere_in_float64(golden_network, tmp_path, monkeypatch):
    settle_tie(monkeypatch, TIED_MEMORY, 1e-5)
    segmenter = Recorder(copy.deepcopy(golden_network).double(), size=480)
    (video,) = youtube_videos(YOUTUBE)
    segment_video(video, segmenter, tmp_path)
    assert_probabilities_agree(segmenter.recorded, sorted(video.wanted), np.load(LATE / "probabilities.npz"))


@torch.inference_mode()
def test_intermediates_agree(golden_network):
    expected = np.load(GOLDEN / "intermediates.npz")

    def assert_agrees(name: str, found: torch.Tensor) -> None:
        wanted = torch.from_numpy(expected[name])
        torch.testing.assert_close(
            found, wanted, atol=1e-4 * wanted.abs().max().item(), rtol=0, msg=lambda text: f"{name}: {text}"
        )

    blobs = DAVIS / "trainval" / "JPEGImages" / "480p" / "blobs"
    images = [normalise(torch.from_numpy(read_image(blobs / f"{i:05d}.jpg"))) for i in range(2)]
    labels = read_label_map(DAVIS / "trainval" / "Annotations" / "480p" / "blobs" / "00000.png").labels
    padding = padding_to_stride(*labels.shape)
    first, second = (F.pad(image, padding)[None] for image in images)

    features = golden_network.encode_key(first)
    assert_agrees("key", features.key[0])
    assert_agrees("thin", features.f16_compressed[0])
    assert_agrees("f16", features.f16[0])
    assert_agrees("f8_mean", features.f8[0].mean(dim=(1, 2)))
    assert_agrees("f4_mean", features.f4[0].mean(dim=(1, 2)))
    given = F.pad(one_hot(torch.from_numpy(labels), [1, 2, 3]), padding)
    masks = torch.softmax(soft_aggregate(given[None]), dim=1)[:, 1:]
    values = golden_network.memorise(first, masks, features)[1][0]
    assert_agrees("value", values)

    query = golden_network.encode_key(second)
    assert_agrees("query_key", query.key[0])
    bank = MemoryBank(top_k=20)
    bank.add(features.key[0], values)
    readout = bank.read(query.key[0])
    assert_agrees("readout", readout)
    assert_agrees("logit", golden_network.decode(readout[None], query)[0])


@pytest.mark.parametrize(
    "iteration", [pytest.param(0, marks=pytest.mark.slow), 45_000, pytest.param(90_000, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("case", ["single", "double"])
def test_a_training_step_agrees(case, iteration, golden_network):
    data = np.load(GOLDEN / "training.npz")
    expected = json.loads((GOLDEN / "training.json").read_text())[f"{case}@{iteration}"]
    frames, labels = (torch.from_numpy(data[f"{case}_{name}"]) for name in ("frames", "labels"))
    objects = 1 if case == "single" else 2
    valid = torch.from_numpy(data["double_valid"]).bool() if case == "double" else torch.ones(len(frames), 1, dtype=torch.bool)
    first_masks = torch.stack([(labels[:, 0] == number).float() for number in range(1, 1 + objects)], dim=1)
    network = copy.deepcopy(golden_network).train()

    logits = network(frames, first_masks, valid)
    for t in (1, 2):
        wanted = torch.from_numpy(data[f"{case}_logits_{t}"])
        torch.testing.assert_close(logits[:, t - 1], wanted, atol=5e-3, rtol=0)
    fraction = hard_pixel_fraction(iteration)
    assert fraction == pytest.approx(expected["p"])
    losses = clip_losses(logits, labels, valid, fraction)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([expected["loss_1"], expected["loss_2"]], rel=1e-5)
    assert losses.sum().item() == pytest.approx(expected["total"], rel=1e-5)

    gradients = to_released({name: p.grad for name, p in network.named_parameters()})
    norms = {name: gradients[name].double().norm().item() for name in expected["grad_norm"]}
    assert norms == pytest.approx(expected["grad_norm"], rel=5e-4, abs=1e-6)
    total = sum(norm**2 for norm in norms.values()) ** 0.5
    assert total == pytest.approx(expected["total_grad_norm"], rel=5e-4)
    folded = {name for name, gradient in gradients.items() if name.endswith("bias") and not gradient.any()}
    assert gradients.keys() - expected["grad_norm"].keys() <= folded
