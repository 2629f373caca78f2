"""The settings of a training run (sections 5, F.1, F.4 and F.5)."""

import argparse
import dataclasses
import math
from typing import Any

import torch

from util.device import warn_if_emulated
from util.errors import InputError


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What the result of a run depends on, besides network and data.  The defaults are the paper's for all stages."""

    iterations: int
    batch_size: int  # samples per process and pass
    accumulate: int = 1  # passes per iteration
    optimizer: str = "adam"  # or "adamw"
    lr: float = 1e-5
    encoder_lr: float | None = None  # of the ResNets; `None`: as `lr`
    schedule: str = "step"  # or "cosine"
    steps: tuple[int, ...] = ()  # iterations at which the learning rate drops
    gamma: float = 0.1  # factor by which it drops
    clip_grad: float | None = None  # largest norm of the gradient
    ema: float | None = None  # decay of the moving average of the weights, which is then the result
    bootstrap_start: int = 20_000
    bootstrap_end: int = 70_000
    amp_dtype: str | None = None  # `None`: float16 on CUDA, no mixed precision elsewhere
    no_amp: bool = False
    crop: int = 384
    seed: int = 0

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "TrainConfig":
        """From a script's flags, which have the fields' names; raises `InputError` if frames do not fit the network."""
        if arguments.crop % 16:
            raise InputError(f"--crop: expected a multiple of 16, found {arguments.crop}")
        found = {
            field.name: getattr(arguments, field.name) for field in dataclasses.fields(cls) if hasattr(arguments, field.name)
        }
        return cls(**found)

    def record(self) -> dict[str, Any]:
        """What must be the same for a run to resume; how an iteration's samples are divided need not be."""
        found = dataclasses.asdict(self) | {"steps": list(self.steps)}
        return {name: value for name, value in found.items() if name not in ("batch_size", "accumulate")}

    def learning_rate(self, base: float, iteration: int) -> float:
        """The learning rate at an iteration, counted from 0."""
        if self.schedule == "cosine":
            return base * 0.5 * (1 + math.cos(math.pi * iteration / self.iterations))
        return base * self.gamma ** sum(step <= iteration for step in self.steps)

    def autocast_dtype(self, device: torch.device) -> torch.dtype | None:
        """For mixed precision, if there is any.  Raises `InputError` if the device cannot compute in `amp_dtype`."""
        name = self.amp_dtype or ("float16" if device.type == "cuda" else None)
        if name == "float16" and device.type == "cpu":
            raise InputError("--amp_dtype: float16 needs CUDA; use bfloat16 on the CPU")
        if name == "bfloat16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
            raise InputError("--amp_dtype bfloat16: this GPU has no bfloat16 convolutions (they need compute capability 8.0)")
        if self.no_amp or name is None:
            return None
        warn_if_emulated(device)
        return getattr(torch, name)
