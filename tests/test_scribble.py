"""The network that turns scribbles into masks, its samples and its training."""

import json
from functools import partial

import eval_clicks
import numpy as np
import pytest
import torch
from conftest import ROOT, run_script
from films import SIZE, noise

from dataset.clip import Clip
from dataset.sampling import Batch
from dataset.scribbles import ScribbleSource, corrupt, draw_hints
from evaluation.cut import (
    BACKGROUND,
    MAYBE_BACKGROUND,
    MAYBE_OBJECT,
    OBJECT,
    SMOOTH,
    along_colours,
    changing_locally,
    cut,
    cut_from_scribbles,
    cut_with_network,
)
from evaluation.metrics import score_masks
from evaluation.rounds import Robot
from model import load_network, save_network
from model.checkpoint import read
from model.losses import overlap_loss
from model.scribble import ScribbleNetwork, load_scribble_network
from training.step import hints_after, scribble_step
from util.errors import InputError
from util.image import read_grey, read_image

HELD_OUT = 901  # the first photograph of ECSSD that the committed network was not trained on


@pytest.fixture(scope="module")
def network() -> ScribbleNetwork:
    torch.manual_seed(0)
    return ScribbleNetwork().eval()


def labels_of_two() -> np.ndarray:
    labels = np.zeros((96, 128), np.uint8)
    labels[20:70, 10:60] = 1
    labels[30:60, 80:110] = 2
    return labels


@pytest.mark.parametrize("seed", range(8))
def test_hints_agree_with_the_truth_and_repeat_with_the_seed(seed):
    labels = labels_of_two()
    mask, on, off = hints = draw_hints(labels, np.random.default_rng(seed))
    assert (hints == draw_hints(labels, np.random.default_rng(seed))).all()
    assert (labels[on] == 1).all()
    assert (labels[off] != 1).all()
    if not mask.any():
        assert on.any()
    elif (off == ~mask).all():  # a box
        assert mask[labels == 1].all()
        assert not on.any()
    else:
        wrong = mask != (labels == 1)
        assert not off.any() or mask[off].all()  # a scribble off the object is on what was taken for it
        assert wrong.any() or not off.any()


def test_some_samples_start_from_nothing_and_others_from_a_wrong_mask():
    hints = [draw_hints(labels_of_two(), np.random.default_rng(seed)) for seed in range(60)]
    empty = sum(not mask.any() for mask, _, _ in hints)
    boxes = sum((off == ~mask).all() for mask, _, off in hints)
    assert 10 < empty < 40
    assert 3 < boxes < 20
    assert sum(off.any() for _, _, off in hints) > boxes + 10


def test_corrupted_masks_are_wrong_but_related():
    truth = labels_of_two() == 1
    overlaps = []
    for seed in range(40):
        mask = corrupt(labels_of_two(), np.random.default_rng(seed))
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 1}
        overlaps.append((truth & (mask == 1)).sum() / (truth | (mask == 1)).sum())
    assert 0.5 < np.mean(overlaps) < 0.97
    assert not corrupt(np.zeros((20, 20), np.uint8), np.random.default_rng(0)).any()


class Photographs:
    """One clip of two objects, as another data set would draw it."""

    frames = 3

    def __len__(self) -> int:
        return 1

    def name(self, index: int) -> str:
        return "photograph"

    def draw(self, index, rng, *, max_skip) -> Clip:
        labels = np.stack([labels_of_two()] * self.frames)
        return Clip(np.zeros((*labels.shape, 3), np.uint8), labels, np.array([True, True]), "photograph")


def test_samples_are_frames_of_one_object_with_hints():
    clip = ScribbleSource(Photographs()).draw(0, np.random.default_rng(0), max_skip=5)
    assert clip is not None
    assert clip.hints is not None
    assert clip.hints.shape == (1, 3, 96, 128)
    assert (clip.labels == (labels_of_two() == 1)).all()
    assert clip.valid.tolist() == [True]


class Tiles:
    """Clips each of a grey of its own, of which the object is a row of pixels, or a rectangle."""

    frames = 3

    def __init__(self, *rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return str(index)

    def draw(self, index, rng, *, max_skip) -> Clip | None:
        if self.rows[index] < 0:
            raise InputError("broken")
        if not self.rows[index]:
            return None
        labels = np.zeros((self.frames, 64, 96), np.uint8)
        labels[:, 9 : 9 + self.rows[index], 20:60] = 1
        return Clip(np.full((*labels.shape, 3), 50 * (index + 1), np.uint8), labels, np.array([True]), str(index))


def test_a_mosaic_shows_the_object_at_half_its_size_beside_others_that_are_not_meant(monkeypatch):
    monkeypatch.setattr("dataset.scribbles.MOSAICS", 1)
    source = ScribbleSource(Tiles(8, 16, 24, 32))
    clip, again = (source.draw(1, np.random.default_rng(5), max_skip=5) for _ in range(2))
    assert (clip.frames == again.frames).all()
    assert (clip.hints == again.hints).all()
    assert clip.labels.shape == (1, 64, 96)
    assert clip.labels[0].sum() == 8 * 20  # of 16 x 40
    assert (clip.frames[clip.labels == 1] == 100).all()
    greys = [clip.frames[0, y, x, 0] for y in (0, 32) for x in (0, 48)]
    assert greys.count(100) >= 1
    assert len({*greys}) > 1


@pytest.mark.parametrize("others", [0, -1])
def test_without_others_there_is_no_mosaic_nor_of_an_object_that_would_not_be_seen(others, monkeypatch):
    monkeypatch.setattr("dataset.scribbles.MOSAICS", 1)
    assert (ScribbleSource(Tiles(8, *[others] * 50)).draw(0, np.random.default_rng(0), max_skip=5).labels[0].sum()) == 8 * 40
    thin = Tiles(1, 8, 8, 8)  # row 9, of which every second one is left
    labels = [ScribbleSource(thin).draw(0, np.random.default_rng(seed), max_skip=5).labels[0] for seed in range(4)]
    assert all(label.any() for label in labels)


def test_every_second_sample_of_a_step_corrects_what_the_network_found_for_its_hints():
    source = ScribbleSource(Photographs())
    clips = [source.draw(0, np.random.default_rng(seed), max_skip=5) for seed in (1, 2, 3)]
    frames, labels, hints, valid = (
        torch.from_numpy(np.stack([getattr(clip, part) for clip in clips])) for part in ("frames", "labels", "hints", "valid")
    )
    found, seen = torch.zeros(96, 128, dtype=torch.bool), []
    found[40:90, 10:60] = True  # of 20 to 70: lacks what is above, and has too much below

    def model(images, hints):
        seen.append(hints.clone())
        return (found.float() - 0.5).expand(len(images), -1, -1).requires_grad_()

    batch = Batch(frames, labels, valid, ("a", "b", "c"), (), 0, hints=hints)
    loss, _, predicted = scribble_step(model, batch, 1.0, None, torch.device("cpu"))
    assert loss.requires_grad
    assert (predicted == found).all()
    given, (first, second, third) = hints[:, 0].float(), seen[1]
    assert torch.equal(seen[0], given[1:2])
    assert torch.equal(first, given[0])
    assert torch.equal(third, given[2])
    mask, on, off = second > 0
    assert torch.equal(mask, found)
    new_on, new_off = on & (given[1, 1] == 0), off & (given[1, 2] == 0)
    assert (new_on | new_off).any()
    assert not (new_on & found).any()
    assert (new_off <= (found & (labels[1, 0] == 0))).all()


def test_a_box_counts_no_longer_once_a_mask_was_found_in_it():
    truth = torch.from_numpy((labels_of_two() == 1).astype(np.uint8))
    box = torch.zeros(96, 128, dtype=torch.bool)
    box[15:75, 5:65] = True
    mask, on, off = hints_after(torch.stack([box, box & False, ~box]).float(), box, truth)
    assert torch.equal(mask > 0, box)
    assert not on.any()
    assert 0 < off.sum() < 200
    assert (box[off > 0]).all()


def test_overlap_loss_is_one_minus_dice():
    labels = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]]])
    logits = torch.tensor([[[99.0, -99.0, 99.0, -99.0]], [[-99.0, -99.0, -99.0, -99.0]]])
    assert overlap_loss(logits, labels).item() == pytest.approx(((1 - 3 / 5) + 0) / 2)


def test_the_network_gives_a_logit_for_each_pixel_and_uses_all_of_its_input(network):
    rng = torch.Generator().manual_seed(0)
    images, hints = torch.randn(2, 3, 48, 64, generator=rng), torch.rand(2, 3, 48, 64, generator=rng)
    logits = network(images, hints)
    assert logits.shape == (2, 48, 64)
    assert logits.dtype == torch.float32
    for channel in range(3):
        other = hints.clone()
        other[:, channel] = 0
        assert (network(images, other) != logits).any()
    assert sum(p.numel() for p in network.parameters()) < 5e6  # 10 MB in half precision
    assert not any(m.training for m in ScribbleNetwork().train().modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_what_scribbles_say_always_holds_and_nothing_is_found_without_any(network):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    mask, others, on, off = np.zeros((4, 70, 90), bool)
    assert not cut_with_network(network, image, mask, others, on, off).any()
    mask[20:40, 20:50], on[22:25, 30:40], off[30:33, 30:40] = True, True, True
    found = cut_with_network(network, image, mask, others, on, off)
    assert found.shape == mask.shape
    assert found[on].all()
    assert not found[off].any()
    assert not found[:, 85:].any()  # far from everything marked


def test_a_correction_changes_only_what_scribbles_touch():
    mask, found, on, off = (np.zeros((20, 40), bool) for _ in range(4))
    mask[5:15, 5:15] = mask[5:15, 20:25] = True
    found[5:15, 5:15] = found[8:13, 15:19] = found[2:4, 30:35] = True  # two regions are new, one is gone
    found[9:11, 6:8] = False  # a hole

    def cut_locally(mask: np.ndarray) -> np.ndarray:
        return changing_locally(lambda *_: (found | on) & ~off)(None, mask, np.zeros_like(mask), on, off)

    np.testing.assert_array_equal(cut_locally(mask), mask)  # without scribbles
    on[10, 8:12] = True  # in the mask already
    np.testing.assert_array_equal(cut_locally(mask), mask)
    on[10, 10:19] = True
    expected = mask.copy()
    expected[8:13, 15:19] = True
    np.testing.assert_array_equal(cut_locally(mask), expected)
    off[7:13, 22:28] = True
    expected[5:15, 20:25] = False
    np.testing.assert_array_equal(cut_locally(mask), expected)
    np.testing.assert_array_equal(cut_locally(np.zeros_like(mask)), (found | on) & ~off)  # no correction, a first mask
    box = np.zeros_like(mask)
    box[4:16, 4:16] = True
    on[:], off[:] = False, ~box
    np.testing.assert_array_equal(cut_locally(box), found & box)  # nor is a box


def test_grabcut_finds_a_disc_in_a_box_and_from_a_scribble():
    y, x = np.mgrid[:240, :320]
    disc = (y - 110) ** 2 + (x - 150) ** 2 < 50**2
    image = np.where(disc[..., None], (200, 60, 40), (40, 90, 150)) + np.random.default_rng(0).integers(-20, 20, (240, 320, 3))
    image = image.clip(0, 255).astype(np.uint8)
    box = np.full(disc.shape, BACKGROUND, np.uint8)
    box[50:170, 90:210] = MAYBE_OBJECT
    scribble = np.full(disc.shape, MAYBE_BACKGROUND, np.uint8)
    scribble[108:112, 120:180] = OBJECT
    scribble[10:14, :] = BACKGROUND
    for hints in (box, scribble):
        found = cut(image, hints)
        assert (found & disc).sum() / (found | disc).sum() > 0.97
        assert found[hints == OBJECT].all()
        assert not found[hints == BACKGROUND].any()
    nothing = np.zeros(SIZE, np.uint8)
    assert not cut(noise(0), nothing).any()
    assert cut(noise(0), nothing + MAYBE_OBJECT).all()


def test_a_line_on_a_part_leaves_the_outline_that_the_part_is_connected_to_and_a_dot_is_enough_for_a_blob():
    mask, nothing = np.zeros((2, 60, 80), bool)
    mask[20:40, 4:40] = True
    found = mask.copy()
    found[19:41, 3:41] = found[25:35, 41:62] = True  # a rim all around, and a missing arm
    added, removed = changing_locally(lambda *_: found), changing_locally(lambda *_: mask)
    line, dot = nothing.copy(), nothing.copy()
    line[29:31, 43:60] = dot[28:32, 48:52] = True
    for marks, reached_by_gain, reached_by_loss in ((line, 38, 37), (dot, 18, 33)):  # the arm is 10 pixels thick
        gained = added(None, mask, nothing, marks, nothing) & ~mask
        lost = found & ~removed(None, found, nothing, nothing, marks)
        lost_beside = found & ~removed(None, found & ~marks, nothing, nothing, marks)  # another object has what is marked
        np.testing.assert_array_equal(lost_beside, lost)
        for changed, reached in ((gained, reached_by_gain), (lost, reached_by_loss)):
            assert changed[25:35, 41:60].all()  # its last corners may stay
            assert not changed[:, :reached].any()


def along_colours_plainly(colours: np.ndarray, soft: np.ndarray, radius: int) -> np.ndarray:
    """The linear functions of the colour that fit best around each pixel, one by one, and their mean around each pixel."""
    side, (height, width) = 2 * radius + 1, soft.shape
    pad = [(radius, radius), (radius, radius), (0, 0)]
    known = np.pad(np.dstack([colours, soft]), pad, mode="reflect")
    fits = np.zeros((height, width, 4))
    for y, x in np.ndindex(height, width):
        near = known[y : y + side, x : x + side].reshape(-1, 4)
        away = near - near.mean(axis=0)
        fits[y, x, :3] = np.linalg.solve(
            away[:, :3].T @ away[:, :3] / len(near) + SMOOTH * np.eye(3), away[:, :3].T @ away[:, 3] / len(near)
        )
        fits[y, x, 3] = near[:, 3].mean() - fits[y, x, :3] @ near[:, :3].mean(axis=0)
    fits = np.pad(fits, pad, mode="reflect")
    result = np.zeros_like(soft)
    for y, x in np.ndindex(height, width):
        result[y, x] = fits[y : y + side, x : x + side].mean(axis=(0, 1)) @ [*colours[y, x], 1]
    return result


def test_edges_follow_colours_as_the_guided_filter_says(monkeypatch):
    monkeypatch.setattr("evaluation.cut.RADIUS", 2)
    rng = np.random.default_rng(0)
    image, soft = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), rng.random((9, 12), dtype=np.float32)
    found = along_colours(image, image, soft)
    np.testing.assert_allclose(found, along_colours_plainly(image / 255, soft, 2), atol=1e-3)


def test_a_soft_edge_becomes_the_edge_of_the_colours_also_in_a_larger_picture():
    colours = np.where(np.arange(64) < 30, 60, 120).astype(np.uint8)
    image = np.ascontiguousarray(np.broadcast_to(colours[None, :, None], (48, 64, 3)))
    soft = np.broadcast_to(1 / (1 + np.exp((np.arange(64, dtype=np.float32) - 32) / 2)), (48, 64)).astype(np.float32)
    assert (soft[24] > 0.5).sum() == 32
    assert ((along_colours(image, image, soft) > 0.5) == (np.arange(64) < 30)).all()
    large = np.repeat(np.repeat(image, 3, axis=0), 3, axis=1)
    assert ((along_colours(large, image, soft) > 0.5) == (np.arange(192) < 90)).all()


@pytest.mark.parametrize("logit", [-1.1, -0.9, 0.9, 1.1])
def test_a_correction_changes_only_what_the_network_is_sure_of_and_a_first_mask_does_not_wait_for_that(logit):
    network = ScribbleNetwork().eval()
    with torch.no_grad():
        network.prediction.weight.zero_()
        network.prediction.bias.fill_(logit)
    mask, on, off, nothing = np.zeros((4, 30, 40), bool)
    mask[8:16, 8:16] = on[10, 18:22] = off[10, 10] = True  # so far apart that all lies in what the network sees
    found = cut_with_network(network, noise(0, (30, 40)), mask, nothing, on, off)
    sure = mask if abs(logit) < 1 else np.full_like(mask, logit > 0)
    np.testing.assert_array_equal(found, (sure | on) & ~off)
    boxed = cut_with_network(network, noise(0, (30, 40)), mask, nothing, nothing, ~mask)
    np.testing.assert_array_equal(boxed, mask & (logit > 0))


def test_checkpoints_give_the_same_network_and_others_are_refused(network, light_file, tmp_path):
    path = tmp_path / "scribble.pth"
    save_network(network, path)
    state = load_scribble_network(path).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    save_network(network, path, half=True)
    assert read(path)["network"]["prediction.weight"].dtype == torch.float16
    half = load_scribble_network(path)
    assert half.prediction.weight.dtype == torch.float32
    assert not half.training
    with pytest.raises(InputError, match="expected a scribble network, version 1, found format stcn"):
        load_scribble_network(light_file)
    with pytest.raises(InputError, match="scribble"):
        load_network(path)
    content = read(path)
    del content["network"]["prediction.bias"]
    torch.save(content, path)
    with pytest.raises(InputError, match=r"missing prediction\.bias"):
        load_scribble_network(path)


def train(demo_data, saves, iterations: int, *flags: object) -> int:
    roots = ["--static_root", demo_data / "static", "--davis_root", demo_data / "DAVIS/2017", "--yv_root", "none"]
    run = ["--id", "run", "--save_dir", saves, "-i", iterations, "-b", 1, "--crop", 48, "--num_workers", 0, "--device", "cpu"]
    start = () if "--load_network" in flags else ("--no_pretrained",)
    return run_script("train_scribble", *roots, *run, *start, *flags)


def test_training_resumes_bit_for_bit_and_leaves_a_network(demo_data, tmp_path, capsys):
    assert train(demo_data, tmp_path / "a", 2, "--save_every", 1) == 0
    (tmp_path / "b" / "run").mkdir(parents=True)
    checkpoint = tmp_path / "a/run/checkpoint_0000001.pth"
    checkpoint.rename(tmp_path / "b/run" / checkpoint.name)
    assert train(demo_data, tmp_path / "b", 2) == 0
    one, two = (load_scribble_network(tmp_path / part / "run.pth").state_dict() for part in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert train(demo_data, tmp_path / "b", 1) == 2
    assert "iterations was 2, is 1" in capsys.readouterr().err
    still = ["--lr", 1e-30, "--encoder_lr", 1e-30]
    assert train(demo_data, tmp_path / "c", 1, "--load_network", tmp_path / "a/run.pth", *still) == 0
    three = load_scribble_network(tmp_path / "c/run.pth").state_dict()
    assert all(torch.equal(one[name], three[name]) for name in one)


@pytest.mark.slow
def test_on_photographs_that_it_has_not_seen_the_committed_network_is_ahead_of_grabcut(real_data):
    if not (real_data / "static/ecssd").is_dir():
        pytest.skip(f"no photographs at {real_data / 'static/ecssd'}; unpack static.tar there")
    network = load_scribble_network(ROOT / "saves/stcn_scribble.pth")
    scores = []
    for number in range(HELD_OUT, HELD_OUT + 20):
        path = real_data / f"static/ecssd/{number:04d}.jpg"
        image, truth = read_image(path), (read_grey(path.with_suffix(".png")) > 127).astype(np.uint8)
        for cutting in (partial(cut_with_network, network), cut_from_scribbles):
            looked = Robot(cutting, 3).look_at(image, truth, None)
            scores += [np.mean(score_masks(truth == 1, look.labels == 1)) for look in (looked[0], looked[-1])]
    (first, last), (other_first, other_last) = np.mean(np.reshape(scores, (-1, 2, 2)), axis=0)
    assert first > other_first + 0.05
    assert last > other_last
    assert last > 0.92


def test_weights_that_float16_cannot_hold_are_not_written(tmp_path):
    network = ScribbleNetwork()
    with torch.no_grad():
        network.prediction.weight.fill_(1e6)
    with pytest.raises(InputError, match=r"a.pth: not written, since these are not finite or too large: prediction.weight"):
        save_network(network, tmp_path / "a.pth", half=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_box_and_clicks_on_unseen_photographs_find_what_the_docs_say(real_data, tmp_path, capsys):
    if not (real_data / "static/ecssd").is_dir():
        pytest.skip(f"no photographs at {real_data / 'static/ecssd'}; unpack static.tar there")
    flags = ["--photo_root", real_data / "static/ecssd", "--last", 100, "--clicks", 3, "--device", "cpu"]
    assert run_script("eval_clicks", *flags, "--output", tmp_path) == 0
    box, *clicks = (row["IoU"] for row in json.loads((tmp_path / "clicks.json").read_text())["rows"])
    assert [box, *clicks] == pytest.approx([83.3, 78.5, 86.7, 89.7], abs=0.5)  # docs/interactive.md


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--davis_path", "x", "--last", 2), "--last: goes with --photo_root"),
        (("--photo_root", "x", "--videos", "y"), "--videos: goes with --davis_path"),
    ],
)
def test_flags_of_other_data_are_refused(flags, told, tmp_path, capsys):
    assert run_script("eval_clicks", *flags, "--scribble_model", "none", "--output", tmp_path) == 2
    assert told in capsys.readouterr().err


def test_clicks_are_counted_until_a_mask_is_good_enough():
    truth = np.zeros((60, 80), bool)
    truth[10:50, 10:70] = True
    image = np.zeros((60, 80, 3), np.uint8)

    def half_then_all(image, mask, others, on, off):
        marked = on | off
        return truth & ((np.arange(80) < 40) | (marked[:, :40].any() and marked[:, 40:].any()))

    ious = eval_clicks.click(half_then_all, image, truth, 3)
    assert ious == pytest.approx([50, 100, 100])
    assert [eval_clicks.clicks_until(ious, wanted) for wanted in (40, 90)] == [1, 2]
    assert eval_clicks.clicks_until([10, 20], 90) == 2
    assert (eval_clicks.cut_in_box(lambda image, mask, others, on, off: ~off, image, truth) == truth).all()
