"""The mutable state of a run: exactly what a checkpoint must hold for the run to resume bit for bit."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dataset.stages import Batch
from model.checkpoint import network_content
from model.released import optimizer_from_released
from training.step import Figures, Objective, training_step
from util.device import upload
from util.distributed import Processes


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
        rows = state["rows"]
        unknown = rows.new_zeros(len(rows), len(self.names) - rows.shape[1], 2)  # figures that older versions did not measure
        self._gathered, self.nonfinite = torch.cat([rows, unknown], dim=1), state["nonfinite"]


@dataclasses.dataclass
class State:
    """Everything that changes during training."""

    network: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    means: RunningMeans
    best: float = -1.0  # J&F of the best validation so far
    content_of: Callable[[Any], dict[str, Any]] = network_content  # what a checkpoint says of the network

    def content(self, iteration: int, record: dict[str, Any]) -> dict[str, Any]:
        """The content of a checkpoint.  Samples and learning rates depend only on the iteration and need no state."""
        return {
            **self.content_of(self.network),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "amp_dtype": str(self.objective.amp_dtype),
            "means": self.means.state_dict(),
            "best": self.best,
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
            if content["amp_dtype"] == str(self.objective.amp_dtype):
                self.scaler.load_state_dict(content["scaler"])
        else:
            released = optimizer_from_released(content)
            names = {id(parameter): name for name, parameter in self.network.named_parameters()}
            ours = [released.get(names[id(p)], {}) for part in self.optimizer.param_groups for p in part["params"]]
            moments = {number: entry for number, entry in enumerate(ours) if entry}
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        if same_run:
            self.means.load_state_dict(content["means"])
            self.best = content["best"]
            torch.set_rng_state(content["random_state"])


def iterate(
    state: State,
    model: nn.Module,
    passes: list[Batch],
    iteration: int,
    clip_grad: float | None,
    device: torch.device,
    step: Callable[..., tuple[Tensor, Figures, Tensor]] = training_step,
) -> Tensor:
    """One optimiser step on the mean loss of the passes; returns what `step` predicts in the last pass."""
    state.optimizer.zero_grad(set_to_none=True)
    figures: Figures = {}
    names: list[str] = []
    for number, batch in enumerate(passes, start=1):
        if isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = number == len(passes)  # once per iteration
        loss, measured, predicted = step(model, batch, iteration, state.objective, device)
        state.scaler.scale(loss / len(passes)).backward()
        figures = {name: figures.get(name, 0) + pair for name, pair in measured.items()}
        names += batch.names
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.get_total_norm([p.grad for p in state.network.parameters() if p.grad is not None])
    if clip_grad is not None:
        nn.utils.clip_grads_with_norm_(state.network.parameters(), clip_grad, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update(None if state.objective.amp_dtype is torch.float16 else 1.0)
    # a step that the scaler skips does not count
    figures["gradient_norm"] = torch.stack([norm.nan_to_num(0, 0, 0), norm.isfinite().float()])
    objectless = float(sum(batch.objectless for batch in passes))
    counts = torch.tensor([objectless, 1 / state.means.processes.world])  # which add up to 1: the mean is the sum over ranks
    figures["samples_without_object"] = upload(counts, device)
    state.means.add(figures, names)
    return predicted
