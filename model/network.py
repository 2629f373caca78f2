"""STCN itself: what varies, the network, and how a checkpoint becomes one."""

import copy
import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from model.memory import SIMILARITIES, affinity, readout, similarity
from model.modules import BACKBONES, Decoder, KeyEncoder, KeyFeatures, ValueEncoder, fold_batch_norm
from model.winograd import use_winograd
from util import checkpoint
from util.errors import InputError, names_some
from util.files import write_atomically

PROBABILITY_MARGIN = 1e-7


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """What can vary in the network; it travels inside our checkpoints.  The defaults are the paper's.

    Raises `ValueError` when a field is out of range.
    """

    key_backbone: str = "resnet50"
    value_backbone: str = "resnet18"
    key_dim: int = 64  # Ck, at least 1, section 5
    value_dim: int = 512  # Cv, a multiple of 16, section 3.1; the decoder's width follows it
    similarity: str = "l2"  # or "dot", "cosine": section 4.1

    def __post_init__(self) -> None:
        for field, choices in (
            ("key_backbone", BACKBONES),
            ("value_backbone", BACKBONES),
            ("similarity", SIMILARITIES),
        ):
            if getattr(self, field) not in choices:
                raise ValueError(f"{field}: expected one of {', '.join(choices)}, found {getattr(self, field)!r}")
        if not (isinstance(self.key_dim, int) and self.key_dim >= 1):
            raise ValueError(f"key_dim: expected at least 1, found {self.key_dim}")
        if not (isinstance(self.value_dim, int) and self.value_dim >= 16 and self.value_dim % 16 == 0):
            raise ValueError(f"value_dim: expected a multiple of 16, found {self.value_dim}")


def soft_aggregate(probabilities: Tensor, dim: int = 1) -> Tensor:
    """Combine the objects' probabilities in [0, 1], each found on its own, into logits over background and objects.

    Objects lie along `dim`; the result has one entry more there, the background first, whose probability is that of no
    object.  A softmax along `dim` gives probabilities that sum to 1.  float32 whatever comes in.
    """
    # float32, since 1 - 1e-7 is 1 in half precision
    probabilities = probabilities.float()
    # not `prod`, whose gradient makes the CPU wait for the GPU
    background = functools.reduce(torch.mul, (1 - probabilities).split(1, dim=dim))
    probabilities = torch.cat([background, probabilities], dim=dim)
    return torch.logit(probabilities, eps=PROBABILITY_MARGIN)


class STCN(nn.Module):
    """The space-time correspondence network (section 3).

    Without `pretrained` the ResNets start from random weights; with it from ImageNet, raising `InputError` when the
    weights cannot be had.  Batch norm stays in evaluation mode in training too (section F.1).
    """

    def __init__(self, config: NetworkConfig | None = None, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig()
        self.is_folded = False
        self.key_encoder = KeyEncoder(config.key_backbone, config.key_dim, config.value_dim, pretrained=pretrained)
        f4_channels, f8_channels, f16_channels = self.key_encoder.stages.channels
        self.value_encoder = ValueEncoder(config.value_backbone, f16_channels, config.value_dim, pretrained=pretrained)
        self.decoder = Decoder(config.value_dim, f8_channels, f4_channels)

    def train(self, mode: bool = True) -> "STCN":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, frames: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        """The unroll of training: every frame is segmented from all frames before it (section 5).

        frames: (B, T, 3, H, W) normalised, H and W multiples of 16
        masks:  (B, N, H, W) of the first frame, float 0 or 1
        valid:  (B, N) bool, false for slots without an object, whose probability is 0

        Returns the aggregated logits (B, T-1, N+1, H, W) of the frames behind the first, float32.  A frame's soft
        prediction, not its label, is the memory of the frames after it, and gradients flow through it.
        """
        batch, length = frames.shape[:2]
        features = self.encode_key(frames.flatten(0, 1)).unflatten(batch)
        query_keys = features.key.flatten(3).mT  # (B, T, hw, Ck)
        present = valid[:, :, None, None]
        all_logits, values = [], []
        for t in range(1, length):
            values.append(self.encode_value(frames[:, t - 1], masks * present, features.frame(t - 1)))  # (B, N, Cv, h, w)
            memory_values = torch.stack(values, dim=1).flatten(4).permute(0, 1, 4, 2, 3).flatten(1, 2)  # (B, M, N, Cv)
            similarities = similarity(query_keys[:, :t].flatten(1, 2), query_keys[:, t], self.config.similarity)
            read = readout(affinity(similarities), memory_values)  # (B, Q, N, Cv)
            read = read.permute(0, 2, 3, 1).unflatten(3, features.key.shape[-2:])  # (B, N, Cv, h, w)
            logits = soft_aggregate(torch.sigmoid(self.decode(read, features.frame(t)).float()) * present)
            masks = torch.softmax(logits, dim=1)[:, 1:]
            all_logits.append(logits)
        return torch.stack(all_logits, dim=1)

    def for_inference(self, *, winograd: bool = True) -> "STCN":
        """A copy without gradients that computes the same faster: batch norm folded into the convolutions, the key encoder
        channels last and, on the CPU, the decoder's convolutions by Winograd's algorithm (docs/performance.md).

        It is for segmenting; it can be neither trained nor saved.  Half precision, which that algorithm does not stand, and
        `torch.compile` want `winograd=False`.
        """
        network = copy.deepcopy(self).eval().requires_grad_(False)
        for encoder in (network.key_encoder, network.value_encoder):
            fold_batch_norm(encoder.stages)
        network.key_encoder.to(memory_format=torch.channels_last)
        if winograd and next(self.parameters()).device.type == "cpu":
            use_winograd(network.decoder)
        network.is_folded = True
        return network

    @torch.no_grad()
    def set_statistics(self, clips: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Set the statistics of batch norm to those of some clips, each as `forward` takes it.

        For networks that do not start from ImageNet: frozen as they are initialised, the statistics would leave the
        features unnormalised.
        """
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        momentum = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all that is seen
            norm.train()
        for clip in clips:
            self(*clip)
        for norm, value in zip(norms, momentum, strict=True):
            norm.momentum = value
            norm.eval()

    def encode_key(self, image: Tensor) -> KeyFeatures:
        """(B, 3, H, W) normalised, H and W multiples of 16 -> `KeyFeatures`."""
        return self.key_encoder(image)

    def encode_value(self, image: Tensor, masks: Tensor, features: KeyFeatures) -> Tensor:
        """(B, 3, H, W), the objects' probabilities (B, N, H, W) and the frame's features -> (B, N, Cv, h, w)."""
        return self.value_encoder(image, masks, features.f16)

    def decode(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        """Readout (B, N, Cv, h, w) and the query frame's features -> logits (B, N, H, W), before aggregation."""
        return self.decoder(readout, features)


def load_network(path: str | Path, device: str | torch.device = "cpu") -> STCN:
    """The network in a checkpoint of ours or of the paper's release, float32, in evaluation mode; nothing is downloaded.

    Raises `InputError`, one line, when the file is absent or damaged, or when its tensors are not those of the network
    that it says it holds.
    """
    return network_from(checkpoint.read(path), path).to(device)


def load_for_inference(
    path: str | Path, device: str | torch.device = "cpu", *, amp: bool = False, compiled: bool = False
) -> STCN:
    """`load_network(path).for_inference()`: the same results up to rounding, faster.

    amp:      say so when the segmenter will run with `amp=True`, which Winograd's algorithm does not stand
    compiled: its parts go through `torch.compile`

    Raises `InputError` as `load_network` does.
    """
    network = load_network(path, device).for_inference(winograd=not (amp or compiled))
    if compiled:
        for part in (network.key_encoder, network.value_encoder, network.decoder):
            part.compile()
    return network


def network_from(content: dict, path: str | Path) -> STCN:
    """`load_network` for what is read already; `path` is for messages."""
    config, state = NetworkConfig(), content.get("network", content)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(f"{path}: expected an STCN network, found entries {names_some({str(key) for key in content})}")
    if "config" in content:
        config = _config(path, content)
    elif checkpoint.is_released(state):
        state = checkpoint.from_released(state)
    with torch.device("meta"):  # neither memory nor time for weights that are replaced at once
        network = STCN(config)
    _check_tensors(path, expected=network.state_dict(), found=state)
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(True).eval()


def save_network(network: STCN, path: str | Path) -> None:
    """Write a checkpoint that holds the network and its configuration, atomically.

    Raises `ValueError` for a network that `for_inference` made, `InputError` when the path cannot be written.
    """
    content = network_content(network)
    write_atomically(path, lambda file: torch.save(content, file))


def network_content(network: STCN) -> dict:
    """What a checkpoint of ours says of a network; training adds the rest."""
    if network.is_folded:
        raise ValueError("a network made by for_inference() cannot be saved; save the one that it was made from")
    return {
        "format": checkpoint.FORMAT,
        "version": checkpoint.VERSION,
        "config": dataclasses.asdict(network.config),
        "network": network.state_dict(),
    }


def _config(path: str | Path, content: dict) -> NetworkConfig:
    if content.get("format") != checkpoint.FORMAT or content.get("version") != checkpoint.VERSION:
        raise InputError(
            f"{path}: expected format {checkpoint.FORMAT} version {checkpoint.VERSION}, "
            f"found {content.get('format')} version {content.get('version')}"
        )
    try:
        return NetworkConfig(**content["config"])
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: not a configuration that this code knows: {error}") from error


def _check_tensors(path: str | Path, *, expected: dict[str, Tensor], found: dict) -> None:
    differences = []
    if missing := expected.keys() - found.keys():
        differences.append(f"missing {names_some(missing)}")
    if unexpected := found.keys() - expected.keys():
        differences.append(f"unexpected {names_some(unexpected)}")
    shapes = {
        f"{name} {tuple(found[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    }
    if shapes:
        differences.append(f"shapes {names_some(shapes)}")
    if differences:
        raise InputError(f"{path}: not this STCN network: {'; '.join(differences)}")
