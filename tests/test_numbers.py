"""Extreme numbers: whatever goes in, what comes out is finite, sums to one and has finite gradients."""

import contextlib

import pytest
import torch
from conftest import build_light_network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model import VideoSegmenter
from model.losses import bootstrapped_cross_entropy, clip_losses
from model.memory import MemoryBank
from model.network import aggregate, soft_aggregate
from model.similarity import SIMILARITIES, affinity, readout, similarity

FORMATS = (torch.float16, torch.bfloat16, torch.float32)
HEIGHT, WIDTH = 3, 4
SIZE = 32  # pixels, of small frames
MAGNITUDES = {"zero": 0.0, "tiny": 1e-38, "small": 1e-6, "one": 1.0, "thousand": 1e3, "largest": float("inf")}
quickly = settings(deadline=None, max_examples=40, derandomize=True)


def numbers(dtype: torch.dtype, magnitude: str, *shape: int, seed: int = 0) -> Tensor:
    """Normal numbers times a magnitude, cut off at the format's largest number, which the last magnitude reaches."""
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    largest = torch.finfo(dtype).max
    if magnitude == "largest":
        return (drawn.sign() * largest).to(dtype)
    return (drawn * MAGNITUDES[magnitude]).clamp(-largest, largest).to(dtype)


def assert_within(found: Tensor, values: Tensor) -> None:
    """A readout (..., h, w) is a weighted mean of values of one number for each object, so it lies between the least and
    the largest.
    """
    assert found.isfinite().all()
    rounding = 4 * torch.finfo(values.dtype).eps * values.abs().max()
    assert found.min() >= values.min() - rounding
    assert found.max() <= values.max() + rounding


@given(
    dtype=st.sampled_from(FORMATS),
    kind=st.sampled_from(SIMILARITIES),
    magnitudes=st.tuples(*2 * [st.sampled_from(list(MAGNITUDES))]),
    top_k=st.sampled_from([1, 3, 20, None]),
    kernel=st.booleans(),
    frames=st.integers(1, 6),
    identical=st.booleans(),
    objects=st.sampled_from([1, 2, 100]),
    blockwise=st.booleans(),
    seed=st.integers(0, 99),
)
@quickly
def test_a_readout_lies_between_the_values(
    dtype, kind, magnitudes, top_k, kernel, frames, identical, objects, blockwise, seed
):
    memory, query = magnitudes
    bank = MemoryBank(similarity=kind, top_k=top_k, kernel=kernel)
    values = torch.rand(objects, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        if blockwise:
            patch.setattr("model.memory.BLOCK", 1)
        for t in range(frames):
            bank.add(numbers(dtype, memory, 5, HEIGHT, WIDTH, seed=seed if identical else seed + t), values)
        found = bank.read(numbers(dtype, query, 5, HEIGHT, WIDTH, seed=seed + 100))
    assert found.shape == values.shape
    assert_within(found, values)


@given(
    dtype=st.sampled_from(FORMATS),
    kind=st.sampled_from(SIMILARITIES),
    magnitudes=st.tuples(*2 * [st.sampled_from(list(MAGNITUDES))]),
    identical=st.booleans(),
    seed=st.integers(0, 99),
)
@quickly
def test_affinities_sum_to_one_and_have_finite_gradients(dtype, kind, magnitudes, identical, seed):
    memory = numbers(dtype, magnitudes[0], 2, 1 if identical else 7, 5, seed=seed).repeat(1, 7 if identical else 1, 1)
    query = numbers(dtype, magnitudes[1], 2, 4, 5, seed=seed + 100)
    values = torch.rand(2, 7, 3, 2, generator=torch.Generator().manual_seed(seed)).to(dtype)
    # float32 with the format's numbers: gradients beyond float16's range are the loss scaler's concern
    memory, query, values = (leaf.float().requires_grad_() for leaf in (memory, query, values))
    weights = affinity(similarity(memory, query, kind))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4))
    if identical:
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / 7))
    found = readout(weights, values)
    assert_within(found, values)
    found.square().sum().backward()
    for name, leaf in (("memory", memory), ("query", query), ("values", values)):
        assert leaf.grad.isfinite().all(), name


def certainties(dtype: torch.dtype, objects: int, seed: int) -> Tensor:
    """Probabilities (N, h, w), many of them 0 or 1, or as near as the format can say."""
    eps = torch.finfo(dtype).eps
    choices = torch.tensor([0.0, torch.finfo(dtype).tiny, 0.5, 1 - eps, 1.0, 0.3])
    drawn = torch.randint(0, 6, (objects, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(seed))
    return choices[drawn].to(dtype)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("objects", [1, 3, 100])
@pytest.mark.parametrize("content", ["random", "all empty", "all full", "one full"])
def test_aggregated_probabilities_sum_to_one(dtype, objects, content):
    for seed in range(4 if content == "random" else 1):
        probabilities = certainties(dtype, objects, seed)
        if content != "random":
            probabilities.fill_(content == "all full")
        if content == "one full":
            probabilities[0] = 1
        found = aggregate(probabilities)
        torch.testing.assert_close(found.sum(dim=0), torch.ones(HEIGHT, WIDTH))
        assert found.min() >= 0
        leaf = probabilities.clone().requires_grad_()
        logits = soft_aggregate(leaf[None])[0]
        torch.testing.assert_close(torch.softmax(logits, dim=0), found, atol=1e-6, rtol=1e-3)
        torch.softmax(logits, dim=0).square().sum().backward()
        assert leaf.grad.isfinite().all()
        if content == "one full":
            assert (found.argmax(dim=0) == 1).all()
        if content == "all empty":
            assert (found.argmax(dim=0) == 0).all()


@given(
    dtype=st.sampled_from(FORMATS),
    fraction=st.sampled_from([1.0, 0.5, 0.15]),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    valid=st.lists(st.booleans(), min_size=1, max_size=4),
    scale=st.sampled_from([0, 1e-6, 1.0, 16.0, 6e4]),
)
@quickly
def test_losses_and_their_gradients_are_finite(dtype, fraction, size, valid, scale):
    for label in (0, *(1 + i for i, there in enumerate(valid) if there)):  # all background, or all of one object
        drawn = torch.randn(2, 1 + len(valid), *size, generator=torch.Generator().manual_seed(0))
        logits = (drawn * scale).clamp(-6e4, 6e4).to(dtype).requires_grad_()
        labels = torch.full((2, *size), label, dtype=torch.uint8)
        loss = bootstrapped_cross_entropy(logits, labels, torch.tensor([valid] * 2), fraction)
        loss.backward()
        assert loss.isfinite()
        assert loss >= 0
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("objects", "mask"), [(2, "all foreground"), (1, "empty"), (1, "one pixel")])
@pytest.mark.parametrize(
    "similarity", ["l2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in SIMILARITIES if kind != "l2")]
)
def test_a_training_step_on_a_constant_clip_has_finite_gradients(half, objects, mask, similarity):
    network = build_light_network(similarity=similarity).train()
    masks, labels = torch.zeros(1, objects, SIZE, SIZE), torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)
    if mask == "all foreground":
        masks[:, 0], labels[:] = 1, 1
    elif mask == "one pixel":
        masks[:, 0, 9, 9], labels[:, :, 9, 9] = 1, 1
    valid = torch.ones(1, objects, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
        logits = network(torch.full((1, 3, 3, SIZE, SIZE), 2.0), masks, valid)
    loss = clip_losses(logits, labels, valid, 0.15).sum()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    torch.testing.assert_close(torch.softmax(logits, dim=2).sum(dim=2), torch.ones(1, 2, SIZE, SIZE))


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("colour", "mask"), [(0, "all foreground"), (255, "one pixel"), (0, "a hundred objects")])
def test_a_constant_video_stays_finite(half, colour, mask, light_network):
    network = light_network.for_inference(amp=half)
    segmenter = VideoSegmenter(network, memory_every=1, kernel=colour == 0, max_memory_frames=2)
    image = torch.full((SIZE, SIZE, 3), colour, dtype=torch.uint8)
    labels = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    if mask == "all foreground":
        labels[:] = 3
    elif mask == "one pixel":
        labels[7, 7] = 3
    else:
        labels.flatten()[::10][:100] = torch.arange(1, 101, dtype=torch.uint8)
    segmenter.step(image, labels)
    for _ in range(3):
        found = segmenter.step(image)
        assert len(found) == 1 + (100 if mask == "a hundred objects" else 1)
        torch.testing.assert_close(found.sum(dim=0), torch.ones(SIZE, SIZE))
        assert found.min() >= 0
