"""Images as tensors: normalising, padding to the network's stride, resizing, one-hot masks."""

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STRIDE = 16  # of f16; frames are padded to multiples of it

Padding = tuple[int, int, int, int]  # left, right, top, bottom


def normalise(image: Tensor) -> Tensor:
    """uint8 RGB (..., H, W, 3) -> float32 (..., 3, H, W), normalised by ImageNet's mean and standard deviation."""
    result = image.movedim(-1, -3).contiguous().float().div_(255)
    # per channel: copying a tensor of three numbers to the GPU would make it wait
    for channel, mean, std in zip(result.unbind(-3), IMAGENET_MEAN, IMAGENET_STD, strict=True):
        channel.sub_(mean).div_(std)
    return result


def padding_to_stride(height: int, width: int) -> Padding:
    """The padding that makes height and width multiples of 16, with the smaller half on the left and at the top."""
    x, y = -width % STRIDE, -height % STRIDE
    return x // 2, x - x // 2, y // 2, y - y // 2


def unpad(x: Tensor, padding: Padding) -> Tensor:
    """Undo `F.pad(x, padding)` on the last two axes."""
    left, right, top, bottom = padding
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def shorter_side_size(height: int, width: int, size: int | None) -> tuple[int, int]:
    """Height and width with the shorter side scaled to `size` and the longer rounded down; unchanged for `None`.

    Frames with an aspect ratio above 4 are enlarged only until the longer side is 4 `size`.
    """
    if size is None:
        return height, width
    shorter, longer = sorted((height, width))
    if size > shorter and longer > 4 * shorter:
        size = max(shorter, 4 * size * shorter // longer)
    return height * size // shorter, width * size // shorter


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) float -> (3, *size), bicubic, not clamped.

    There is no antialiasing, as in the released code, unless the image shrinks to less than a third.
    """
    if image.shape[-2:] == size:
        return image
    antialias = 3 * size[0] < image.shape[-2] or 3 * size[1] < image.shape[-1]
    return F.interpolate(image[None], size, mode="bicubic", align_corners=False, antialias=antialias)[0]


def resize_probabilities(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """(N+1, H, W) -> (N+1, *size), bilinear."""
    if probabilities.shape[-2:] == size:
        return probabilities
    return F.interpolate(probabilities[None], size, mode="bilinear", align_corners=False)[0]


def one_hot(labels: Tensor, ids: list[int]) -> Tensor:
    """Label map (H, W) -> float32 (len(ids), H, W) of 0 and 1."""
    return (labels == torch.tensor(ids, device=labels.device)[:, None, None]).float()
