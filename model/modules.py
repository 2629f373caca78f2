"""The parts of STCN that have weights: section 3.1 (encoders, feature reuse), section 3.2 (decoder), section F.2 (fusion)."""

from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.resnet import ResNetStages, initialise
from util.device import upload

Network = TypeVar("Network", bound=nn.Module)


class FrozenBatchNorm(nn.Module):
    """A network whose batch norms stay in evaluation mode during training (section F.1)."""

    def train(self: Network, mode: bool = True) -> Network:
        nn.Module.train(self, mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


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


class Present(NamedTuple):
    """Which of the B x N object slots of a batch hold an object: P of them, the only ones that training computes."""

    index: Tensor  # (P,) into the B N slots, ascending
    sample: Tensor  # (P,) the sample that each belongs to
    slots: int  # N

    @classmethod
    def of(cls, valid: Tensor, device: torch.device) -> "Present":
        """From (B, N) bool; no wait for the GPU if that is on the CPU."""
        index = valid.flatten().nonzero()[:, 0]
        return cls(upload(index, device), upload(index // valid.shape[1], device), valid.shape[1])

    def gather(self, x: Tensor) -> Tensor:
        """(B, N, ...) -> (P, ...)."""
        return x.flatten(0, 1).index_select(0, self.index)

    def scatter(self, x: Tensor, batch: int) -> Tensor:
        """(P, ...) -> (B, N, ...), zero in empty slots."""
        return x.new_zeros(batch * self.slots, *x.shape[1:]).index_copy(0, self.index, x).unflatten(0, (batch, -1))


class PartialConv(nn.Conv2d):
    """A 3x3 convolution with stride 1 that can also be applied to a part of its input channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def part(self, x: Tensor, channels: slice, bias: Tensor | None) -> Tensor:
        """(B, C, H, W), the kernels' input channels that it stands for, and an optional bias -> (B, Cout, H, W)."""
        return F.conv2d(x, self.weight[:, channels], bias, padding=1)


def conv_beside_shared(conv: PartialConv, x: Tensor, shared: Tensor, present: Present | None) -> Tensor:
    """Apply `conv` to each object's features concatenated with the frame's, computing the frame's part only once.

    (B N, C1, H, W) and (B, C2, H, W) -> (B N, Cout, H, W): a convolution of a concatenation is a sum of convolutions.
    """
    own_channels, shared_channels = slice(x.shape[1]), slice(x.shape[1], None)
    return add_to_each(conv.part(x, own_channels, None), conv.part(shared, shared_channels, conv.bias), present)


def add_to_each(x: Tensor, shared: Tensor, present: Present | None) -> Tensor:
    """Add (B, C, H, W) to the features of each of a frame's objects, (B N, C, H, W) or (P, C, H, W), in place."""
    if present is not None:
        return x.add_(shared.index_select(0, present.sample))
    # not by way of a sum of five axes, which would not be channels last, so that upsampling would copy it
    x.unflatten(0, (len(shared), -1)).add_(shared[:, None])
    return x


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
        """(B N, Cin, H, W) -> (B N, Cout, H, W); `shared` (B, C, H, W) are input channels common to all N objects.

        With `present`, only P objects instead of B N, here and below.
        """
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
        """(B N, C, h, w) and the frames' (B, C16, h, w) -> (B N, Cv, h, w)."""
        x = self.block1(value_f16, key_f16, present)
        return self.block2(x if self.attention is None else x + self.attention(x))


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


def with_others(image: Tensor, masks: Tensor, total: Tensor) -> Tensor:
    """Each object's image, mask and sum of the other masks: (B, 3, H, W), (B, N, H, W) and the sum of all masks
    (B, 1, H, W) -> (B, N, 5, H, W).
    """
    others = total - masks
    image = image[:, None].expand(-1, masks.shape[1], -1, -1, -1)
    return torch.cat([image, masks[:, :, None], others[:, :, None]], dim=2)


class ValueEncoder(nn.Module):
    """Image, an object's mask and the sum of the other objects' masks -> the object's memory value (section 3.1)."""

    def __init__(
        self, backbone: str, key_channels: int, value_dim: int, *, attention: bool = True, pretrained: bool = False
    ) -> None:
        super().__init__()
        self.at_once: int | None = None  # number of objects encoded together; `None` for all
        self.stages = ResNetStages(backbone, in_channels=5, pretrained=pretrained)
        self.fusion = FeatureFusion(self.stages.channels[2], key_channels, value_dim, attention=attention)

    @property
    def others_filter(self) -> Tensor:
        """The stem's filters for the other objects' masks, (64, 1, 7, 7), as a view."""
        return self.stages.conv1.weight[:, 4:]

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


def upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear: (B, C, H, W) -> (B, C, factor H, factor W) of the same dtype, where autocast would give float32."""
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class UpsampleBlock(nn.Module):
    """One decoder step: doubles the resolution and adds a skip connection from the key encoder."""

    def __init__(self, skip_channels: int, in_channels: int, out_channels: int, *, skip_block: bool = False) -> None:
        super().__init__()
        self.skip_conv: nn.Module = nn.Conv2d(skip_channels, in_channels, 3, padding=1)
        if skip_block:
            self.skip_conv = nn.Sequential(self.skip_conv, ResBlock(in_channels, in_channels))
        self.block = ResBlock(in_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor, present: Present | None = None) -> Tensor:
        """(B N, C, h, w) and `skip_conv` of the frame's features (B, C, 2h, 2w) -> (B N, Cout, 2h, 2w)."""
        return self.block(add_to_each(upsample(x, 2), skip, present))


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
        """(B N, Cv, h, w) and the skip connections -> (B N, H, W)."""
        x = self.up_8_4(self.up_16_8(x, f8, present), f4, present)
        logits = self.prediction(F.relu(x))  # (B N, 1, H/4, W/4)
        return upsample(logits.float(), 4)[:, 0]
