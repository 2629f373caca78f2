"""STCN itself: what can vary, and the network.  `model.stm` is the STM that the paper compares it with."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from model import fast
from model.memory import MemoryBank
from model.modules import Decoder, FrozenStatistics, KeyEncoder, KeyFeatures, ValueEncoder
from model.objects import Present
from model.resnet import BACKBONES
from model.similarity import SIMILARITIES, affinity, readout, similarity
from util.device import upload
from util.errors import shorten

FORMAT, VERSION = "stcn", 1  # of checkpoints
CHOICES = {
    "arch": ("stcn", "stm"),
    "key_backbone": tuple(BACKBONES),
    "value_backbone": tuple(BACKBONES),
    "similarity": SIMILARITIES,
}  # of fields of `NetworkConfig`
PROBABILITY_MARGIN = 1e-7
WIDEST = 8192  # channels; the paper has up to 512


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The options of the network, stored in our checkpoints.  The defaults are the paper's.

    Raises `ValueError` if a field is out of range.
    """

    key_backbone: str = "resnet50"
    value_backbone: str = "resnet18"
    key_dim: int = 64  # Ck, at least 1, section 5
    value_dim: int = 512  # Cv, a multiple of 16, section 3.1; the decoder's width follows it
    similarity: str = "l2"  # or "dot", "cosine", "cosine_scaled": section 4.1
    attention: bool = True  # CBAM in the feature fusion of STCN, which footnote 3 calls non-essential
    arch: str = "stcn"  # or "stm", of which `value_backbone` is the memory encoder's
    aspp: bool = False  # behind the key encoder's backbone: section E, with "wide_resnet50_2"
    skip_blocks: bool = False  # a residual block on each skip connection of the decoder, as STM has them

    def __str__(self) -> str:
        """For people, on one line."""
        plain = "" if self.attention else ", without attention"
        more = "".join(f", with {name}" for name in ("aspp", "skip_blocks") if getattr(self, name))
        backbones = f"{self.arch.upper()} of {self.key_backbone} and {self.value_backbone}"
        return f"{backbones}, {self.key_dim} key and {self.value_dim} value channels, {self.similarity}{plain}{more}"

    @classmethod
    def of(cls, **fields: Any) -> "NetworkConfig":
        """Fill in the defaults for the given `arch`: STM has a ResNet-50 in its memory encoder, and `skip_blocks`."""
        paper: dict[str, Any] = {"value_backbone": "resnet50", "skip_blocks": True} if fields.get("arch") == "stm" else {}
        return cls(**(paper | fields))

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if type(value := getattr(self, field.name)) is not (kind := type(field.default)):
                raise ValueError(f"{field.name}: expected {kind.__name__}, found {shorten(value)}")
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise ValueError(f"{field}: expected one of {', '.join(choices)}, found {shorten(getattr(self, field))!r}")
        if self.key_dim < 1:
            raise ValueError(f"key_dim: expected at least 1, found {self.key_dim}")
        if self.value_dim < 16 or self.value_dim % 16:
            raise ValueError(f"value_dim: expected a multiple of 16, found {self.value_dim}")
        for field in ("key_dim", "value_dim"):
            if getattr(self, field) > WIDEST:
                raise ValueError(f"{field}: expected at most {WIDEST}, found {getattr(self, field)}")


def soft_aggregate(probabilities: Tensor) -> Tensor:
    """Combine the objects' independent probabilities in [0, 1] into logits over background and objects.

    (B, N, ...) -> (B, N+1, ...) float32: first the background, the probability that no object is present.  Their softmax is
    of probabilities that sum to 1.
    """
    # float32, since 1 - 1e-7 is 1 in half precision
    probabilities = probabilities.float()
    # not `prod`: its gradient makes the CPU wait for the GPU
    background = functools.reduce(torch.mul, (1 - probabilities).split(1, dim=1))
    probabilities = torch.cat([background, probabilities], dim=1)
    return torch.logit(probabilities, eps=PROBABILITY_MARGIN)


def aggregate(probabilities: Tensor) -> Tensor:
    """The softmax of `soft_aggregate` in fewer steps, for inference: (N, H, W) -> (N+1, H, W), which sum to 1.

    It normalises the odds p / (1 - p), because exp(logit(p)) equals them.
    """
    result = probabilities.new_empty(1 + len(probabilities), *probabilities.shape[1:], dtype=torch.float32)
    result[1:] = probabilities
    torch.prod(1 - result[1:], dim=0, out=result[0])
    result.clamp_(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
    result /= 1 - result
    return result.div_(result.sum(dim=0))


class STCN(FrozenStatistics):
    """The space-time correspondence network (section 3).

    `model.make_network` makes the network that a configuration names, this or `STM`; `ValueError` for the other's here.
    The ResNets start from random weights, or with `pretrained` from ImageNet, which raises `InputError` if the weights
    are not available.  Batch norm stays in evaluation mode during training (section F.1).
    """

    arch = "stcn"

    def __init__(self, config: NetworkConfig | None = None, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig.of(arch=self.arch)
        if config.arch != self.arch:
            raise ValueError(f"arch: expected {self.arch}, found {config.arch}")
        self.is_folded = False
        self.key_encoder = KeyEncoder(
            config.key_backbone, config.key_dim, config.value_dim, aspp=config.aspp, pretrained=pretrained
        )
        f4_channels, f8_channels, _ = self.key_encoder.stages.channels
        self.value_encoder: Any = self._make_value_encoder(pretrained)
        self.decoder = Decoder(config.value_dim, f8_channels, f4_channels, skip_blocks=config.skip_blocks)

    def _make_value_encoder(self, pretrained: bool) -> nn.Module:
        config, f16_channels = self.config, self.key_encoder.stages.channels[2]
        return ValueEncoder(
            config.value_backbone, f16_channels, config.value_dim, attention=config.attention, pretrained=pretrained
        )

    def forward(self, frames: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        """The training pass: each frame is segmented from all frames before it (section 5).

        frames: (B, T, 3, H, W) normalised, H and W multiples of 16
        masks:  (B, N, H, W) of the first frame, float 0 or 1
        valid:  (B, N) bool, false for slots without an object, which get probability 0 and are not computed; on the CPU,
                since on a GPU its values would have to be waited for

        Returns the aggregated logits (B, T-1, N+1, H, W) of all frames but the first, float32.  Later frames use a frame's
        soft prediction as memory, and gradients flow through it.
        """
        batch, length = frames.shape[:2]
        features = self.encode_key(frames.flatten(0, 1)).unflatten(batch)
        present = Present.of(valid, frames.device)
        shown = upload(valid, frames.device)[:, :, None, None]
        all_logits, keys, values = [], [], []
        for t in range(1, length):
            key, value = self.memorise(frames[:, t - 1], masks * shown, features.frame(t - 1), present)
            keys.append(key)
            values.append(value)
            read = self.read(torch.stack(keys, dim=1), torch.stack(values, dim=1), features.key[:, t])
            decoded = self.decode(read, features.frame(t), present)  # (B, N, H, W)
            logits = soft_aggregate(torch.sigmoid(decoded.float()) * shown)
            masks = torch.softmax(logits, dim=1)[:, 1:]
            all_logits.append(logits)
        return torch.stack(all_logits, dim=1)

    def read(self, keys: Tensor, values: Tensor, query: Tensor) -> Tensor:
        """Read all of the memory (equations 1 and 2): keys (B, T, Ck, h, w), values (B, T, N, Cv, h, w) and the query's
        key (B, Ck, h, w) -> (B, N, Cv, h, w).
        """
        memory_keys = keys.flatten(3).mT.flatten(1, 2)  # (B, M, Ck)
        memory_values = values.flatten(4).permute(0, 1, 4, 2, 3).flatten(1, 2)  # (B, M, N, Cv)
        affinities = affinity(similarity(memory_keys, query.flatten(2).mT, self.config.similarity))
        return readout(affinities, memory_values).permute(0, 2, 3, 1).unflatten(3, query.shape[-2:])

    def memory_bank(self, **options: Any) -> Any:
        """An empty memory for one video, which takes the results of `memorise`; options as for `MemoryBank`."""
        return MemoryBank(similarity=self.config.similarity, **options)

    def for_inference(self, *, amp: bool = False, winograd: bool | None = True, compiled: bool = False) -> "STCN":
        """A faster copy for inference only (`model.fast.for_inference`)."""
        return fast.for_inference(self, amp=amp, winograd=winograd, compiled=compiled)

    def content(self) -> dict[str, Any]:
        """What a checkpoint says of the network; training adds the rest.  `ValueError` for one that `for_inference` made."""
        if self.is_folded:
            raise ValueError("a network made by for_inference() cannot be saved; save the one that it was made from")
        config = dataclasses.asdict(self.config)
        return {"format": FORMAT, "version": VERSION, "config": config, "network": self.state_dict()}

    @torch.no_grad()
    def set_statistics(self, clips: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Set the batch norm statistics to those of some clips, each in the form of `forward`'s arguments.

        For networks that do not start from ImageNet: their initial statistics, which stay frozen, would not normalise the
        features.
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

    def memorise(
        self, image: Tensor, masks: Tensor, features: KeyFeatures, present: Present | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the memory stores of a frame: its key (B, Ck, h, w), the same as the query key, and its value.

        (B, 3, H, W), the objects' probabilities (B, N, H, W) and the frame's features -> (B, N, Cv, h, w).  Objects that are
        not `present` are not computed and get zeros, here and in `decode`; by default, all are.
        """
        return features.key, self.value_encoder(image, masks, features.f16, present)

    def decode(self, readout: Tensor, features: KeyFeatures, present: Present | None = None) -> Tensor:
        """Readout (B, N, Cv, h, w) and the query frame's features -> logits (B, N, H, W), before aggregation."""
        return self.decoder(readout, features, present)
