"""The training loop of `train.py` and `scripts/train_scribble.py`: a run that is ready, its iterations, and its end."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dataset.sampling import Draws, Schedule, load
from model.checkpoint import infinite_tensors, save_network
from model.losses import hard_pixel_fraction
from training.config import TrainConfig
from training.journal import Journal, print_once
from training.start import newest_readable, save_checkpoint
from training.state import Figures, State
from training.step import iterate
from util.distributed import EXIT_ALONE, EXIT_STOPPED, Processes, StopRequest, is_lost_connection
from util.errors import names_some

EXIT_DIVERGED = 77  # the loss was not finite
NONFINITE_LIMIT = 10  # iterations in a row


class Intervals(NamedTuple):
    """What is done every so many iterations."""

    save: int
    log: int
    image: int | None = None  # `None`: never
    validation: int | None = None


class Run(NamedTuple):
    """A run that is ready to go on."""

    config: TrainConfig
    record: dict[str, Any]  # what must be the same for the run to resume
    folder: Path  # checkpoints and log; the network is written beside it
    start: int  # iterations that are done
    draws: Draws
    schedule: Schedule
    workers: int  # processes that prepare samples
    state: State
    model: nn.Module  # the network, or what makes it data parallel
    step: Callable[..., tuple[Tensor, Figures, Tensor]]  # `training_step` or `scribble_step`
    every: Intervals
    keep: int  # number of newest checkpoints
    processes: Processes
    device: torch.device
    validate: Callable[[], float | None] | None = None  # returns J&F; `None` where there is none
    half: bool = False  # whether the finished network is written in float16

    @property
    def final(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.pth")

    @property
    def best(self) -> Path:
        return self.folder / "best.pth"


def loop(run: Run) -> int:
    """Train to the end, or until asked to stop; returns the exit status."""
    config, state, every, processes = run.config, run.state, run.every, run.processes
    pin = run.device.type == "cuda"
    batches = load(run.draws, run.schedule, rank=processes.rank, start=run.start, workers=run.workers, pin=pin)
    with (
        StopRequest(processes) as stop,
        Journal(run.folder, run.schedule, run.start, processes) as journal,
        exit_if_peers_are_gone(stop),
    ):
        for iteration in range(run.start, config.iterations):
            for parameters in state.optimizer.param_groups:
                parameters["lr"] = config.learning_rate(parameters["base_lr"], iteration)
            with journal.waiting():
                passes = [next(batches) for _ in range(config.accumulate)]
            journal.warn(passes)
            kept_pixels = hard_pixel_fraction(iteration, start=config.bootstrap_start, end=config.bootstrap_end)
            predicted = iterate(state, run.model, passes, kept_pixels, config.clip_grad, run.device, run.step)

            done = iteration + 1
            last = done == config.iterations
            if every.image and done % every.image == 0:
                journal.picture(done, passes[-1], predicted)
            if last or done % every.log == 0:
                figures = {
                    "learning_rate": state.optimizer.param_groups[-1]["lr"],
                    "max_skip": run.draws.max_skip(iteration * run.schedule.total),
                    "kept_pixels": kept_pixels,
                }
                journal.figures(done, state.means.flush() | figures)
                if state.means.longest_nonfinite >= NONFINITE_LIMIT:
                    return diverged(run, f"the loss was not finite in {state.means.longest_nonfinite} iterations in a row")
            if run.validate is not None and every.validation and (last or done % every.validation == 0):
                score = processes.broadcast(run.validate())
                if score is not None and score > state.best:
                    state.best = score
                    if processes.rank == 0:
                        save_network(state.result, run.best)
                journal.validation(done, score)
            stopping = stop.agreed()
            if stopping or last or done % every.save == 0:
                journal.flush()  # figures before a checkpoint are never logged again
                path = save_checkpoint(state, run.folder, done, run.record, keep=run.keep, processes=processes)
            if stopping and not last:
                print_once(processes, f"\nstopped after {done} iterations; the same command resumes from {path}")
                return EXIT_STOPPED
            journal.step(done)
    journal.report_problems()
    return finish(run)


def finish(run: Run) -> int:
    """Write the network of a run that has done all its iterations; returns the exit status."""
    if broken := infinite_tensors(run.state.result.state_dict()):
        return diverged(run, f"weights are not finite at the end, in {names_some(broken)}")
    if run.state.means.nonfinite:
        return diverged(run, f"the loss was not finite in the last {run.state.means.nonfinite} iterations")
    if run.processes.rank == 0:
        save_network(run.state.result, run.final, half=run.half)
    print_once(run.processes, f"network: {run.final}")
    if run.state.best >= 0:
        print_once(run.processes, f"best by validation, with J&F {100 * run.state.best:.1f}: {run.best}")
    return 0


def diverged(run: Run, what: str) -> int:
    """Say that the training went wrong, from where it can go on, and on which samples."""
    names = [name for part in run.processes.gather(run.state.means.bad_samples) for name in part]
    good = newest_readable(run.folder, _is_finite)
    samples = "; samples of the last such iteration:\n  " + "\n  ".join(names) if names else ""
    print_once(run.processes, f"\nerror: {what}; the last good checkpoint: {good or 'none'}{samples}")
    return EXIT_DIVERGED


def _is_finite(content: dict[str, Any]) -> bool:
    return content.get("means", {}).get("nonfinite") == 0 and not infinite_tensors(content["network"])


@contextlib.contextmanager
def exit_if_peers_are_gone(stop: StopRequest) -> Iterator[None]:
    """A context that ends this process if it was asked to stop but another process is already gone: nothing can be saved."""
    try:
        yield
    except RuntimeError as error:
        if stop.asked and is_lost_connection(error):
            print_once(stop.processes, f"asked to stop, but another process is gone ({error}); not saved")
            os._exit(EXIT_ALONE)  # a normal exit would wait for the other processes
        raise
