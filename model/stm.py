"""STM as the paper compares it with STCN: keys of both encoders and an affinity for each object (sections 3 and 6.2).

It differs from STCN in what the paper names: the memory key depends on the mask, so that matching is repeated for each
object, and no features of the query encoder are reused in the memory encoder.  As in STM itself, each skip connection of the
decoder has a residual block (`NetworkConfig.skip_blocks`); the paper does not say whether its own STM has.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from model.memory import MemoryBank
from model.modules import KeyFeatures, key_projection, with_others
from model.network import STCN, NetworkConfig
from model.objects import Present
from model.resnet import ResNetStages


class MemoryEncoder(nn.Module):
    """Image, an object's mask and the sum of the other objects' masks -> the object's memory key and value."""

    def __init__(self, backbone: str, key_dim: int, value_dim: int, *, pretrained: bool = False) -> None:
        super().__init__()
        self.stages = ResNetStages(backbone, in_channels=5, pretrained=pretrained)
        self.key_projection = key_projection(self.stages.channels[2], key_dim)
        self.value_projection = nn.Conv2d(self.stages.channels[2], value_dim, 3, padding=1)

    def forward(self, image: Tensor, masks: Tensor, present: Present | None = None) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) normalised and (B, N, H, W) in [0, 1] -> (B, N, Ck, h, w) and (B, N, Cv, h, w)."""
        objects = with_others(image, masks, masks.sum(dim=1, keepdim=True))
        f16 = self.stages(objects.flatten(0, 1) if present is None else present.gather(objects))[2]
        found = self.key_projection(f16), self.value_projection(f16)
        if present is None:
            key, value = (x.unflatten(0, masks.shape[:2]) for x in found)
        else:
            key, value = (present.scatter(x, len(masks)) for x in found)
        return key, value


class STM(STCN):
    """`key_encoder` is the query encoder and `value_encoder` the memory encoder; the rest is STCN's."""

    arch = "stm"

    def _make_value_encoder(self, pretrained: bool) -> nn.Module:
        config = self.config
        return MemoryEncoder(config.value_backbone, config.key_dim, config.value_dim, pretrained=pretrained)

    def memorise(
        self, image: Tensor, masks: Tensor, features: KeyFeatures, present: Present | None = None
    ) -> tuple[Tensor, Tensor]:
        """Each object's own key (B, N, Ck, h, w), and its value."""
        return self.value_encoder(image, masks, present)

    def read(self, keys: Tensor, values: Tensor, query: Tensor) -> Tensor:
        """As in STCN, but with each object's own keys (B, T, N, Ck, h, w): objects are read like clips."""
        batch, _, objects = keys.shape[:3]
        keys, values = (x.transpose(1, 2).flatten(0, 1) for x in (keys, values))  # (B N, T, ...)
        queries = query[:, None].expand(-1, objects, -1, -1, -1).flatten(0, 1)
        return super().read(keys, values[:, :, None], queries).unflatten(0, (batch, objects))[:, :, 0]

    def memory_bank(self, **options: Any) -> Any:
        return ObjectBanks(lambda: super(STM, self).memory_bank(**options))


class ObjectBanks:
    """A `MemoryBank` for each object, which looks like one for all of them; `make_bank` gives an empty one."""

    def __init__(self, make_bank: Callable[[], MemoryBank]) -> None:
        self.make_bank = make_bank
        make_bank()  # whose options are checked before the first object
        self._banks: list[MemoryBank] = []

    def add(self, keys: Tensor, values: Tensor, *, annotated: bool = False, temporary: bool = False) -> None:
        """Remember a frame: the objects' keys (N, Ck, h, w) and values (N, Cv, h, w); new objects come last.

        Raises `ValueError` when there are fewer objects than before, or new ones at a temporary frame.
        """
        known, objects = len(self._banks), len(values)
        if objects < known or (objects > known and temporary):
            raise ValueError(f"values: expected {known} objects{'' if temporary else ' or more'}, found {objects}")
        self._banks += [self.make_bank() for _ in range(objects - known)]
        for bank, key, value in zip(self._banks, keys, values.split(1), strict=True):
            bank.add(key, value, annotated=annotated, temporary=temporary)

    def drop_temporary(self) -> None:
        """As `MemoryBank.drop_temporary`."""
        for bank in self._banks:
            bank.drop_temporary()

    def read(self, query_key: Tensor) -> Tensor:
        """What each object's memory says: (Ck, h, w) -> (N, Cv, h, w).  `ValueError` when it is empty."""
        if not self._banks:
            raise ValueError("the memory is empty")
        return torch.cat([bank.read(query_key) for bank in self._banks])

    def state_dict(self) -> dict[str, Any]:
        """As `MemoryBank.state_dict`."""
        return {"objects": [bank.state_dict() for bank in self._banks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `MemoryBank.load_state_dict`."""
        self._banks = [self.make_bank() for _ in state["objects"]]
        for bank, saved in zip(self._banks, state["objects"], strict=True):
            bank.load_state_dict(saved)


def make_network(config: NetworkConfig, *, pretrained: bool = False) -> STCN:
    """The network that `config.arch` names."""
    return (STM if config.arch == "stm" else STCN)(config, pretrained=pretrained)
