"""Train one stage of STCN (sections 5 and F): on one process, or on many under torchrun.

python train.py --id first --stage 0 --device cpu
torchrun --nproc_per_node=2 train.py --id first --stage 0
"""

import argparse
import contextlib
import dataclasses
import inspect
import math
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from dataset.stages import Batch, Draws, Schedule, load, stage_sources
from dataset.video import davis_videos
from model import STCN, NetworkConfig, VideoSegmenter, save_network
from model.losses import clip_losses, hard_pixel_fraction
from model.memory import SIMILARITIES
from model.modules import BACKBONES
from model.network import network_content, network_from
from util import checkpoint, metrics
from util.config import (
    STAGES,
    DefaultsFormatter,
    Stage,
    add_crop_flag,
    add_data_flags,
    data_roots,
    max_skip,
    non_negative_int,
    positive_float,
    positive_int,
)
from util.distributed import Group, StopRequest, device_of
from util.errors import InputError, names_some, one_line_errors
from util.evaluation import ResultFolder, evaluate, peak_memory
from util.image import normalise
from util.log import RunningMeans, progress_bar
from util.picture import overlay, sheet

EXIT_STOPPED = 75  # asked to stop, and saved
EXIT_ALONE = 76  # asked to stop, but other processes were gone, so that nothing was saved
EXIT_DIVERGED = 77
NONFINITE_LIMIT = 10  # iterations in a row
PROBLEM_LIMIT = 1000  # different samples that could not be used
CALIBRATION_BATCHES, CALIBRATION_BATCH = 8, 4
WEIGHT_DECAY = 1e-7  # section F.1


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=DefaultsFormatter, argument_default=None
    )
    run = result.add_argument_group("run")
    run.add_argument("--id", required=True, default=argparse.SUPPRESS, help="name of the run (required)")
    run.add_argument("--stage", type=int, choices=range(len(STAGES)), default=0, help="0 static, 1 BL30K, 2 and 3 videos")
    run.add_argument("--save_dir", default="saves", metavar="DIR", help="where <id>_s<stage>.pth and its folder go")
    run.add_argument("--save_every", type=positive_int, default=500, metavar="N", help="iterations between checkpoints")
    run.add_argument("--keep", type=positive_int, default=3, metavar="N", help="so many newest checkpoints are kept")
    run.add_argument("--resume", default="auto", metavar="auto|never|PATH", help="auto: from the newest readable checkpoint")
    run.add_argument("--seed", type=non_negative_int, default=0, help="of samples and initial weights")
    run.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or mps; torchrun gives each process its GPU")
    run.add_argument("--num_workers", type=non_negative_int, default=8, metavar="N", help="processes that make samples")
    run.add_argument(
        "--val_every", type=positive_int, metavar="N", help="iterations between scores on DAVIS val (default: none)"
    )
    run.add_argument("--log_every", type=positive_int, default=25, metavar="N", help="iterations that a logged mean covers")
    run.add_argument("--image_every", type=positive_int, default=500, metavar="N", help="iterations between logged pictures")
    run.add_argument("--debug", action="store_true", help="log each iteration, and pictures every 50")
    run.add_argument("--benchmark", action="store_true", help="let cuDNN choose algorithms by timing")
    run.add_argument("--deterministic", action="store_true", help="only algorithms that give the same bits each time")
    run.add_argument("--compile", action="store_true", help="torch.compile the network")
    data = result.add_argument_group("data")
    add_data_flags(data)
    add_crop_flag(data)

    network = result.add_argument_group("network")
    network.add_argument("--load_network", metavar="FILE", help="start from this network, ours or the release's")
    network.add_argument("--load_model", metavar="FILE", help="go on from this training checkpoint, ours or the release's")
    network.add_argument("--no_pretrained", action="store_true", help="start without ImageNet weights")
    network.add_argument("--key_backbone", choices=BACKBONES, default="resnet50", help="of a new network")
    network.add_argument("--key_dim", type=positive_int, default=64, help="of a new network")
    network.add_argument("--value_dim", type=positive_int, default=512, help="of a new network")
    network.add_argument("--similarity", choices=SIMILARITIES, default="l2", help="of a new network")

    steps = result.add_argument_group("optimisation", "by default the stage's numbers in the paper")
    steps.add_argument("-i", "--iterations", type=positive_int, help="in all (default: the stage's)")
    steps.add_argument("-b", "--batch_size", type=positive_int, help="of each process (default: the stage's over all)")
    steps.add_argument("--accumulate", type=positive_int, default=1, metavar="N", help="passes of --batch_size an iteration")
    steps.add_argument("--optimizer", choices=("adam", "adamw"), default="adam", help="which optimiser")
    steps.add_argument("--lr", type=positive_float, default=1e-5, help="learning rate")
    steps.add_argument("--encoder_lr", type=positive_float, help="learning rate of the ResNets (default: --lr)")
    steps.add_argument("--schedule", choices=("step", "cosine"), default="step", help="of the learning rate")
    steps.add_argument("--steps", type=positive_int, nargs="*", help="when the learning rate falls (default: the stage's)")
    steps.add_argument("--gamma", type=positive_float, default=0.1, help="by which factor it falls")
    steps.add_argument("--clip_grad", type=positive_float, help="largest norm of the gradient (default: none)")
    steps.add_argument("--bootstrap_start", type=non_negative_int, default=20_000, metavar="N", help="until then all pixels")
    steps.add_argument(
        "--bootstrap_end", type=non_negative_int, default=70_000, metavar="N", help="from then on 15 %% of them"
    )
    steps.add_argument("--no_amp", action="store_true", help="float32 on CUDA too")
    steps.add_argument(
        "--amp_dtype",
        choices=("float16", "bfloat16"),
        help="of mixed precision; the CPU can have bfloat16 (default: float16 on CUDA, no mixed precision elsewhere)",
    )
    return result


class Objective(NamedTuple):
    """What the gradients depend on beside network and data."""

    amp_dtype: torch.dtype | None  # None: no mixed precision
    bootstrap_start: int
    bootstrap_end: int

    def fraction(self, iteration: int) -> float:
        """The share of pixels that count."""
        return hard_pixel_fraction(iteration, start=self.bootstrap_start, end=self.bootstrap_end)


def training_step(
    model: nn.Module, batch: Batch, iteration: int, objective: Objective, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """One pass: the loss to minimise, the row of figures for `RunningMeans`, and the predicted labels (B, T-1, H, W)."""
    frames = normalise(batch.frames.to(device, non_blocking=True))  # (B, T, 3, H, W)
    labels, valid = batch.labels.to(device, non_blocking=True), batch.valid.to(device, non_blocking=True)
    masks = first_masks(labels, valid.shape[1])
    with torch.autocast(device.type, objective.amp_dtype, enabled=objective.amp_dtype is not None):
        logits = model(frames, masks, valid)
    losses = clip_losses(logits, labels, valid, objective.fraction(iteration))
    with torch.no_grad():
        predicted = logits.argmax(dim=2)
        figures = torch.cat([losses, losses.sum()[None]])
        row = torch.cat([torch.stack([figures, torch.ones_like(figures)], dim=1), iou_row(predicted, labels[:, 1:], valid)])
    return losses.sum(), row, predicted


def first_masks(labels: Tensor, slots: int) -> Tensor:
    """Labels (B, T, H, W) -> the first frame's masks (B, N, H, W) float."""
    numbers = torch.arange(1, 1 + slots, device=labels.device)[None, :, None, None]
    return (labels[:, :1] == numbers).float()


def iou_row(predicted: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Sum and count of the intersection over union of each slot, (N, 2), over frames in which truth or prediction show it."""
    rows = []
    for slot in range(1, 1 + valid.shape[1]):
        found, true = predicted == slot, labels == slot  # (B, T-1, H, W)
        union = (found | true).sum(dim=(2, 3))
        counted = (union > 0) & valid[:, slot - 1, None]
        iou = (found & true).sum(dim=(2, 3)) / union.clamp(min=1)
        rows.append(torch.stack([(iou * counted).sum(), counted.sum().float()]))
    return torch.stack(rows)


def figure_names(slots: int) -> tuple[str, ...]:
    """Of the rows of `training_step`, and the gradient's norm behind them."""
    return ("loss/frame_1", "loss/frame_2", "loss/total", *(f"iou/object_{n}" for n in range(1, 1 + slots)), "gradient_norm")


def learning_rate(base: float, iteration: int, arguments: argparse.Namespace) -> float:
    """At an iteration, counted from 0."""
    if arguments.schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * iteration / arguments.iterations))
    return base * arguments.gamma ** sum(step <= iteration for step in arguments.steps)


def make_optimizer(network: STCN, arguments: argparse.Namespace) -> torch.optim.Optimizer:
    """Adam over all parameters, the ResNets in a group of their own; each group knows its base learning rate."""
    encoders = [*network.key_encoder.stages.parameters(), *network.value_encoder.stages.parameters()]
    others = {id(p) for p in encoders}
    groups = [
        {"params": encoders, "base_lr": arguments.lr if arguments.encoder_lr is None else arguments.encoder_lr},
        {"params": [p for p in network.parameters() if id(p) not in others], "base_lr": arguments.lr},
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[arguments.optimizer]
    return kind(groups, lr=arguments.lr, weight_decay=WEIGHT_DECAY)


def make_objective(arguments: argparse.Namespace, device: torch.device) -> Objective:
    name = arguments.amp_dtype or ("float16" if device.type == "cuda" else None)
    if name == "float16" and device.type == "cpu":
        raise InputError("--amp_dtype: float16 needs CUDA; on the CPU give bfloat16")
    dtype = None if arguments.no_amp or name is None else getattr(torch, name)
    return Objective(dtype, arguments.bootstrap_start, arguments.bootstrap_end)


def make_scaler(objective: Objective, device: torch.device) -> torch.amp.GradScaler:
    """Only float16 needs scaling; a scale of 1 that never grows still skips the step of a gradient that is not finite."""
    if objective.amp_dtype is torch.float16:
        return torch.amp.GradScaler(device.type)
    return torch.amp.GradScaler(device.type, init_scale=1.0, growth_interval=2**31 - 1)


def prepare_others_filter(network: STCN, stage: int, seed: int) -> None:
    """Stage 0 has one object, and no use for the "other objects" channel; a later stage that gets it unused draws it."""
    others_filter = network.value_encoder.others_filter
    with torch.no_grad():
        if stage == 0:
            others_filter.zero_()
        elif not others_filter.any():
            drawn = torch.empty(others_filter.shape)
            others_filter.copy_(nn.init.orthogonal_(drawn, generator=torch.Generator().manual_seed(seed)))


def skip_of_draw(stage: Stage, schedule: Schedule, draw: int) -> int:
    """The curriculum: the largest distance of a draw's frames."""
    return max_skip(stage, draw / (schedule.total * schedule.iterations))


def complete(arguments: argparse.Namespace, world: int) -> Stage:
    """Put the stage's numbers where no flag gave one; returns the stage."""
    stage = STAGES[arguments.stage]
    if arguments.iterations is None:
        arguments.iterations = stage.iterations
    if arguments.steps is None:
        arguments.steps = list(stage.steps)
    if arguments.batch_size is None:
        if stage.batch % (world * arguments.accumulate):
            raise InputError(
                f"--batch_size: stage {arguments.stage} has {stage.batch} samples an iteration, which {world} processes "
                f"with --accumulate {arguments.accumulate} cannot share; give it"
            )
        arguments.batch_size = stage.batch // (world * arguments.accumulate)
    if arguments.debug:
        arguments.log_every, arguments.image_every = 1, 50
    if arguments.crop % 16:
        raise InputError(f"--crop: expected a multiple of 16, found {arguments.crop}")
    return stage


def run_record(arguments: argparse.Namespace, schedule: Schedule, sources: dict[str, Any]) -> dict[str, Any]:
    """All that must be the same for a run to go on as if it had not stopped."""
    names = (
        "stage iterations steps lr encoder_lr gamma schedule optimizer clip_grad seed crop bootstrap_start bootstrap_end "
        "no_amp amp_dtype"
    )
    return {
        **{name: getattr(arguments, name) for name in names.split()},
        "samples an iteration": schedule.total,
        "data": {name: f"{len(source)} x {often}" for name, (source, often) in sources.items()},
    }


def refuse_differences(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    differing = [key for key in expected if found.get(key) != expected[key]]
    if differing:
        what = "; ".join(f"{key} was {found.get(key)}, is {expected[key]}" for key in differing)
        raise InputError(f"{path}: made by another run ({what}); give its arguments, or another --id")


class Start(NamedTuple):
    """Where training starts."""

    network: STCN
    iteration: int
    content: dict[str, Any]  # of the checkpoint; empty where there is none
    same_run: bool  # whether it is a checkpoint of this run


def find_start(arguments: argparse.Namespace, folder: Path, record: dict[str, Any], group: Group) -> Start:
    """A checkpoint of this run, the one that a flag names, a network, ImageNet, or nothing, in this order."""
    path = arguments.resume
    if path == "auto":
        newest = None
        if group.rank == 0:
            newest = checkpoint.newest_readable(folder, lambda text: print(f"warning: {text}", file=sys.stderr))
        path = group.broadcast(newest)  # all must take the same
    elif path == "never":
        if group.broadcast(bool(checkpoint.checkpoints_in(folder))):
            raise InputError(f"{folder}: holds a run; --resume auto goes on with it, another --id starts one")
        path = None
    if path is not None:
        content = checkpoint.read(path)
        if "arguments" not in content:
            raise InputError(f"{path}: expected a training checkpoint, found a network; --load_network starts from it")
        refuse_differences(Path(path), content["arguments"], record)
        return Start(network_from(content, path), content["iteration"], content, True)
    if arguments.load_model is not None:
        content = checkpoint.read(arguments.load_model)
        if "optimizer" not in content:
            raise InputError(f"{arguments.load_model}: expected a training checkpoint; --load_network starts from a network")
        network, iteration = network_from(content, arguments.load_model), content.get("iteration", content.get("it", 0))
        if iteration >= arguments.iterations:
            raise InputError(f"{arguments.load_model}: has {iteration} iterations behind it, of {arguments.iterations}")
        prepare_others_filter(network, arguments.stage, arguments.seed)
        return Start(network, iteration, content, False)
    if arguments.load_network is not None:
        network = network_from(checkpoint.read(arguments.load_network), arguments.load_network)
    else:
        config = {name: getattr(arguments, name) for name in ("key_backbone", "key_dim", "value_dim", "similarity")}
        try:
            network = STCN(NetworkConfig(**config), pretrained=not arguments.no_pretrained)
        except ValueError as error:
            raise InputError(f"--{error}") from error
    prepare_others_filter(network, arguments.stage, arguments.seed)
    return Start(network, 0, {}, False)


@dataclasses.dataclass
class State:
    """All that changes as training goes on."""

    network: STCN
    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    means: RunningMeans
    best: float = -1.0  # J&F of the best validation so far

    def content(self, iteration: int, record: dict[str, Any]) -> dict[str, Any]:
        """What a checkpoint holds.  Samples and learning rates are functions of the iteration, and need no state."""
        return {
            **network_content(self.network),
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
        """Take all but the network out of a training checkpoint, ours or the release's.

        Of another run only the optimiser's moments are taken: its learning rates and the like are this run's.
        """
        if "format" in content:
            moments = content["optimizer"]["state"]
            if content["amp_dtype"] == str(self.objective.amp_dtype):
                self.scaler.load_state_dict(content["scaler"])
        else:
            released = checkpoint.optimizer_from_released(content)
            names = {id(parameter): name for name, parameter in self.network.named_parameters()}
            ours = [released.get(names[id(p)], {}) for group in self.optimizer.param_groups for p in group["params"]]
            moments = {number: entry for number, entry in enumerate(ours) if entry}
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        if same_run:
            self.means.load_state_dict(content["means"])
            self.best = content["best"]
            torch.set_rng_state(content["random_state"])


@one_line_errors
def main() -> int:
    arguments = parser().parse_args()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = device_of(arguments.device, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if arguments.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = arguments.benchmark
    with Group(cuda=device.type == "cuda") as group:
        return train(arguments, group, device)


def train(arguments: argparse.Namespace, group: Group, device: torch.device) -> int:
    """Train to the end, or until asked to stop; returns the exit status."""
    stage = complete(arguments, group.world)
    schedule = Schedule(arguments.iterations, arguments.batch_size, arguments.accumulate, group.world)
    sources = stage_sources(arguments.stage, data_roots(arguments), crop=arguments.crop)
    validation = davis_videos(arguments.davis_root) if arguments.val_every else []
    if without := [video.name for video in validation if not video.truth]:
        raise InputError(f"--val_every: expected ground truth of every frame, found none of {names_some(without)}")
    draws = Draws(sources, seed=arguments.seed, max_skip=partial(skip_of_draw, stage, schedule))
    folder = Path(arguments.save_dir) / f"{arguments.id}_s{arguments.stage}"
    final = folder.with_name(f"{folder.name}.pth")
    record = run_record(arguments, schedule, sources)
    objective = make_objective(arguments, device)
    torch.manual_seed(arguments.seed)

    start = find_start(arguments, folder, record, group)
    # convolutions are faster with channels last, on the CPU as on GPUs with half precision
    network = start.network.to(device, memory_format=torch.channels_last).train()
    if start.iteration >= schedule.iterations:
        print_once(group, f"{final}: finished before, after {start.iteration} iterations")
        if group.rank == 0 and not final.exists():
            save_network(network, final)
        return 0
    if not start.content and arguments.no_pretrained and arguments.load_network is None:
        network.set_statistics(calibration_clips(draws, device))
    if arguments.compile:
        network.compile()
    model = data_parallel(network) if group.world > 1 else network
    slots = 1 if arguments.stage == 0 else 2
    state = State(
        network,
        objective,
        make_optimizer(network, arguments),
        make_scaler(objective, device),
        RunningMeans(figure_names(slots), group),
    )
    if start.content:
        state.load(start.content, same_run=start.same_run)
    if group.rank == 0:
        checkpoint.set_aside_newer(folder, start.iteration if start.same_run else 0)
    start = start._replace(content={})  # which is large

    print_once(group, describe(arguments, schedule, sources, network, device, start))
    pin = device.type == "cuda"
    batches = load(draws, schedule, rank=group.rank, start=start.iteration, workers=arguments.num_workers, pin=pin)
    # readers of the log drop what a run that was killed had written behind the checkpoint
    writer = SummaryWriter(str(folder / "log"), purge_step=start.iteration + 1) if group.rank == 0 else None
    problems: set[str] = set()
    window = Window(start.iteration)
    bar = progress_bar(
        schedule.iterations, "iterations", shown=group.rank == 0, start=start.iteration, figures=("loss", "iou", "samples/s")
    )
    bar.start()
    with StopRequest(group) as stop:
        try:
            for iteration in range(start.iteration, schedule.iterations):
                for parameters in state.optimizer.param_groups:
                    parameters["lr"] = learning_rate(parameters["base_lr"], iteration, arguments)
                with window.waiting():
                    passes = [next(batches) for _ in range(schedule.passes)]
                for problem in {problem for batch in passes for problem in batch.problems} - problems:
                    problems.add(problem)
                    print(f"\nwarning: {problem}", file=sys.stderr)
                predicted = iterate(state, model, passes, iteration, arguments.clip_grad, device)
                done = iteration + 1

                if writer is not None and done % arguments.image_every == 0:
                    writer.add_image("samples", training_picture(passes[-1], predicted), done, dataformats="HWC")
                if done % arguments.log_every == 0 or done == schedule.iterations:
                    scalars = state.means.flush()
                    if writer is not None:
                        speed = window.speed(done, schedule.total)
                        scalars |= speed | {
                            "learning_rate": state.optimizer.param_groups[-1]["lr"],
                            "max_skip": skip_of_draw(stage, schedule, iteration * schedule.total),
                            "kept_pixels": objective.fraction(iteration),
                            "peak_memory_mib": peak_memory()[1] / 2**20,
                        }
                        for name, value in scalars.items():
                            writer.add_scalar(name, value, done)
                        figures = {"loss": scalars["loss/total"], "iou": scalars.get("iou/object_1")}
                        bar.update(done, **figures, **{"samples/s": speed["speed/samples_per_second"]})
                    if state.means.longest_nonfinite >= NONFINITE_LIMIT:
                        return diverged(state.means, folder, group)
                else:
                    bar.update(done)
                if len(problems) > PROBLEM_LIMIT:
                    raise InputError(f"more than {PROBLEM_LIMIT} samples could not be used; they are named above")
                if validation and done % arguments.val_every == 0:
                    score = group.broadcast(validate(network, validation, folder, group))
                    if score is not None:
                        if writer is not None:
                            writer.add_scalar("validation/J&F", score, done)
                            if score > state.best:
                                save_network(network, folder / "best.pth")
                        state.best = max(state.best, score)
                    window.look(done)
                stopping = stop.agreed()
                if stopping or done % arguments.save_every == 0 or done == schedule.iterations:
                    state.means.gather()
                    path = checkpoint.checkpoint_path(folder, done)
                    if writer is not None:
                        writer.flush()  # what a checkpoint is behind is never logged again
                        content = state.content(done, record)
                        checkpoint.write_atomically(path, lambda file, content=content: torch.save(content, file))
                        for old in checkpoint.checkpoints_in(folder)[arguments.keep :]:
                            old.unlink()
                if stopping and done < schedule.iterations:
                    print_once(group, f"\nstopped after {done} iterations; the same command goes on from {path}")
                    return EXIT_STOPPED
        except RuntimeError as error:
            if stop.asked and group.world > 1:
                print(f"rank {group.rank}: asked to stop, but another process is gone ({error}); not saved", file=sys.stderr)
                os._exit(EXIT_ALONE)  # nothing that talks to the others can be waited for
            raise
        finally:
            bar.finish(dirty=True)
            if writer is not None:
                writer.close()
    if group.rank == 0:
        save_network(network, final)
    report_problems(problems, group)
    print_once(group, f"network: {final}")
    return 0


def data_parallel(network: STCN) -> DistributedDataParallel:
    """Buffers are frozen and need no broadcast; newer versions of PyTorch have another name for that."""
    new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    return DistributedDataParallel(network, **{"forward_sync_buffers" if new else "broadcast_buffers": False})


def iterate(
    state: State,
    model: nn.Module,
    passes: list[Batch],
    iteration: int,
    clip_grad: float | None,
    device: torch.device,
) -> Tensor:
    """One optimiser step, on the mean loss of the passes; returns the predicted labels of the last one."""
    state.optimizer.zero_grad(set_to_none=True)
    rows, names = [], []
    for number, batch in enumerate(passes, start=1):
        if isinstance(model, DistributedDataParallel):
            model.require_backward_grad_sync = number == len(passes)  # once an iteration is enough
        loss, row, predicted = training_step(model, batch, iteration, state.objective, device)
        state.scaler.scale(loss / len(passes)).backward()
        rows.append(row)
        names += batch.names
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.get_total_norm(parameter.grad for parameter in state.network.parameters())
    if clip_grad is not None:
        nn.utils.clip_grads_with_norm_(state.network.parameters(), clip_grad, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    row = torch.stack(rows).sum(dim=0)
    finite = torch.stack([norm.nan_to_num(0, 0, 0), norm.isfinite().float()])  # a step that the scaler skips has no norm
    state.means.add(torch.cat([row, finite[None]]), names)
    return predicted


class Window:
    """Time since the last look, and how much of it was spent waiting for data."""

    def __init__(self, done: int) -> None:
        self.look(done)

    def look(self, done: int) -> None:
        self.start, self.waited, self.done = time.perf_counter(), 0.0, done

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.waited += time.perf_counter() - start

    def speed(self, done: int, samples: int) -> dict[str, float]:
        """Figures for the log after `done` iterations of so many samples each; the next look starts here."""
        seconds = time.perf_counter() - self.start
        result = {
            "speed/samples_per_second": (done - self.done) * samples / seconds,
            "speed/share_waiting_for_data": self.waited / seconds,
        }
        self.look(done)
        return result


def calibration_clips(draws: Draws, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A few batches, as `STCN.forward` takes them; the same for any number of processes."""
    alone = Schedule(CALIBRATION_BATCHES, CALIBRATION_BATCH)
    for batch in load(draws, alone, rank=0, start=0, workers=0):
        labels, valid = batch.labels.to(device), batch.valid.to(device)
        yield normalise(batch.frames.to(device)), first_masks(labels, valid.shape[1]), valid


def validate(network: STCN, videos: list, folder: Path, group: Group) -> float | None:
    """J&F on the videos, on rank 0; `None` elsewhere, and, with a warning, when a video cannot be read."""
    network.eval()
    results = ResultFolder(folder / "validation")
    if group.rank == 0:
        results.claim(videos, {"made by": "training"}, overwrite=True)
    summary = evaluate(videos, partial(VideoSegmenter, network), results, group, workers=1, shown=False)
    network.train()
    if summary is None:
        return None
    if summary.failures:
        print(f"\nwarning: no validation: {summary.failures[0]}", file=sys.stderr)
        return None
    scores = metrics.davis_scores(metrics.score_videos(metrics.davis_jobs(videos, results.masks), processes=1, shown=False))
    return scores["global"]["J&F"]


def training_picture(batch: Batch, predicted: Tensor) -> np.ndarray:
    """Each clip of a batch (at most four) as two rows: the truth, and the first mask with the predictions."""
    rows = []
    for frames, labels, found in list(zip(batch.frames.numpy(), batch.labels.numpy(), predicted.cpu().numpy(), strict=True))[
        :4
    ]:
        rows.append([overlay(*pair) for pair in zip(frames, labels, strict=True)])
        rows.append([overlay(*pair) for pair in zip(frames, [labels[0], *found.astype(np.uint8)], strict=True)])
    return sheet(rows)


def describe(
    arguments: argparse.Namespace, schedule: Schedule, sources: dict, network: STCN, device: torch.device, start: Start
) -> str:
    """What is about to be done, for the terminal."""
    data = ", ".join(
        f"{name} ({len(source)}{f' x {often}' if often > 1 else ''})" for name, (source, often) in sources.items()
    )
    parameters = sum(parameter.numel() for parameter in network.parameters())
    lines = [
        f"stage {arguments.stage} on {data}",
        f"{parameters / 1e6:.1f} M parameters, {network.config}",
        f"{schedule.world} x {device.type}: {schedule.total} samples an iteration = {schedule.world} processes x "
        f"{schedule.batch} samples x {schedule.passes} passes",
    ]
    if start.iteration:
        lines.append(f"going on after {start.iteration} of {schedule.iterations} iterations")
    return "\n".join(lines)


def diverged(means: RunningMeans, folder: Path, group: Group) -> int:
    names = [name for part in group.gather(means.bad_samples) for name in part]
    good = checkpoint.newest_readable(folder, fits=lambda content: content["means"]["nonfinite"] == 0)
    print_once(
        group,
        f"\nerror: the loss was not finite in {means.longest_nonfinite} iterations in a row; the last good checkpoint is "
        f"{good or 'not there'}; the samples of the last of them:\n  " + "\n  ".join(names),
    )
    return EXIT_DIVERGED


def report_problems(problems: set[str], group: Group) -> None:
    found = sorted({problem for part in group.gather(problems) for problem in part})
    if found:
        print_once(group, f"{len(found)} samples could not be used and were replaced:\n  " + "\n  ".join(found))


def print_once(group: Group, text: str) -> None:
    if group.rank == 0:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
