"""Prepare a network for inference: the same results up to rounding, faster (docs/performance.md).

Batch norm goes into the convolutions before it, and the network works channels last.  On the CPU the convolutions of the
ResNets apply the ReLU behind them, the decoder takes one object at a time, and in float32 wide convolutions use Winograd's
F(4x4, 3x3), which needs a quarter of the multiplications.

An output tile of 4x4 pixels sees an input tile of 6x6 pixels and needs 144 multiplications for each pair of channels.  Seen
as polynomials, the tile and the kernel are multiplied by evaluating both at 6 points for each axis, multiplying the 36
values, and interpolating: 36 multiplications.  Evaluation and interpolation are small fixed matrices, and the 36
products of channels are matrix products, which a CPU does best.  Rounding errors are some five times those of a direct
convolution (about 1e-6 of the result).  GPU libraries choose such algorithms by themselves.
"""

import copy
import functools
import math
import time
from typing import Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from model.resnet import ResNetStages
from util.device import fastest_format, half_of

TILE = 4  # output pixels on a side
SPAN = TILE + 2  # input pixels on a side, and points
OBJECTS_AT_ONCE = 8  # a hundred at once would need ten times the memory
TILES = 400  # at a time: enough for an efficient matrix product, few enough for the cache
POINTS = np.array(
    [0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)]
)  # and infinity; these gave the smallest rounding errors of those tried


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
        parts = network.key_encoder.compression, *network.decoder.modules()  # not the key: top-k compares its last digits
        if not amp and not compiled and any(map(_is_wide, parts)):
            network.winograd = winograd_pays() if winograd is None else winograd
    if network.winograd:
        if _is_wide(network.key_encoder.compression):
            network.key_encoder.compression = WinogradConv(network.key_encoder.compression)
        use_winograd(network.decoder)
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
    """A residual block of torchvision, folded, for the CPU: each convolution applies its ReLU, the last adds the shortcut."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        names = [name for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]
        self.convs = nn.ModuleList(getattr(block, name) for name in names)
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


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices for one axis that evaluate a kernel (6, 3), evaluate an input tile (6, 6), and interpolate (4, 6)."""
    kernel, tile, interpolation = np.zeros((SPAN, 3)), np.zeros((SPAN, SPAN)), np.zeros((TILE, SPAN))
    for i, point in enumerate(POINTS):
        others = np.delete(POINTS, i)
        kernel[i] = point ** np.arange(3) / np.prod(point - others)
        tile[i, :-1] = np.poly(others)[::-1]
        interpolation[:, i] = point ** np.arange(TILE)
    kernel[-1, -1] = interpolation[-1, -1] = 1
    tile[-1] = np.poly(POINTS)[::-1]
    return kernel, tile, interpolation


class WinogradConv(nn.Module):
    """Equals a 3x3 `Conv2d` with stride 1 and padding 1; its transformed weights take four times the memory."""

    @torch.autocast("cpu", enabled=False)
    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None
        weight = conv.weight.detach()
        # for both axes at once: (36, 9), (36, 36), (16, 36)
        kernel, tile, interpolation = (torch.from_numpy(np.kron(m, m)).to(weight) for m in _matrices())
        transformed = kernel @ weight.permute(2, 3, 1, 0).reshape(len(kernel[0]), -1)
        self.weight = nn.Buffer(transformed.view(SPAN**2, conv.in_channels, conv.out_channels))
        self.bias = nn.Buffer(conv.bias.detach())
        self.evaluate, self.interpolate = nn.Buffer(tile), nn.Buffer(interpolation)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x, slice(None), self.bias)

    @torch.autocast("cpu", enabled=False)  # half precision would lose most digits in between
    def part(self, x: Tensor, channels: slice, bias: Tensor | None) -> Tensor:
        """As `PartialConv.part`, (B, C, H, W) -> (B, O, H, W), channels last."""
        x = x.to(self.weight.dtype)
        height, width = x.shape[2:]
        weight = self.weight[:, channels]
        rows, columns = -(-height // TILE), -(-width // TILE)
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, TILE * columns + 1 - width, 1, TILE * rows + 1 - height))
        tiles = x.unfold(1, SPAN, TILE).unfold(2, SPAN, TILE).permute(0, 4, 5, 1, 2, 3)  # (B, 6, 6, rows, columns, C)
        at_once = max(1, TILES // columns)  # rows of tiles
        result = x.new_empty(len(x), rows, TILE, columns, TILE, weight.shape[2])
        for whole, some_tiles in zip(result, tiles, strict=True):
            for part, block in zip(whole.split(at_once), some_tiles.split(at_once, dim=2), strict=True):
                values = (self.evaluate @ block.reshape(SPAN**2, -1)).view(SPAN**2, -1, len(weight[0]))
                products = torch.bmm(values, weight).flatten(1)  # (36, tiles O)
                pixels = (self.interpolate @ products).view(TILE, TILE, len(part), columns, -1)
                part.copy_(pixels.permute(2, 0, 3, 1, 4))
        if bias is not None:
            result += bias
        return result.flatten(3, 4).flatten(1, 2)[:, :height, :width].permute(0, 3, 1, 2)


def use_winograd(module: nn.Module) -> None:
    """Replace the wide 3x3 convolutions in a module; narrow ones gain nothing."""
    for name, child in module.named_children():
        if _is_wide(child):
            setattr(module, name, WinogradConv(child))
        else:
            use_winograd(child)


def _is_wide(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(module, nn.Conv2d):
        return False
    return module.kernel_size == (3, 3) and module.stride == (1, 1) and min(module.weight.shape[:2]) >= 256


@functools.cache
@torch.inference_mode()
def winograd_pays() -> bool:
    """Whether Winograd's algorithm is faster on this machine by more than a tenth; measured once, in about 0.2 s.

    It depends on how fast the library's convolutions and matrix products are.  One convolution is enough to tell: the
    ratio differs between machines (0.9 to 2) far more than between the decoder's convolutions.
    """
    with torch.random.fork_rng(devices=[]):
        conv = nn.Conv2d(256, 256, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.ones(1, 256, 32, 128).to(memory_format=torch.channels_last)
    ways = {"direct": conv, "winograd": WinogradConv(conv)}
    seconds = dict.fromkeys(ways, math.inf)
    for _ in range(4):  # in turns, since other processes come and go; the first time is too long and does not count
        for name, way in ways.items():
            start = time.perf_counter()
            way(x)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds["direct"] > 1.1 * seconds["winograd"]
