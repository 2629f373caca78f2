"""The paper's release: where its networks are, and the translation of its tensor names to ours and back.

The release stores a plain dictionary of tensors; its training checkpoints hold one under `network`.
"""

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

StateDict = dict[str, Tensor]


class Released(NamedTuple):
    """A network that the authors have published, without size or checksum."""

    address: str
    trained_on: str


PAGE = "https://github.com/hkchengrex/STCN"  # which names these addresses
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
RELEASED = {
    "stcn": Released(f"{_DRIVE}1mRrE0uCI2ktdWlUgapJI_KmgeIiF2eOm", "static images, BL30K, YouTube-VOS, DAVIS"),
    "stcn_s03": Released(f"{_DRIVE}1JllXPJZola0G-g1aUQfXe9nLMBioj-aH", "static images, YouTube-VOS, DAVIS"),
    "stcn_s0": Released(f"{PAGE}/releases/download/1.0/stcn_s0.pth", "static images (stage 0)"),
    "stcn_s01": Released(f"{PAGE}/releases/download/1.0/stcn_s01.pth", "static images, BL30K (stages 0 and 1)"),
}

# (start of the released name, start of ours); the first match counts, and a name without a match is the same in both
_RENAMED = [
    ("key_encoder.res2.", "key_encoder.stages.res2."),
    ("key_encoder.layer2.", "key_encoder.stages.res3."),
    ("key_encoder.layer3.", "key_encoder.stages.res4."),
    ("key_encoder.conv1.", "key_encoder.stages.conv1."),
    ("key_encoder.bn1.", "key_encoder.stages.bn1."),
    ("key_proj.key_proj.", "key_encoder.projection."),
    ("key_comp.", "key_encoder.compression."),
    ("value_encoder.layer1.", "value_encoder.stages.res2."),
    ("value_encoder.layer2.", "value_encoder.stages.res3."),
    ("value_encoder.layer3.", "value_encoder.stages.res4."),
    ("value_encoder.conv1.", "value_encoder.stages.conv1."),
    ("value_encoder.bn1.", "value_encoder.stages.bn1."),
    ("value_encoder.fuser.block1.downsample.", "value_encoder.fusion.block1.shortcut."),
    ("value_encoder.fuser.attention.ChannelGate.mlp.1.", "value_encoder.fusion.attention.channel_mlp.0."),
    ("value_encoder.fuser.attention.ChannelGate.mlp.3.", "value_encoder.fusion.attention.channel_mlp.2."),
    ("value_encoder.fuser.attention.SpatialGate.spatial.conv.", "value_encoder.fusion.attention.spatial_conv."),
    ("value_encoder.fuser.", "value_encoder.fusion."),
    ("decoder.compress.downsample.", "decoder.compress.shortcut."),
    ("decoder.up_16_8.out_conv.downsample.", "decoder.up_16_8.block.shortcut."),
    ("decoder.up_16_8.out_conv.", "decoder.up_16_8.block."),
    ("decoder.up_8_4.out_conv.", "decoder.up_8_4.block."),
    ("decoder.pred.", "decoder.prediction."),
]
_VALUE_STEM = "value_encoder.stages.conv1.weight"


def is_released(state: dict[str, Any]) -> bool:
    """Whether the names are those of the paper's release."""
    return any(name.startswith(("key_proj.", "value_encoder.fuser.")) for name in state)


def from_released(state: StateDict) -> StateDict:
    """Tensors under released names -> the same network under ours.

    Biases in the value ResNet are folded into the running mean of the following batch norm, which is exact:
    (x + b) - m = x - (m - b).  A stem with 4 channels (stage 0: image and mask) gets a filter of zeros for the mask of other
    objects, which stage 0 does not have.
    """
    ours = {_rename(name, 0, 1): tensor for name, tensor in state.items()}
    for name in [name for name in ours if name.startswith("value_encoder.stages.") and _is_conv_bias(name)]:
        bias, mean = ours.pop(name), _mean_behind(name)
        if mean in ours:
            ours[mean] = ours[mean] - bias
    stem = ours.get(_VALUE_STEM)
    if stem is not None and stem.dim() == 4 and stem.shape[1] == 4:
        ours[_VALUE_STEM] = torch.cat([stem, torch.zeros_like(stem[:, :1])], dim=1)
    return ours


def optimizer_from_released(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Adam's state in a released training checkpoint, keyed by our parameter names.

    Optimisers number parameters in the order of the network's tensors, without buffers.  The state of folded biases is
    dropped.
    """
    released = [
        name for name in content["network"] if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    state = content["optimizer"].get("state", {})
    by_name: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(released):
        for entry, value in state.get(number, {}).items():
            by_name.setdefault(entry, {})[name] = value
    result: dict[str, dict[str, Any]] = {}
    for entry, values in by_name.items():
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor) and value.dim()}
        scalars = {_rename(name, 0, 1): value for name, value in values.items() if name not in tensors}
        for name, value in (from_released(tensors) | scalars).items():
            if not (name.startswith("value_encoder.stages.") and _is_conv_bias(name)):
                result.setdefault(name, {})[entry] = value
    return result


def to_released(state: StateDict) -> StateDict:
    """Tensors under our names -> the same network as the release stores it, with zeros for the folded biases."""
    released = {}
    for name, tensor in state.items():
        released[_rename(name, 1, 0)] = tensor
        bias = name.removesuffix("weight") + "bias"
        if name.startswith("value_encoder.stages.") and _is_conv_bias(bias):
            released[_rename(bias, 1, 0)] = torch.zeros_like(tensor[:, 0, 0, 0])
    return released


def _rename(name: str, old: int, new: int) -> str:
    for pair in _RENAMED:
        if name.startswith(pair[old]):
            return pair[new] + name.removeprefix(pair[old])
    return name


def _is_conv_bias(name: str) -> bool:
    return re.search(r"\.(conv\d|downsample\.0)\.bias$", name) is not None


def _mean_behind(bias: str) -> str:
    mean = re.sub(r"\.conv(\d)\.bias$", r".bn\1.running_mean", bias)
    return mean.replace(".downsample.0.bias", ".downsample.1.running_mean")
