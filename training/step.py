"""One training step: optimiser, loss and measurements (sections 5, F.1 and F.5)."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dataset.robot import draw_clicks
from dataset.sampling import Batch
from model.losses import clip_losses, overlap_loss
from training.config import TrainConfig
from training.state import Figures, State
from util.device import upload
from util.tensors import normalise

WEIGHT_DECAY = 1e-7  # section F.1


def make_scaler(amp_dtype: torch.dtype | None, device: torch.device) -> torch.amp.GradScaler:
    """A loss scaler.  Only float16 needs scaling; otherwise the scale stays 1, but non-finite steps are still skipped."""
    scale = 2.0**16 if amp_dtype is torch.float16 else 1.0
    return torch.amp.GradScaler(device.type, init_scale=scale)


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam or AdamW over all parameters.  The ResNets form their own group; `base_lr` is a group's base learning rate."""
    encoders = [parameter for name, parameter in network.named_parameters() if "stages" in name.split(".")]
    others = {id(p) for p in encoders}
    groups = [
        {"params": encoders, "base_lr": config.lr if config.encoder_lr is None else config.encoder_lr},
        {"params": [p for p in network.parameters() if id(p) not in others], "base_lr": config.lr},
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(groups, lr=config.lr, weight_decay=WEIGHT_DECAY, fused=True)


def data_parallel(network: nn.Module) -> DistributedDataParallel:
    """DDP without broadcasting buffers, which are frozen.  The option's name depends on PyTorch's version."""
    new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    options: dict[str, Any] = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    return DistributedDataParallel(network, **options)


def iterate(
    state: State,
    model: nn.Module,
    passes: list[Batch],
    kept_pixels: float,
    clip_grad: float | None,
    device: torch.device,
    step: Callable[..., tuple[Tensor, Figures, Tensor]],
) -> Tensor:
    """One optimiser step on the mean loss of the passes; returns what `step` predicts in the last pass."""
    state.optimizer.zero_grad(set_to_none=True)
    figures: Figures = {}
    names: list[str] = []
    for number, batch in enumerate(passes, start=1):
        if isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = number == len(passes)  # once per iteration
        loss, measured, predicted = step(model, batch, kept_pixels, state.amp_dtype, device)
        state.scaler.scale(loss / len(passes)).backward()
        figures = {name: figures.get(name, 0) + pair for name, pair in measured.items()}
        names += batch.names
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.get_total_norm([p.grad for p in state.network.parameters() if p.grad is not None])
    if clip_grad is not None:
        nn.utils.clip_grads_with_norm_(state.network.parameters(), clip_grad, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update(None if state.amp_dtype is torch.float16 else 1.0)
    if state.averaged is not None:
        state.averaged.update_parameters(state.network)
    # a step that the scaler skips does not count
    figures["gradient_norm"] = torch.stack([norm.nan_to_num(0, 0, 0), norm.isfinite().float()])
    objectless = float(sum(batch.objectless for batch in passes))
    counts = torch.tensor([objectless, 1 / state.means.processes.world])  # which add up to 1: the mean is the sum over ranks
    figures["samples_without_object"] = upload(counts, device)
    state.means.add(figures, names)
    return predicted


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
    model: nn.Module, batch: Batch, kept_pixels: float, amp_dtype: torch.dtype | None, device: torch.device
) -> tuple[Tensor, Figures, Tensor]:
    """One forward pass: the loss, the figures, and the predicted labels (B, T-1, H, W)."""
    frames = normalise(batch.frames.to(device, non_blocking=True))  # (B, T, 3, H, W)
    labels, valid = batch.labels.to(device, non_blocking=True), batch.valid.to(device, non_blocking=True)
    masks = first_masks(labels, valid.shape[1]) if batch.masks is None else batch.masks.to(device) / 255
    with torch.autocast(device.type, amp_dtype, enabled=amp_dtype is not None):
        logits = model(frames, masks, batch.valid)  # on the CPU still
    losses = clip_losses(logits, labels, valid, kept_pixels)
    with torch.no_grad():
        predicted = logits.max(dim=2).indices  # `argmax` along an inner dimension is slow on the CPU
        one = torch.ones_like(losses[0])
        named = {f"loss/frame_{n}": loss for n, loss in enumerate(losses, start=1)} | {"loss/total": losses.sum()}
        figures = {name: torch.stack([loss, one]) for name, loss in named.items()}
        figures |= intersections_over_unions(predicted, labels[:, 1:], valid)
    return losses.sum(), figures, predicted


SCRIBBLE_FIGURES = ("loss/pixels", "loss/overlap", "loss/total", "iou/object_1", "gradient_norm", "samples_without_object")


def scribble_step(
    model: nn.Module, batch: Batch, kept_pixels: float, amp_dtype: torch.dtype | None, device: torch.device
) -> tuple[Tensor, Figures, Tensor]:
    """`training_step` of the scribble network, for which each frame is a sample; the predicted masks are (B, T, H, W).

    Every second sample starts from the network's own mask and a click where that is most wrong, as when people correct.
    """
    assert batch.hints is not None
    frames, hints = normalise(batch.frames.to(device).flatten(0, 1)), batch.hints.to(device).flatten(0, 1).float()
    labels = batch.labels.to(device).flatten(0, 1)
    with torch.no_grad(), torch.autocast(device.type, amp_dtype, enabled=amp_dtype is not None):
        found = model(frames[1::2], hints[1::2]) > 0 if len(frames) > 1 else []
    for i, sample in enumerate(zip(hints[1::2], found, labels[1::2], strict=True)):
        hints[1 + 2 * i] = hints_after(*sample)
    # a context of its own: the weights that autocast has cast above have no gradient
    with torch.autocast(device.type, amp_dtype, enabled=amp_dtype is not None):
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


def hints_after(hints: Tensor, found: Tensor, truth: Tensor) -> Tensor:
    """Hints (3, H, W) for a mask that they led to, (H, W) bool, with the robot's next click; a box counts no longer."""
    marks = torch.from_numpy(draw_clicks(truth.cpu().numpy(), found.cpu().numpy().astype(np.uint8))).to(hints.device)
    mask, on, off = hints > 0
    off = off & ~(mask | off).all()
    return torch.stack([found, on | (marks == 1), off | (marks == 0)]).float()


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
