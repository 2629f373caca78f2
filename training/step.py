"""One training step: loss, measurements, optimiser and learning rate (sections 5, F.1 and F.5)."""

import argparse
import inspect
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dataset.stages import Batch
from model.losses import clip_losses, hard_pixel_fraction, overlap_loss
from util.errors import InputError
from util.image import normalise

Figures = dict[str, Tensor]  # by name: (2,), the sum and the count of a value that is averaged over iterations

WEIGHT_DECAY = 1e-7  # section F.1


class Objective(NamedTuple):
    """What the gradients depend on besides network and data."""

    amp_dtype: torch.dtype | None  # `None`: no mixed precision
    bootstrap_start: int
    bootstrap_end: int

    def fraction(self, iteration: int) -> float:
        """The fraction of pixels, the hardest ones, that the loss counts."""
        return hard_pixel_fraction(iteration, start=self.bootstrap_start, end=self.bootstrap_end)


def make_objective(arguments: argparse.Namespace, device: torch.device) -> Objective:
    name = arguments.amp_dtype or ("float16" if device.type == "cuda" else None)
    if name == "float16" and device.type == "cpu":
        raise InputError("--amp_dtype: float16 needs CUDA; use bfloat16 on the CPU")
    if name == "bfloat16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise InputError("--amp_dtype bfloat16: this GPU has no bfloat16 convolutions (they need compute capability 8.0)")
    dtype = None if arguments.no_amp or name is None else getattr(torch, name)
    return Objective(dtype, arguments.bootstrap_start, arguments.bootstrap_end)


def make_scaler(objective: Objective, device: torch.device) -> torch.amp.GradScaler:
    """A loss scaler.  Only float16 needs scaling; otherwise the scale stays 1, but non-finite steps are still skipped."""
    scale = 2.0**16 if objective.amp_dtype is torch.float16 else 1.0
    return torch.amp.GradScaler(device.type, init_scale=scale)


def make_optimizer(network: nn.Module, arguments: argparse.Namespace) -> torch.optim.Optimizer:
    """Adam or AdamW over all parameters.  The ResNets form their own group; `base_lr` is a group's base learning rate."""
    encoders = [parameter for name, parameter in network.named_parameters() if "stages" in name.split(".")]
    others = {id(p) for p in encoders}
    groups = [
        {"params": encoders, "base_lr": arguments.lr if arguments.encoder_lr is None else arguments.encoder_lr},
        {"params": [p for p in network.parameters() if id(p) not in others], "base_lr": arguments.lr},
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[arguments.optimizer]
    return kind(groups, lr=arguments.lr, weight_decay=WEIGHT_DECAY)


def learning_rate(base: float, iteration: int, arguments: argparse.Namespace) -> float:
    """The learning rate at an iteration, counted from 0."""
    if arguments.schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * iteration / arguments.iterations))
    return base * arguments.gamma ** sum(step <= iteration for step in arguments.steps)


def data_parallel(network: nn.Module) -> DistributedDataParallel:
    """DDP without broadcasting buffers, which are frozen.  The option's name depends on PyTorch's version."""
    new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    options: dict[str, Any] = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    return DistributedDataParallel(network, **options)


def figure_names(slots: int) -> tuple[str, ...]:
    """The figures of an iteration: those of `training_step`, the gradient norm, and the entries that showed no object."""
    return (
        "loss/frame_1",
        "loss/frame_2",
        "loss/total",
        *(f"iou/object_{n}" for n in range(1, 1 + slots)),
        "gradient_norm",
        "samples_without_object",
    )


def training_step(
    model: nn.Module, batch: Batch, iteration: int, objective: Objective, device: torch.device
) -> tuple[Tensor, Figures, Tensor]:
    """One forward pass: the loss, the figures, and the predicted labels (B, T-1, H, W)."""
    frames = normalise(batch.frames.to(device, non_blocking=True))  # (B, T, 3, H, W)
    labels, valid = batch.labels.to(device, non_blocking=True), batch.valid.to(device, non_blocking=True)
    masks = first_masks(labels, valid.shape[1])
    with torch.autocast(device.type, objective.amp_dtype, enabled=objective.amp_dtype is not None):
        logits = model(frames, masks, valid)
    losses = clip_losses(logits, labels, valid, objective.fraction(iteration))
    with torch.no_grad():
        predicted = logits.argmax(dim=2)
        one = torch.ones_like(losses[0])
        named = {f"loss/frame_{n}": loss for n, loss in enumerate(losses, start=1)} | {"loss/total": losses.sum()}
        figures = {name: torch.stack([loss, one]) for name, loss in named.items()}
        figures |= intersections_over_unions(predicted, labels[:, 1:], valid)
    return losses.sum(), figures, predicted


SCRIBBLE_FIGURES = ("loss/pixels", "loss/overlap", "loss/total", "iou/object_1", "gradient_norm", "samples_without_object")


def scribble_step(
    model: nn.Module, batch: Batch, iteration: int, objective: Objective, device: torch.device
) -> tuple[Tensor, Figures, Tensor]:
    """`training_step` of the scribble network, for which each frame is a sample; the predicted masks are (B, T, H, W)."""
    assert batch.hints is not None
    frames, hints = normalise(batch.frames.to(device).flatten(0, 1)), batch.hints.to(device).flatten(0, 1).float()
    labels = batch.labels.to(device).flatten(0, 1)
    with torch.autocast(device.type, objective.amp_dtype, enabled=objective.amp_dtype is not None):
        logits = model(frames, hints)
    pixels = F.binary_cross_entropy_with_logits(logits, labels.float())
    overlap = overlap_loss(logits, labels)
    loss = pixels + overlap
    with torch.no_grad():
        named = {"loss/pixels": pixels, "loss/overlap": overlap, "loss/total": loss}
        figures = {name: torch.stack([value, torch.ones_like(value)]) for name, value in named.items()}
        predicted = (logits > 0).to(torch.uint8).unflatten(0, batch.labels.shape[:2])
        present = torch.ones(len(predicted), 1, dtype=torch.bool, device=device)
        figures |= intersections_over_unions(predicted, batch.labels.to(device), present)
    return loss, figures, predicted


def first_masks(labels: Tensor, slots: int) -> Tensor:
    """Labels (B, T, H, W) -> the first frame's masks (B, N, H, W) float, N = `slots`."""
    numbers = torch.arange(1, 1 + slots, device=labels.device)[None, :, None, None]
    return (labels[:, :1] == numbers).float()


def intersections_over_unions(predicted: Tensor, labels: Tensor, valid: Tensor) -> Figures:
    """The IoU of each object, over the frames in which it is in the ground truth or the prediction."""
    figures = {}
    for number in range(1, 1 + valid.shape[1]):
        found, true = predicted == number, labels == number  # (B, T-1, H, W)
        union = (found | true).sum(dim=(2, 3))
        counted = (union > 0) & valid[:, number - 1, None]
        iou = (found & true).sum(dim=(2, 3)) / union.clamp(min=1)
        figures[f"iou/object_{number}"] = torch.stack([(iou * counted).sum(), counted.sum().float()])
    return figures
