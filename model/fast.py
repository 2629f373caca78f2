"""Prepare a network for inference: the same results up to rounding, faster (docs/performance.md).

Batch norm goes into the convolutions before it, and the network works channels last.  On the CPU the convolutions of the
ResNets apply the ReLU behind them, the decoder takes one object at a time, and in float32 wide convolutions use Winograd's
algorithm (`model.winograd`).
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from model.resnet import ResNetStages
from model.winograd import any_is_wide, winograd_pays, with_winograd
from util.device import fastest_format, half_of

OBJECTS_AT_ONCE = 8  # a hundred at once would need ten times the memory


def for_inference(network: Any, *, amp: bool = False, winograd: bool | None = True, compiled: bool = False) -> Any:
    """A faster copy of an `STCN`, without gradients.  It can be neither trained nor saved.

    amp:      weights and features in half precision: bfloat16 on the CPU, float16 elsewhere.  Similarity, softmax and
              aggregation stay float32.
    winograd: use Winograd's algorithm for the wide convolutions, on the CPU in float32; `None` uses it where it is
              faster (`winograd_pays`).  The copy's `winograd` says what was chosen, `None` where there was no choice: what is
              to have the same bits in another process gives that choice there.
    compiled: compile the network's parts with `torch.compile`, which goes without Winograd's algorithm
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    device = next(network.parameters()).device
    for encoder in (network.key_encoder, network.value_encoder):
        fold_batch_norm(encoder.stages)
        if device.type == "cpu" and not compiled and can_fuse(half=amp):
            fuse_blocks(encoder.stages)
    if amp:
        network.to(half_of(device))
    network.to(memory_format=fastest_format(device, half=amp))
    network.decoder.at_once = network.value_encoder.at_once = OBJECTS_AT_ONCE
    network.winograd = None
    if device.type == "cpu":
        network.decoder.at_once = 1  # its caches do not hold more objects
        if not amp and not compiled and any_is_wide(network.key_encoder.compression, network.decoder):
            network.winograd = winograd_pays() if winograd is None else winograd
    if network.winograd:  # but not for the key: top-k compares its last digits
        network.key_encoder.compression = with_winograd(network.key_encoder.compression)
        network.decoder = with_winograd(network.decoder)
    if compiled:
        for part in (network.key_encoder, network.value_encoder, network.decoder):
            part.compile()
    network.is_folded = True
    return network


def describe_arithmetic(network: Any) -> str:
    """How such a copy computes, for messages."""
    dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
    return dtype + (" with Winograd's algorithm" if network.winograd else "")


def fold_batch_norm(stages: ResNetStages) -> None:
    """Fold each batch norm, in evaluation mode, into the preceding convolution."""
    for module in list(stages.modules()):
        pairs = [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")]
        if isinstance(module, nn.Sequential):
            pairs = [("0", "1")]  # of a shortcut
        for conv, norm in pairs:
            if isinstance(getattr(module, norm, None), nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, nn.Identity())


def can_fuse(*, half: bool) -> bool:
    """Whether PyTorch has oneDNN's fused convolutions here, which `torch.compile` uses; they have no public name."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return False
    return not half or torch.ops.mkldnn._is_mkldnn_bf16_supported()


class FusedBlock(nn.Module):
    """A residual block, folded, for the CPU: each convolution applies its ReLU, the last adds the shortcut."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleList(getattr(block, f"conv{n}") for n in range(1, block.depth + 1))
        self.downsample = block.downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        *first, last = self.convs
        for conv in first:
            x = torch.ops.mkldnn._convolution_pointwise(x, *_arguments(conv), "relu", [], "")
        return torch.ops.mkldnn._convolution_pointwise.binary(x, shortcut, *_arguments(last), "add", 1.0, "relu", [], "")


def _arguments(conv: Any) -> tuple[Any, ...]:
    return conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups


def fuse_blocks(stages: ResNetStages) -> None:
    """Replace the residual blocks, whose batch norm is folded, by `FusedBlock`."""
    for stage in (stages.res2, stages.res3, stages.res4):
        for i, block in enumerate(stage):
            stage[i] = FusedBlock(block)
