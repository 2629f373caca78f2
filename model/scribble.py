"""A small network that turns clicks, a box or scribbles on one object into its mask.

Not part of the paper: it takes the place of the scribble-to-mask network in the interactive evaluation (Table 6), which is a
network of its own too.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.checkpoint import filled, read
from model.modules import ASPP, FrozenStatistics, UpsampleBlock, upsample
from model.network import VERSION
from model.resnet import ResNetStages
from util.errors import InputError, shorten

FORMAT = "stcn scribbles"
HINTS = 3  # channels: the mask to correct, scribbles on the object, scribbles off it


class ScribbleNetwork(FrozenStatistics):
    """Image and hints -> a logit for each pixel: a ResNet-18 with ASPP, and the decoder steps of STCN.

    `pretrained` is that of `ResNetStages`.
    """

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__()
        self.stages = ResNetStages("resnet18", in_channels=3 + HINTS, pretrained=pretrained)
        f4, f8, f16 = self.stages.channels
        self.context = ASPP(f16)
        self.up_16_8 = UpsampleBlock(f8, f16, f8)
        self.up_8_4 = UpsampleBlock(f4, f8, f4)
        self.prediction = nn.Conv2d(f4, 1, 3, padding=1)

    def forward(self, images: Tensor, hints: Tensor) -> Tensor:
        """(B, 3, H, W) normalised and (B, 3, H, W) in [0, 1], H and W multiples of 16 -> logits (B, H, W), float32."""
        f4, f8, f16 = self.stages(torch.cat([images, hints], dim=1))
        x = self.up_16_8(self.context(f16), self.up_16_8.skip_conv(f8))
        x = self.up_8_4(x, self.up_8_4.skip_conv(f4))
        return upsample(self.prediction(F.relu(x)).float(), 4)[:, 0]

    def content(self) -> dict[str, Any]:
        """What a checkpoint says of the network."""
        return {"format": FORMAT, "version": VERSION, "network": self.state_dict()}


def load_scribble_network(path: str | Path, device: str | torch.device = "cpu") -> ScribbleNetwork:
    """The network in a checkpoint, float32, in evaluation mode.  Raises `InputError` if the file holds anything else."""
    return scribble_network_from(read(path), path).to(device)


def scribble_network_from(content: dict, path: str | Path) -> ScribbleNetwork:
    """`load_scribble_network` for what is read already; `path` is for messages."""
    kind = content.get("format"), content.get("version")
    found = " version ".join(map(shorten, kind))
    if kind != (FORMAT, VERSION) or not isinstance(content.get("network"), dict):
        raise InputError(f"{path}: expected a scribble network, version {VERSION}, found format {found}")
    return filled(ScribbleNetwork, content["network"], path)
