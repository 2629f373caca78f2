"""The parts of STCN that have weights: section 3.1 (encoders, feature reuse), section 3.2 (decoder), section F.2 (fusion)."""

from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.objects import PartialConv, Present, add_to_each, conv_beside_shared
from model.resnet import ResNetStages, initialise

Network = TypeVar("Network", bound=nn.Module)


class KeyFeatures(NamedTuple):
    """Features of a frame that need no mask; computed once, then used as query, as memory and by the decoder.

    Shapes are for B frames of H x W; C4, C8 and C16 depend on the backbone (256, 512, 1024 for ResNet-50).
    """

    key: Tensor  # (B, Ck, H/16, W/16), the query key and later the memory key
    f16_compressed: Tensor  # (B, Cv, H/16, W/16), the decoder's view of f16
    f16: Tensor  # (B, C16, H/16, W/16), res4
    f8: Tensor  # (B, C8, H/8, W/8), res3
    f4: Tensor  # (B, C4, H/4, W/4), res2

    def unflatten(self, batch: int) -> "KeyFeatures":
        """Features of B*T frames -> of B clips of T frames: (B, T, ...)."""
        return KeyFeatures(*(x.unflatten(0, (batch, -1)) for x in self))

    def frame(self, t: int) -> "KeyFeatures":
        """Frame t of clips: (B, T, ...) -> (B, ...)."""
        return KeyFeatures(*(x[:, t] for x in self))


class KeyEncoder(nn.Module):
    """Image -> key, and the features that value encoder and decoder reuse (section 3.1)."""

    def __init__(self, backbone: str, key_dim: int, value_dim: int, *, aspp: bool = False, pretrained: bool = False) -> None:
        super().__init__()
        self.stages = ResNetStages(backbone, pretrained=pretrained)
        f16_channels = self.stages.channels[2]
        self.aspp = ASPP(f16_channels) if aspp else None
        self.projection = key_projection(f16_channels, key_dim)
        self.compression = nn.Conv2d(f16_channels, value_dim, 3, padding=1)

    def forward(self, image: Tensor) -> KeyFeatures:
        """(B, 3, H, W) normalised, H and W multiples of 16 -> `KeyFeatures`."""
        f4, f8, f16 = self.stages(image)
        f16 = f16 if self.aspp is None else self.aspp(f16)
        return KeyFeatures(self.projection(f16), self.compression(f16), f16, f8, f4)


class ValueEncoder(nn.Module):
    """Image, an object's mask and the sum of the other objects' masks -> the object's memory value (section 3.1)."""

    def __init__(
        self, backbone: str, key_channels: int, value_dim: int, *, attention: bool = True, pretrained: bool = False
    ) -> None:
        super().__init__()
        self.at_once: int | None = None  # number of objects encoded together; `None` for all
        self.stages = ResNetStages(backbone, in_channels=5, pretrained=pretrained)
        self.fusion = FeatureFusion(self.stages.channels[2], key_channels, value_dim, attention=attention)

    def forward(self, image: Tensor, masks: Tensor, key_f16: Tensor, present: Present | None = None) -> Tensor:
        """(B, 3, H, W) normalised, (B, N, H, W) in [0, 1] and (B, C16, h, w) -> (B, N, Cv, h, w), zero where not `present`."""
        total = masks.sum(dim=1, keepdim=True)
        if present is not None:
            value_f16 = self.stages(present.gather(with_others(image, masks, total)))[2]
            return present.scatter(self.fusion(value_f16, key_f16, present), len(image))
        parts = masks.split(self.at_once, dim=1) if self.at_once else (masks,)
        values = []
        for part in parts:
            value_f16 = self.stages(with_others(image, part, total).flatten(0, 1))[2]
            values.append(self.fusion(value_f16, key_f16).unflatten(0, part.shape[:2]))
        return torch.cat(values, dim=1) if len(values) > 1 else values[0]


def with_others(image: Tensor, masks: Tensor, total: Tensor) -> Tensor:
    """Each object's image, mask and sum of the other masks: (B, 3, H, W), (B, N, H, W) and the sum of all masks
    (B, 1, H, W) -> (B, N, 5, H, W).
    """
    others = total - masks
    image = image[:, None].expand(-1, masks.shape[1], -1, -1, -1)
    return torch.cat([image, masks[:, :, None], others[:, :, None]], dim=2)


class FeatureFusion(nn.Module):
    """Feature reuse (sections 3.1 and F.2): value features and the key encoder's f16 -> memory values.

    Without `attention`, the second block directly follows the first (footnote 3).
    """

    def __init__(self, value_channels: int, key_channels: int, out_channels: int, *, attention: bool = True) -> None:
        super().__init__()
        self.block1 = ResBlock(value_channels + key_channels, out_channels)
        self.attention = CBAM(out_channels) if attention else None
        self.block2 = ResBlock(out_channels, out_channels)

    def forward(self, value_f16: Tensor, key_f16: Tensor, present: Present | None = None) -> Tensor:
        """(P, C, h, w) of the objects and (B, C16, h, w) of the frames -> (P, Cv, h, w)."""
        x = self.block1(value_f16, key_f16, present)
        return self.block2(x if self.attention is None else x + self.attention(x))


class CBAM(nn.Module):
    """Convolutional block attention module: gates channels, then positions.  Keeps the shape (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 16
        self.channel_mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial_conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        channel_gate = self.channel_mlp(x.mean(dim=(2, 3))) + self.channel_mlp(x.amax(dim=(2, 3)))  # (B, C)
        x = x * torch.sigmoid(channel_gate)[:, :, None, None]
        pooled = torch.stack([x.amax(dim=1), x.mean(dim=1)], dim=1)  # (B, 2, H, W)
        return x * torch.sigmoid(self.spatial_conv(pooled))


class Decoder(nn.Module):
    """Each object's readout and the frame's features -> a logit for each pixel (section 3.2)."""

    def __init__(self, value_dim: int, f8_channels: int, f4_channels: int, *, skip_blocks: bool = False) -> None:
        super().__init__()
        self.at_once: int | None = None  # number of objects decoded together; `None` for all
        self.compress = ResBlock(2 * value_dim, value_dim)
        self.up_16_8 = UpsampleBlock(f8_channels, value_dim, value_dim // 2, skip_block=skip_blocks)
        self.up_8_4 = UpsampleBlock(f4_channels, value_dim // 2, value_dim // 2, skip_block=skip_blocks)
        self.prediction = nn.Conv2d(value_dim // 2, 1, 3, padding=1)

    def forward(self, readout: Tensor, features: KeyFeatures, present: Present | None = None) -> Tensor:
        """(B, N, Cv, h, w) and the query frame's features -> logits (B, N, H, W), float32, zero where not `present`."""
        f8, f4 = self.up_16_8.skip_conv(features.f8), self.up_8_4.skip_conv(features.f4)
        if present is not None:
            x = self.compress(present.gather(readout), features.f16_compressed, present)  # (P, Cv, h, w)
            return present.scatter(self._upsample(x, f8, f4, present), len(readout))
        x = self.compress(readout.flatten(0, 1), features.f16_compressed)  # (B N, Cv, h, w)
        parts = x.split(self.at_once) if self.at_once and len(readout) == 1 else (x,)
        logits = [self._upsample(some, f8, f4) for some in parts]
        return (torch.cat(logits) if len(logits) > 1 else logits[0]).unflatten(0, readout.shape[:2])

    def _upsample(self, x: Tensor, f8: Tensor, f4: Tensor, present: Present | None = None) -> Tensor:
        """(P, Cv, h, w) and the skip connections -> (P, H, W)."""
        x = self.up_8_4(self.up_16_8(x, f8, present), f4, present)
        logits = self.prediction(F.relu(x))  # (B N, 1, H/4, W/4)
        return upsample(logits.float(), 4)[:, 0]


class UpsampleBlock(nn.Module):
    """One decoder step: doubles the resolution and adds a skip connection from the key encoder."""

    def __init__(self, skip_channels: int, in_channels: int, out_channels: int, *, skip_block: bool = False) -> None:
        super().__init__()
        self.skip_conv: nn.Module = nn.Conv2d(skip_channels, in_channels, 3, padding=1)
        if skip_block:
            self.skip_conv = nn.Sequential(self.skip_conv, ResBlock(in_channels, in_channels))
        self.block = ResBlock(in_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor, present: Present | None = None) -> Tensor:
        """(P, C, h, w) and `skip_conv` of the frames' features (B, C, 2h, 2w) -> (P, Cout, 2h, 2w)."""
        return self.block(add_to_each(upsample(x, 2), skip, present))


class ResBlock(nn.Module):
    """Residual block of two 3x3 convolutions, each after a ReLU, without batch norm (section F.2).

    The shortcut is a 3x3 convolution if the width changes, else the identity.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.shortcut = PartialConv(in_channels, out_channels) if in_channels != out_channels else nn.Identity()
        self.conv1 = PartialConv(in_channels, out_channels)
        self.conv2 = PartialConv(out_channels, out_channels)

    def forward(self, x: Tensor, shared: Tensor | None = None, present: Present | None = None) -> Tensor:
        """(P, Cin, H, W) -> (P, Cout, H, W); `shared` (B, C, H, W) are input channels common to a frame's objects."""
        if shared is None:
            hidden, shortcut = self.conv1(F.relu(x)), self.shortcut(x)
        else:
            hidden = conv_beside_shared(self.conv1, F.relu(x), F.relu(shared), present)
            if isinstance(self.shortcut, nn.Identity):  # the concatenation itself
                before, behind = F.pad(x, (0, 0, 0, 0, 0, shared.shape[1])), F.pad(shared, (0, 0, 0, 0, x.shape[1], 0))
                shortcut = add_to_each(before, behind, present)
            else:
                shortcut = conv_beside_shared(self.shortcut, x, shared, present)
        return shortcut + self.conv2(F.relu(hidden))


def key_projection(in_channels: int, key_dim: int) -> nn.Conv2d:
    """From features to keys (section 3.1)."""
    conv = nn.Conv2d(in_channels, key_dim, 3, padding=1)
    initialise(conv.weight, nn.init.orthogonal_)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (section E names it and gives no numbers), added to its input (B, C, H, W).

    Five branches of C / 4 channels: a 1x1 convolution, three 3x3 convolutions of dilation 2, 4 and 8, and the mean over
    all positions.  DeepLab's dilations at stride 16, 6, 12 and 18, would mostly see padding in the 24 rows of a training
    sample.  No batch norm, since it is frozen here and has no ImageNet statistics.  The last convolution is 0 at first, so
    that training starts from the backbone's own features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // 4
        self.point = nn.Conv2d(channels, width, 1)
        self.dilated = nn.ModuleList(nn.Conv2d(channels, width, 3, padding=d, dilation=d) for d in (2, 4, 8))
        self.mean = nn.Conv2d(channels, width, 1)
        self.out = nn.Conv2d(5 * width, channels, 1)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        branches = [self.point(x), *(conv(x) for conv in self.dilated), mean]
        return x + self.out(F.relu(torch.cat(branches, dim=1)))


def upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear: (B, C, H, W) -> (B, C, factor H, factor W) of the same dtype, where autocast would give float32."""
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class FrozenStatistics(nn.Module):
    """A network whose batch norms keep their statistics in training (section F.1); their weights and biases still learn."""

    def train(self: Network, mode: bool = True) -> Network:
        nn.Module.train(self, mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
