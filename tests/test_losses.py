"""The loss against loops, and the training unroll against inference."""

import numpy as np
import pytest
import torch
from conftest import build_light_network

from model import VideoSegmenter
from model.losses import bootstrapped_cross_entropy, clip_losses, hard_pixel_fraction
from model.similarity import SIMILARITIES
from training.step import intersections_over_unions


def naive_loss(logits, labels, valid, fraction) -> float:
    """Sample by sample, pixel by pixel, in float64."""
    means = []
    for sample_logits, sample_labels, sample_valid in zip(logits, labels, valid, strict=True):
        kept = [0, *(1 + n for n in range(len(sample_valid)) if sample_valid[n])]
        losses = []
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                scores = {n: float(sample_logits[n, y, x]) for n in kept}
                total = np.log(sum(np.exp(score) for score in scores.values()))
                losses.append(total - scores[int(sample_labels[y, x])])
        hardest = sorted(losses, reverse=True)[: int(fraction * len(losses))]
        means.append(np.mean(hardest))
    return float(np.mean(means))


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.15])
def test_the_loss_equals_loops(fraction):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 3, 5, 7, generator=generator)
    valid = torch.tensor([[True, True], [True, False], [True, True]])
    labels = torch.randint(0, 3, (3, 5, 7), generator=generator)
    labels[1].clamp_(max=1)
    found = bootstrapped_cross_entropy(logits, labels.byte(), valid, fraction)
    assert found.item() == pytest.approx(naive_loss(logits, labels, valid, fraction), rel=1e-5)
    clip = clip_losses(torch.stack([logits, -logits], 1), torch.stack([labels] * 3, 1), valid, fraction)
    assert clip[0].item() == pytest.approx(found.item())
    assert clip[1].item() == pytest.approx(naive_loss(-logits, labels, valid, fraction), rel=1e-5)


def test_an_invalid_slot_gets_no_gradient():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    valid = torch.tensor([[True, False], [True, True]])
    bootstrapped_cross_entropy(logits, torch.zeros(2, 4, 4, dtype=torch.uint8), valid, 0.5).backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[0, 2].any()
    assert logits.grad[1, 2].any()


def test_the_share_of_pixels_falls_as_in_the_paper():
    wanted = {0: 1.0, 19_999: 1.0, 20_000: 1.0, 45_000: 0.575, 70_000: 0.15, 10**6: 0.15}
    assert {iteration: hard_pixel_fraction(iteration) for iteration in wanted} == pytest.approx(wanted)
    assert hard_pixel_fraction(15, start=10, end=20) == pytest.approx(0.575)
    assert hard_pixel_fraction(0, start=0, end=0) == 0.15


def test_the_logged_iou_equals_loops():
    generator = torch.Generator().manual_seed(0)
    labels, predicted = torch.randint(0, 3, (2, 3, 2, 5, 7), generator=generator)
    labels[0, 1], predicted[0, 1] = 0, 0  # nobody is there, and nobody is found
    valid = torch.tensor([[True, True], [True, False], [True, True]])
    for number in (1, 2):
        values = []
        for sample, of_sample in enumerate(zip(predicted.tolist(), labels.tolist(), strict=True)):
            for found, true in zip(*of_sample, strict=True):
                pairs = [
                    (a == number, b == number) for x, y in zip(found, true, strict=True) for a, b in zip(x, y, strict=True)
                ]
                if valid[sample, number - 1] and any(a or b for a, b in pairs):
                    values.append(sum(a and b for a, b in pairs) / sum(a or b for a, b in pairs))
        total, count = intersections_over_unions(predicted, labels, valid)[f"iou/object_{number}"].tolist()
        assert count == len(values) < 6
        assert total == pytest.approx(sum(values))


@pytest.fixture(scope="module")
def clip():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(2, 4, 3, 48, 64, generator=generator)
    masks = torch.zeros(2, 2, 48, 64)
    masks[:, 0, 8:30, 8:30] = masks[:, 1, 20:44, 34:60] = 1
    return frames, masks


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_unroll_is_the_segmenter_with_memory_at_every_frame_and_no_top_k(similarity, clip):
    frames, masks = clip
    network = build_light_network(similarity=similarity)
    with torch.inference_mode():
        logits = network(frames, masks, torch.ones(2, 2, dtype=torch.bool))
    labels = (masks * torch.tensor([1.0, 2.0])[:, None, None]).sum(dim=1).byte()
    for b in range(2):
        segmenter = VideoSegmenter(network, memory_every=1, top_k=None)
        segmenter.step(frames[b, 0], labels[b])
        for t in (1, 2, 3):
            expected = segmenter.step(frames[b, t])
            torch.testing.assert_close(torch.softmax(logits[b, t - 1], dim=0), expected, atol=1e-4, rtol=0)


def test_an_absent_object_changes_nothing_for_the_other(clip, light_network):
    frames, masks = clip
    with torch.inference_mode():
        alone = light_network(frames, masks[:, :1], torch.ones(2, 1, dtype=torch.bool))
        beside = light_network(frames, masks, torch.tensor([[True, False]] * 2))
    torch.testing.assert_close(beside[:, :, :2], alone, atol=1e-4, rtol=0)


def test_gradients_flow_through_the_soft_prediction(clip):
    frames, masks = clip
    network = build_light_network()
    frames = frames[:, :3].clone().requires_grad_()
    network(frames, masks, torch.ones(2, 2, dtype=torch.bool))[:, 1].sum().backward()
    assert frames.grad[:, 1].any()  # the second frame is memory for the third
