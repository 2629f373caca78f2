"""The mutable state of a run: exactly what a checkpoint must hold for the run to resume bit for bit."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model.released import optimizer_from_released
from util.distributed import Processes

Figures = dict[str, Tensor]  # by name: (2,), the sum and the count of a value that is averaged over iterations


class RunningMeans:
    """Means of the figures `names` over iterations and processes; they are part of the checkpoint.

    New figures stay on the device until `gather`, so that a step does not wait for the device.
    """

    def __init__(self, names: tuple[str, ...], processes: Processes) -> None:
        self.names = names
        self.processes = processes
        self.nonfinite = 0  # consecutive iterations with a non-finite loss, up to the last one gathered
        self.longest_nonfinite = 0  # the longest such series
        self.bad_samples: list[str] = []  # this process's samples in the last such iteration
        self._new: list[tuple[Tensor, list[str]]] = []
        self._gathered = torch.zeros(0, len(names), 2)

    def add(self, figures: Figures, samples: list[str]) -> None:
        """Add all figures of one iteration, and the names of its samples."""
        self._new.append((torch.stack([figures[name] for name in self.names]).detach(), samples))

    def gather(self) -> None:
        """Sum the new rows over all processes; every rank calls this after the same iteration."""
        if not self._new:
            return
        rows = self.processes.sum(torch.stack([row for row, _ in self._new]).float().cpu())
        losses = [name.startswith("loss/") for name in self.names]
        for row, (_, samples) in zip(rows, self._new, strict=True):
            if row[losses].isfinite().all():
                self.nonfinite = 0
            else:
                self.nonfinite += 1
                self.longest_nonfinite = max(self.longest_nonfinite, self.nonfinite)
                self.bad_samples = samples
        self._new = []
        self._gathered = torch.cat([self._gathered, rows])

    def flush(self) -> dict[str, float]:
        """The means since the last flush, by name; figures with a count of 0 are left out."""
        self.gather()
        sums = self._gathered.double().sum(dim=0)
        self._gathered = self._gathered[:0]
        return {name: (total / count).item() for name, (total, count) in zip(self.names, sums, strict=True) if count > 0}

    def state_dict(self) -> dict[str, Any]:
        """The content for a checkpoint; call `gather` first."""
        return {"rows": self._gathered.clone(), "nonfinite": self.nonfinite}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        rows, self.nonfinite = state["rows"], state["nonfinite"]
        if rows.ndim != 3 or rows.shape[1] != len(self.names) or rows.shape[2] != 2 or not rows.is_floating_point():
            raise ValueError(f"expected means (T, {len(self.names)}, 2), found {rows.dtype} {tuple(rows.shape)}")
        if type(self.nonfinite) is not int or self.nonfinite < 0:
            raise ValueError(f"expected a number of iterations, found {self.nonfinite}")
        self._gathered = rows.float()


@dataclasses.dataclass
class State:
    """Everything that changes during training."""

    network: Any  # `STCN` or `ScribbleNetwork`
    amp_dtype: torch.dtype | None  # `None`: no mixed precision
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    means: RunningMeans
    best: float = -1.0  # J&F of the best validation so far, on the videos `best_on`
    best_on: str = ""
    averaged: AveragedModel | None = None  # the moving average of the weights

    @property
    def result(self) -> Any:
        """The network that a run is for: with the averaged weights, if it averages them."""
        return self.network if self.averaged is None else self.averaged.module

    def content(self, iteration: int, record: dict[str, Any]) -> dict[str, Any]:
        """The content of a checkpoint.  Samples and learning rates depend only on the iteration and need no state."""
        return {
            **self.network.content(),
            **({} if self.averaged is None else {"averaged": self.averaged.state_dict()}),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "amp_dtype": str(self.amp_dtype),
            "means": self.means.state_dict(),
            "best": self.best,
            "best_on": self.best_on,
            "random_state": torch.get_rng_state(),
            "iteration": iteration,
            "arguments": record,
        }

    def load(self, content: dict[str, Any], *, same_run: bool) -> None:
        """Load everything but the network from a training checkpoint, ours or the release's.

        From another run's checkpoint, only the optimiser's moments and the loss scale are taken; learning rates and the like
        are this run's.
        """
        if "format" in content:
            moments = content["optimizer"]["state"]
            if content["amp_dtype"] == str(self.amp_dtype):
                self.scaler.load_state_dict(content["scaler"])
        else:
            released = optimizer_from_released(content)
            names = {id(parameter): name for name, parameter in self.network.named_parameters()}
            ours = [released.get(names[id(p)], {}) for part in self.optimizer.param_groups for p in part["params"]]
            moments = {number: entry for number, entry in enumerate(ours) if entry}
            for entry in moments.values():
                entry["step"] = torch.as_tensor(entry.get("step"), dtype=torch.float32)  # a number in old PyTorch
        groups = self.optimizer.state_dict()["param_groups"]
        _check_moments(moments, [parameter for group in self.optimizer.param_groups for parameter in group["params"]])
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for parameter, entry in self.optimizer.state.items():  # fused Adam goes through memory, whatever the strides
            for name in ("exp_avg", "exp_avg_sq"):
                entry[name] = torch.empty_like(parameter, requires_grad=False).copy_(entry[name])
        if same_run:
            if self.averaged is not None:
                self.averaged.load_state_dict(content["averaged"])
            self.means.load_state_dict(content["means"])
            if not math.isfinite(content["best"]):
                raise ValueError(f"expected the best J&F, found {content['best']}")
            best_on = content.get("best_on", self.best_on)  # older checkpoints do not say
            if self.best_on in ("", best_on):
                self.best, self.best_on = content["best"], best_on
            torch.set_rng_state(content["random_state"])


def _check_moments(moments: dict[int, dict[str, Tensor]], parameters: list[nn.Parameter]) -> None:
    """Raise `ValueError` unless they are Adam's for these parameters; those that have never had a gradient have none."""
    if unknown := moments.keys() - range(len(parameters)):
        raise ValueError(f"expected moments of {len(parameters)} parameters, found {min(map(str, unknown))}")
    for number, found in moments.items():
        shape = parameters[number].shape
        expected = {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}
        if {name: getattr(value, "shape", None) for name, value in found.items()} != expected:
            raise ValueError(f"expected moments of shape {tuple(shape)}, found others for parameter {number}")
        if not all(value.is_floating_point() and value.isfinite().all() for value in found.values()):
            raise ValueError(f"expected finite moments, found others for parameter {number}")
        if found["step"] < 0 or (found["exp_avg_sq"] < 0).any():  # 0 where the scaler has skipped all steps so far
            raise ValueError(f"expected moments of Adam, found others for parameter {number}")


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of the network for the exponential moving average of its weights over iterations."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay)).requires_grad_(False)
