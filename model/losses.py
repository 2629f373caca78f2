"""Bootstrapped cross entropy: later in training, only the hardest pixels count (section F.5); and the overlap of masks."""

import torch
import torch.nn.functional as F
from torch import Tensor

HARDEST = 0.15  # final share of pixels


def hard_pixel_fraction(iteration: int, *, start: int = 20_000, end: int = 70_000) -> float:
    """The share of pixels that count at an iteration: all until `start`, then falling linearly to 15 % at `end`."""
    if iteration < start:
        return 1.0
    if iteration >= end:
        return HARDEST
    return 1 - (1 - HARDEST) * (iteration - start) / (end - start)


def bootstrapped_cross_entropy(logits: Tensor, labels: Tensor, valid: Tensor, fraction: float) -> Tensor:
    """Mean cross entropy over the hardest pixels of each sample, then over samples.

    logits (B, N+1, H, W), labels (B, H, W) integer in [0, N], valid (B, N) bool -> scalar, float32.  Logits of invalid
    slots are ignored.
    """
    absent = F.pad(~valid, (1, 0))[:, :, None, None]  # (B, N+1, 1, 1); background is always there
    logits = logits.float().masked_fill(absent, -torch.inf)
    losses = F.cross_entropy(logits, labels.long(), reduction="none").flatten(1)  # (B, HW)
    if fraction < 1:
        losses = losses.topk(max(1, int(fraction * losses.shape[1])), dim=1, sorted=False).values
    return losses.mean()


def clip_losses(logits: Tensor, labels: Tensor, valid: Tensor, fraction: float) -> Tensor:
    """The loss of each predicted frame; their sum is what training minimises.

    logits (B, T-1, N+1, H, W) from `STCN.forward`, labels (B, T, H, W) of all frames, valid (B, N) -> (T-1,) float32.
    """
    frames = zip(logits.unbind(1), labels.unbind(1)[1:], strict=True)
    return torch.stack([bootstrapped_cross_entropy(*frame, valid, fraction) for frame in frames])


def overlap_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 minus the soft Dice coefficient, mean over samples: logits (B, H, W) and labels (B, H, W) of 0 and 1 -> scalar."""
    probabilities, truth = torch.sigmoid(logits.float()).flatten(1), labels.flatten(1).float()
    both = (probabilities * truth).sum(dim=1)
    return (1 - (2 * both + 1) / (probabilities.sum(dim=1) + truth.sum(dim=1) + 1)).mean()
