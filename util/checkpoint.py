"""Checkpoint files as dictionaries: reading, finding, and the names that released STCN files use.

Ours is a dictionary with `format`, `version`, `config` (the fields of `NetworkConfig`) and `network` (the tensors by our
names).  The paper's release has a plain dictionary of tensors under its own names, or, while training, a dictionary that
holds such a one under `network`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from util import files
from util.errors import InputError

FORMAT = "stcn"
VERSION = 1

StateDict = dict[str, Tensor]

# (start of the released name, start of ours); the first that fits counts, a name that fits none is the same in both.
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
_NAME = re.compile(r"checkpoint_[0-9]{7,}\.pth")  # others are a user's own, and stay
_UNFINISHED = re.compile(rf"\.{_NAME.pattern}\.[0-9a-f]{{8}}")
_VALUE_STEM = "value_encoder.stages.conv1.weight"


def read(path: str | Path) -> dict[str, Any]:
    """The dictionary in a file written by `torch.save`, tensors on the CPU; no code in the file is run.

    Raises `InputError` naming the file when it is absent, damaged, or holds anything but a dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage happens to trip over
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: expected a checkpoint written by torch.save, cannot read it ({first_line})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return {str(key): value for key, value in content.items()}


def checkpoints_in(folder: str | Path) -> list[Path]:
    """The training checkpoints of a run, the newest first."""
    return sorted((path for path in Path(folder).glob("checkpoint_*.pth") if _NAME.fullmatch(path.name)), reverse=True)


def checkpoint_path(folder: str | Path, iteration: int) -> Path:
    return Path(folder) / f"checkpoint_{iteration:07d}.pth"


def newest_readable(
    folder: str | Path, warn: Callable[[str], None] = lambda text: None, fits: Callable[[dict], bool] = lambda content: True
) -> Path | None:
    """The newest training checkpoint of a run that can be read and `fits`; those that cannot be read are told to `warn`."""
    for path in checkpoints_in(folder):
        try:
            if fits(read(path)):
                return path
        except InputError as error:
            warn(f"{error}; going back to the one before")
    return None


def set_aside_newer(folder: str | Path, iteration: int) -> None:
    """Rename the checkpoints of a run behind an iteration that it goes on from, and remove what a crash left half-written."""
    for path in checkpoints_in(folder):
        if path > checkpoint_path(folder, iteration):
            path.replace(path.with_suffix(".set_aside"))
    files.remove_files(path for path in Path(folder).glob(".checkpoint_*") if _UNFINISHED.fullmatch(path.name))


def digest(path: str | Path) -> str:
    """The SHA-256 of a checkpoint file, in hexadecimal; raises `InputError` when there is no such file."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint")
    return files.digest([path])


def is_released(state: dict[str, Any]) -> bool:
    """Whether these names are those of the paper's release."""
    return any(name.startswith(("key_proj.", "value_encoder.fuser.")) for name in state)


def from_released(state: StateDict) -> StateDict:
    """Tensors under released names -> the same network under ours.

    Biases in the value ResNet are folded into the running mean of the batch norm behind them, which is exact:
    (x + b) - m = x - (m - b).  A stem of 4 channels (stage 0: image and mask) gets a filter of zeros for the other
    objects, of which stage 0 has none.
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
    """Adam's state in a released training checkpoint, by our names of the parameters.

    Optimisers number parameters in the order of the network's tensors, buffers left out.  The state of biases that are
    folded is dropped.
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
