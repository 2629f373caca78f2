"""The ResNets of both encoders (section 3.1; He et al., 2015), with torchvision's names, so that its ImageNet weights fit."""

import pickle
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.errors import InputError

STRIDES = (1, 2, 2)  # of res2, res3 and res4, after the 4 of the stem


class Backbone(NamedTuple):
    """A ResNet up to res4."""

    blocks: tuple[int, int, int]  # in res2, res3 and res4
    channels: tuple[int, int, int]  # after them
    bottleneck: float | None = None  # width of the 3x3 convolution as a part of the channels; `None`: two 3x3 convolutions


BACKBONES = {
    "resnet18": Backbone((2, 2, 2), (64, 128, 256)),
    "resnet50": Backbone((3, 4, 6), (256, 512, 1024), 1 / 4),
    "wide_resnet50_2": Backbone((3, 4, 6), (256, 512, 1024), 1 / 2),
}


class ResNetBlock(nn.Module):
    """Two 3x3 convolutions or a bottleneck, beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, bottleneck: float | None) -> None:
        super().__init__()
        if bottleneck is None:
            widths, sizes, strides = (in_channels, channels, channels), (3, 3), (stride, 1)
        else:
            width = round(channels * bottleneck)
            widths, sizes, strides = (in_channels, width, width, channels), (1, 3, 1), (1, stride, 1)
        self.depth = len(sizes)
        for n in range(self.depth):
            setattr(self, f"conv{n + 1}", _conv(widths[n], widths[n + 1], sizes[n], strides[n]))
            setattr(self, f"bn{n + 1}", nn.BatchNorm2d(widths[n + 1]))
        self.downsample: nn.Sequential | None = None
        if (in_channels, stride) != (channels, 1):
            self.downsample = nn.Sequential(_conv(in_channels, channels, 1, stride), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) -> (B, C, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        for n in range(1, self.depth + 1):
            x = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(x))
            x = F.relu(x if n < self.depth else x + shortcut, inplace=True)
        return x


class ResNetStages(nn.Module):
    """A ResNet up to res4 (strides 4, 8, 16), without res5 and the classifier.

    Input channels beyond the image's three start with orthogonal filters.  `channels` are the widths of f4, f8 and f16.
    `pretrained` loads torchvision's `IMAGENET1K_V1` and raises `InputError` if it is not available.
    """

    def __init__(self, name: str, *, in_channels: int = 3, pretrained: bool = False) -> None:
        super().__init__()
        backbone = BACKBONES[name]
        self.channels = backbone.channels
        self.conv1, self.bn1 = _conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        width = 64
        stages = []
        for depth, channels, stride in zip(backbone.blocks, backbone.channels, STRIDES, strict=True):
            first = ResNetBlock(width, channels, stride, backbone.bottleneck)
            others = (ResNetBlock(channels, channels, 1, backbone.bottleneck) for _ in range(depth - 1))
            stages.append(nn.Sequential(first, *others))
            width = channels
        self.res2, self.res3, self.res4 = stages
        if pretrained:
            self._load_imagenet(name)
        self.conv1 = _widen(self.conv1, in_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, in_channels, H, W) -> f4, f8, f16."""
        x = F.max_pool2d(self.bn1(self.conv1(x)), 3, stride=2, padding=1)
        f4 = self.res2(F.relu(x, inplace=True))  # after the pooling, of a quarter of the pixels, with the same result
        f8 = self.res3(f4)
        return f4, f8, self.res4(f8)

    def _load_imagenet(self, name: str) -> None:
        import torchvision.models  # here, since it takes as long to import as PyTorch, and inference never needs it

        weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        try:
            theirs = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
            renamed = {re.sub(r"^layer(\d)", lambda found: f"res{int(found[1]) + 1}", name): x for name, x in theirs.items()}
            self.load_state_dict({name: x for name, x in renamed.items() if not name.startswith(("res5", "fc"))})
        except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
            # no connection; a damaged or half-downloaded file
            path = f"{torch.hub.get_dir()}/checkpoints/{weights.url.rsplit('/', 1)[1]}"
            raise InputError(
                f"{path}: cannot load the ImageNet weights of {name} ({error}); put {weights.url} there, "
                "or go without them with --no_pretrained"
            ) from error


def _conv(in_channels: int, channels: int, size: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, channels, size, stride=stride, padding=size // 2, bias=False)
    initialise(conv.weight, partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu"))
    return conv


def _widen(conv: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """The same convolution with additional input channels, whose filters are orthogonal."""
    extra = in_channels - conv.in_channels
    if extra == 0:
        return conv
    filters = torch.empty(conv.out_channels, extra, *conv.kernel_size, device=conv.weight.device)
    initialise(filters, nn.init.orthogonal_)
    wide = _conv(in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0])
    with torch.no_grad():
        wide.weight[:, : conv.in_channels] = conv.weight
        wide.weight[:, conv.in_channels :] = filters
    return wide


def initialise(weight: Tensor, fill: Callable[[Tensor], object]) -> None:
    """Fill initial weights, unless they are on the meta device, where loaded ones take their place: PyTorch would import its
    compiler for that, which takes seconds.
    """
    if not weight.is_meta:
        fill(weight)
