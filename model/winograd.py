"""Wide 3x3 convolutions by Winograd's F(4x4, 3x3), which needs a quarter of the multiplications, for CPUs in float32.

An output tile of 4x4 pixels sees an input tile of 6x6 pixels and needs 144 multiplications for each pair of channels.  Seen
as polynomials, the tile and the kernel are multiplied by evaluating both at 6 points for each axis, multiplying the 36
values, and interpolating: 36 multiplications.  Evaluation and interpolation are small fixed matrices, and the 36
products of channels are matrix products, which a CPU does best.  Rounding errors are some five times those of a direct
convolution (about 1e-6 of the result).  GPU libraries choose such algorithms by themselves.
"""

import contextlib
import functools
import math
import os
import time
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.device import processor_name
from util.errors import InputError
from util.files import read_json, write_json

TILE = 4  # output pixels on a side
SPAN = TILE + 2  # input pixels on a side, and points
TILES = 400  # at a time: enough for an efficient matrix product, few enough for the cache
POINTS = np.array([0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)])  # and infinity; of those tried, these round best


def with_winograd(module: nn.Module) -> nn.Module:
    """The module with its wide convolutions replaced, or what replaces it; narrow ones gain nothing."""
    if is_wide(module):
        return WinogradConv(module)
    for name, child in module.named_children():
        setattr(module, name, with_winograd(child))
    return module


def any_is_wide(*modules: nn.Module) -> bool:
    """Whether there is anything to replace in these modules."""
    return any(is_wide(part) for module in modules for part in module.modules())


def is_wide(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(module, nn.Conv2d):
        return False
    return module.kernel_size == (3, 3) and module.stride == (1, 1) and min(module.weight.shape[:2]) >= 256


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


@functools.cache
def winograd_pays() -> bool:
    """Whether Winograd's algorithm is faster on this machine, by what was measured the first time, so that bits stay the same.

    `winograd.json` in the user's cache folder has it by processor, number of threads and version of PyTorch.
    """
    try:
        path = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stcn" / "winograd.json"
    except RuntimeError:  # this user has no home
        return _is_faster()
    machine = f"{processor_name()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    known: dict[str, bool] = {}
    with contextlib.suppress(InputError):  # there is none
        if isinstance(found := read_json(path), dict):
            known = {name: pays for name, pays in found.items() if isinstance(pays, bool)}
    if machine not in known:
        known[machine] = _is_faster()
        with contextlib.suppress(InputError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, known)
    return known[machine]


@torch.inference_mode()
def _is_faster() -> bool:
    """Whether Winograd's algorithm is faster by more than a tenth; takes about 0.2 s.

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
