"""What saves time in the modules that see several objects of a frame: what they share is computed once, and empty slots of a
batch not at all.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.device import upload


class Present(NamedTuple):
    """Which of the B x N object slots of a batch hold an object: P of them, the only ones that training computes.

    A module that is given none takes all slots to hold an object, so that P is B N.
    """

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

    (P, C1, H, W) and (B, C2, H, W) -> (P, Cout, H, W): a convolution of a concatenation is a sum of convolutions.
    """
    own_channels, shared_channels = slice(x.shape[1]), slice(x.shape[1], None)
    return add_to_each(conv.part(x, own_channels, None), conv.part(shared, shared_channels, conv.bias), present)


def add_to_each(x: Tensor, shared: Tensor, present: Present | None) -> Tensor:
    """Add (B, C, H, W) to the features of each of the P objects in the B frames, (P, C, H, W), in place."""
    if present is not None:
        return x.add_(shared.index_select(0, present.sample))
    # not by way of a sum of five axes, which would not be channels last, so that upsampling would copy it
    x.unflatten(0, (len(shared), -1)).add_(shared[:, None])
    return x
