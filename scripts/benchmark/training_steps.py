"""Training steps without data loading, and scoring of a frame."""

from functools import partial

import numpy as np
import torch

from evaluation.metrics import score_masks
from model import STCN
from model.losses import clip_losses
from scripts.benchmark.made_up import Stopwatch, made_up_mask


def measure_training(network: STCN, *, crop: int, batch: int, objects: int, repeats: int, device: torch.device) -> str:
    """Training steps on made-up clips, without data loading, in float32 and in the mixed precision of `train.py`."""
    network = network.to(device).to(memory_format=torch.channels_last).train()  # as train.py has it
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    frames = torch.randn(batch, 3, 3, crop, crop, device=device)
    labels = torch.randint(0, 1 + objects, (batch, 3, crop, crop), device=device)
    masks = torch.stack([(labels[:, 0] == number).float() for number in range(1, 1 + objects)], dim=1)
    valid = torch.ones(batch, objects, dtype=torch.bool, device=device)

    def step(dtype: torch.dtype, turn: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = network(frames, masks, valid)
        clip_losses(logits, labels, valid, 0.5).sum().backward()
        optimizer.step()

    dtypes = (torch.float32, torch.float16 if device.type == "cuda" else torch.bfloat16)
    ways = {str(dtype): partial(step, dtype) for dtype in dtypes}
    single, half = Stopwatch(device, warmup=1).compare(ways, repeats, "training steps")
    return (
        f"training, {objects} objects, batch {batch}, crop {crop}: {single:.3f} s a step, "
        f"in {str(dtypes[1])[6:]} {half:.3f} s, {single / half:.2f} times faster, medians of {repeats}"
    )


def measure_scoring(*, size: tuple[int, int], repeats: int) -> str:
    """Scoring of one object in one frame, without reading files."""
    truth, result = (made_up_mask(size, range(1, 8)) > 0 for _ in range(2))
    result = np.roll(result, 5, axis=1)
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(repeats):
        watch.time("score", partial(score_masks, truth, result))
    return f"scoring, {size[0]}x{size[1]}: {1000 * watch.median('score'):.2f} ms a frame and object, median of {repeats}"
