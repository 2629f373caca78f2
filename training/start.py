"""The start of a run: from its own checkpoints, another run's, a network, ImageNet weights, or from scratch."""

import argparse
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from dataset.sampling import Schedule
from model import STCN, NetworkConfig
from model.checkpoint import network_from, read
from model.stm import make_network
from training.state import State
from util.distributed import Processes
from util.errors import InputError, shorten, warn
from util.files import digest, write_atomically
from util.guards import remove_files

_NAME = re.compile(r"checkpoint_[0-9]{7,}\.pth")  # files with other names are the user's own and are kept
_UNFINISHED = re.compile(rf"\.{_NAME.pattern}\.[0-9a-f]{{8}}")

MOST_ITERATIONS = 10**12


def sampled(stage: int, options: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint records of how clips are drawn from videos, given `sampling_options`."""
    if stage == 0:
        return {}
    listed = options["youtube_list"]
    videos = {"min_area": options["min_area"], "videos of YouTube-VOS": digest(listed) if listed else "all"}
    return {"spacing": options["spacing"], **({} if stage == 1 else videos)}


def drawn(sources: dict[str, Any], schedule: Schedule) -> dict[str, Any]:
    """What a checkpoint records of the data sets and the samples of an iteration."""
    data = {name: f"{len(source)} x {often}" for name, (source, often) in sources.items()}
    return {"samples an iteration": schedule.total, "data": data}


def network_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of `NetworkConfig` that were given as flags."""
    names = [field.name for field in dataclasses.fields(NetworkConfig)]
    return {name: value for name in names if (value := getattr(arguments, name, None)) is not None}


def refuse_other_network(network: STCN, arguments: argparse.Namespace) -> None:
    for name, value in network_flags(arguments).items():
        if value != getattr(network.config, name):
            flag = {"attention": "no_attention", "aspp": "aspp"}.get(name, f"{name} {value}")
            raise InputError(f"--{flag}: the network to start from has {getattr(network.config, name)}")


class Start(NamedTuple):
    """The starting point of training."""

    network: Any
    iteration: int
    content: dict[str, Any]  # of the checkpoint; empty if there is none
    same_run: bool  # whether the checkpoint is from this run
    path: Path | None = None  # of the checkpoint


def find_start(arguments: argparse.Namespace, folder: Path, record: dict[str, Any], processes: Processes) -> Start:
    """The first of these that applies: this run's checkpoint, `--load_model`, `--load_network`, ImageNet, from scratch."""
    path = arguments.resume
    if path == "auto":
        # all ranks must use the same one
        path = processes.broadcast(newest_readable(folder) if processes.rank == 0 else None)
    elif path == "never":
        if processes.broadcast(bool(checkpoints_in(folder))):
            raise InputError(f"{folder}: holds a run; --resume auto continues it, another --id starts a new one")
        path = None
    if path is not None:
        return resumed(Path(path), record, network_from)
    if arguments.load_model is not None:
        content = read(arguments.load_model)
        if "optimizer" not in content:
            raise InputError(f"{arguments.load_model}: expected a training checkpoint; --load_network starts from a network")
        network, iteration = network_from(content, arguments.load_model), iteration_of(content, arguments.load_model)
        if iteration >= arguments.iterations:
            raise InputError(f"{arguments.load_model}: has done {iteration} iterations of {arguments.iterations} already")
        prepare_others_filter(network, arguments.stage, arguments.seed)
        return Start(network, iteration, content, False, Path(arguments.load_model))
    if arguments.load_network is not None:
        network = network_from(read(arguments.load_network), arguments.load_network, averaged=True)
    else:
        try:
            config = NetworkConfig.of(**network_flags(arguments))
        except ValueError as error:
            raise InputError(f"--{error}") from error
        network = make_network(config, pretrained=not arguments.no_pretrained)
    prepare_others_filter(network, arguments.stage, arguments.seed)
    return Start(network, 0, {}, False)


def resumed(path: Path, record: dict[str, Any], network_of: Callable[[dict[str, Any], Path], nn.Module]) -> Start:
    """From a checkpoint of the run of this record; a run that was finished may become longer."""
    content = read(path)
    before = content.get("arguments")
    if not isinstance(before, dict):
        raise InputError(f"{path}: expected a training checkpoint, found a network; train.py --load_network starts from one")
    iteration = iteration_of(content, path)
    before = {"min_area": record.get("min_area")} | before  # which older checkpoints do not say
    if before.get("iterations") == iteration < record["iterations"]:
        before = before | {"iterations": record["iterations"]}
    if differing := [key for key in record if before.get(key) != record[key]]:
        told = [[shorten(value, 200) for value in (key, before.get(key), record[key])] for key in differing]
        what = "; ".join(f"{key} was {old}, is {new}" for key, old, new in told)
        raise InputError(f"{path}: made by another run ({what}); give its arguments, or another --id")
    return Start(network_of(content, path), iteration, content, True, path)


def iteration_of(content: dict[str, Any], path: str | Path) -> int:
    """The number of iterations that a training checkpoint, ours or the release's, has completed."""
    found = content.get("iteration", content.get("it", 0))
    if type(found) is not int or not 0 <= found < MOST_ITERATIONS:
        raise InputError(f"{path}: expected a number of iterations, found {shorten(found)}")
    return found


def refuse_to_replace(final: Path, start: Start, processes: Processes) -> None:
    """Raise `InputError` if the run's network is there, but not the run."""
    if processes.broadcast(final.is_dir() or (final.exists() and not start.same_run)):
        raise InputError(f"{final}: already exists, but not the run it came from; move it, or give another --id")


def take_up(state: State, start: Start, folder: Path, processes: Processes) -> None:
    """Load everything but the network from the checkpoint into `state`; raises `InputError` if it is not a run's state.

    Then rename the checkpoints in the folder that are later, and remove half-written ones.
    """
    if start.content:
        try:
            state.load(start.content, same_run=start.same_run)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            raise InputError(f"{start.path}: expected the state of a training run ({shorten(what)})") from error
    if processes.rank == 0:
        last = checkpoint_path(folder, start.iteration if start.same_run else 0)
        for path in checkpoints_in(folder):
            if path > last:
                path.replace(path.with_suffix(".set_aside"))
        remove_files(path for path in folder.glob(".checkpoint_*") if _UNFINISHED.fullmatch(path.name))


def prepare_others_filter(network: STCN, stage: int, seed: int) -> None:
    """Initialise the weights of the "other objects" channel: zero in stage 0, which has only one object.

    Later stages draw them at random if they are still zero.
    """
    others_filter = network.value_encoder.stages.conv1.weight[:, 4:]  # (64, 1, 7, 7), of the stem
    with torch.no_grad():
        if stage == 0:
            others_filter.zero_()
        elif not others_filter.any():
            drawn = torch.empty(others_filter.shape)
            others_filter.copy_(nn.init.orthogonal_(drawn, generator=torch.Generator().manual_seed(seed)))


def save_checkpoint(
    state: State, folder: Path, iteration: int, record: dict[str, Any], *, keep: int, processes: Processes
) -> Path:
    """Write the run's state on rank 0, and keep only the newest `keep` checkpoints; every rank calls it.  Returns the path."""
    state.means.gather()
    path = checkpoint_path(folder, iteration)
    if processes.rank == 0:
        content = state.content(iteration, record)
        write_atomically(path, lambda file: torch.save(content, file))
        for old in checkpoints_in(folder)[keep:]:
            old.unlink()
    return path


def checkpoints_in(folder: Path) -> list[Path]:
    """The training checkpoints of a run, newest first."""
    return sorted((path for path in folder.glob("checkpoint_*.pth") if _NAME.fullmatch(path.name)), reverse=True)


def checkpoint_path(folder: Path, iteration: int) -> Path:
    return folder / f"checkpoint_{iteration:07d}.pth"


def newest_readable(folder: Path, fits: Callable[[dict[str, Any]], bool] = lambda content: True) -> Path | None:
    """The newest training checkpoint that can be read and for which `fits` is true; warns of those that cannot."""
    for path in checkpoints_in(folder):
        try:
            if fits(read(path)):
                return path
        except InputError as error:
            warn(f"{error}; trying the one before")
    return None
