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

import util  # isort: skip, since it comes before PyTorch  # noqa: F401
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
from util.distributed import Group, StopRequest, device_of, use_threads
from util.errors import InputError, names_some, one_line_errors
from util.evaluation import ResultFolder, evaluate, peak_memory
from util.files import path_in, write_atomically
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
    kinds = {"key_backbone": {"choices": BACKBONES}, "value_backbone": {"choices": BACKBONES}}
    kinds |= {"key_dim": {"type": positive_int}, "value_dim": {"type": positive_int}, "similarity": {"choices": SIMILARITIES}}
    for field in dataclasses.fields(NetworkConfig):
        paper = f"of a new network (default: the paper's, {field.default})"
        network.add_argument(f"--{field.name}", help=paper, **kinds[field.name])

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
    """Only float16 needs scaling; with a scale that stays 1 the step of a gradient that is not finite is still skipped."""
    scale = 2.0**16 if objective.amp_dtype is torch.float16 else 1.0
    return torch.amp.GradScaler(device.type, init_scale=scale)


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


def network_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those fields of `NetworkConfig` that were given."""
    names = [field.name for field in dataclasses.fields(NetworkConfig)]
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def refuse_other_network(network: STCN, arguments: argparse.Namespace) -> None:
    for name, value in network_flags(arguments).items():
        if value != getattr(network.config, name):
            raise InputError(f"--{name} {value}: the network to start from has {getattr(network.config, name)}")


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
        try:
            config = NetworkConfig(**network_flags(arguments))
        except ValueError as error:
            raise InputError(f"--{error}") from error
        network = STCN(config, pretrained=not arguments.no_pretrained)
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
    device = device_of(arguments.device)
    if arguments.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = arguments.benchmark
    use_threads(None)
    with Group(cuda=device.type == "cuda") as group:
        return train(arguments, group, device)


def train(arguments: argparse.Namespace, group: Group, device: torch.device) -> int:
    """Train to the end, or until asked to stop; returns the exit status."""
    stage = complete(arguments, group.world)
    schedule = Schedule(arguments.iterations, arguments.batch_size, arguments.accumulate, group.world)
    sources = stage_sources(arguments.stage, data_roots(arguments), crop=arguments.crop)
    validation = davis_videos(arguments.davis_root) if arguments.val_every else []
    if absent := [frame for video in validation for frame in video.without_truth]:
        raise InputError(f"--val_every: no ground truth of {names_some(absent)}")
    draws = Draws(sources, seed=arguments.seed, max_skip=partial(skip_of_draw, stage, schedule))
    path_in(arguments.save_dir, arguments.id, source="--id")
    folder = path_in(arguments.save_dir, f"{arguments.id}_s{arguments.stage}", source="--id")
    final = folder.with_name(f"{folder.name}.pth")
    record = run_record(arguments, schedule, sources)
    objective = make_objective(arguments, device)
    torch.manual_seed(arguments.seed)

    start = find_start(arguments, folder, record, group)
    refuse_other_network(start.network, arguments)
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
    with StopRequest(group) as stop, Journal(folder, schedule, start.iteration, group) as journal, leaves_when_alone(stop):
        for iteration in range(start.iteration, schedule.iterations):
            for parameters in state.optimizer.param_groups:
                parameters["lr"] = learning_rate(parameters["base_lr"], iteration, arguments)
            with journal.waiting():
                passes = [next(batches) for _ in range(schedule.passes)]
            journal.warn(passes)
            predicted = iterate(state, model, passes, iteration, arguments.clip_grad, device)

            done = iteration + 1
            last = done == schedule.iterations
            if done % arguments.image_every == 0:
                journal.picture(done, passes[-1], predicted)
            if last or done % arguments.log_every == 0:
                figures = {
                    "learning_rate": state.optimizer.param_groups[-1]["lr"],
                    "max_skip": skip_of_draw(stage, schedule, iteration * schedule.total),
                    "kept_pixels": objective.fraction(iteration),
                }
                journal.figures(done, state.means.flush() | figures)
                if state.means.longest_nonfinite >= NONFINITE_LIMIT:
                    return diverged(state.means, folder, group)
            if validation and done % arguments.val_every == 0:
                score = group.broadcast(validate(network, validation, folder, group))
                if score is not None and score > state.best:
                    state.best = score
                    if group.rank == 0:
                        save_network(network, folder / "best.pth")
                journal.validation(done, score)
            stopping = stop.agreed()
            if stopping or last or done % arguments.save_every == 0:
                journal.flush()  # what a checkpoint is behind is never logged again
                path = save_checkpoint(state, folder, done, record, keep=arguments.keep, group=group)
            if stopping and not last:
                print_once(group, f"\nstopped after {done} iterations; the same command goes on from {path}")
                return EXIT_STOPPED
            journal.step(done)
    if group.rank == 0:
        save_network(network, final)
    journal.report_problems()
    print_once(group, f"network: {final}")
    return 0


@contextlib.contextmanager
def leaves_when_alone(stop: StopRequest) -> Iterator[None]:
    """Who was asked to stop may find that another process is gone already, and that nothing can be saved."""
    try:
        yield
    except RuntimeError as error:
        if stop.asked and stop.group.world > 1:
            rank = stop.group.rank
            print(f"rank {rank}: asked to stop, but another process is gone ({error}); not saved", file=sys.stderr)
            os._exit(EXIT_ALONE)  # nothing that talks to the others can be waited for
        raise


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
    state.scaler.update(None if state.objective.amp_dtype is torch.float16 else 1.0)
    row = torch.stack(rows).sum(dim=0)
    finite = torch.stack([norm.nan_to_num(0, 0, 0), norm.isfinite().float()])  # a step that the scaler skips has no norm
    state.means.add(torch.cat([row, finite[None]]), names)
    return predicted


class Journal:
    """What a run tells of itself, on rank 0 alone: the progress bar and TensorBoard's log; every rank warns of its samples.

    A context.  The figures of speed cover the time since the last figures or the last validation.
    """

    def __init__(self, folder: Path, schedule: Schedule, start: int, group: Group) -> None:
        self.group, self.samples = group, schedule.total
        # readers of the log drop what a run that was killed had written behind the checkpoint
        self._writer = SummaryWriter(str(folder / "log"), purge_step=start + 1) if group.rank == 0 else None
        self._problems: set[str] = set()
        shown = ("loss", "iou", "samples/s")
        self._bar = progress_bar(schedule.iterations, "iterations", shown=group.rank == 0, start=start, figures=shown)
        self._look(start)

    def __enter__(self) -> "Journal":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.finish(dirty=True)
        if self._writer is not None:
            self._writer.close()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def warn(self, batches: list[Batch]) -> None:
        """Name the samples that could not be used, each once.  Raises `InputError` when they are too many."""
        for problem in {problem for batch in batches for problem in batch.problems} - self._problems:
            self._problems.add(problem)
            print(f"\nwarning: {problem}", file=sys.stderr)
        if len(self._problems) > PROBLEM_LIMIT:
            raise InputError(f"more than {PROBLEM_LIMIT} samples could not be used; they are named above")

    def report_problems(self) -> None:
        """The samples that could not be used, of all ranks."""
        found = sorted({problem for part in self.group.gather(self._problems) for problem in part})
        if found:
            print_once(self.group, f"{len(found)} samples could not be used and were replaced:\n  " + "\n  ".join(found))

    def step(self, done: int) -> None:
        self._bar.update(done)

    def picture(self, done: int, batch: Batch, predicted: Tensor) -> None:
        if self._writer is not None:
            self._writer.add_image("samples", training_picture(batch, predicted), done, dataformats="HWC")

    def figures(self, done: int, scalars: dict[str, float]) -> None:
        seconds, samples = time.perf_counter() - self._start, (done - self._done) * self.samples
        speed = samples / seconds
        scalars = scalars | {
            "speed/samples_per_second": speed,
            "speed/share_waiting_for_data": self._waited / seconds,
            "peak_memory_mib": peak_memory()[1] / 2**20,
        }
        self._look(done)
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, done)
            shown = {"loss": scalars["loss/total"], "iou": scalars.get("iou/object_1"), "samples/s": speed}
            self._bar.update(done, **shown)

    def validation(self, done: int, score: float | None) -> None:
        """The J&F of a validation, which took time that is not training's; `None` where there was none."""
        if self._writer is not None and score is not None:
            self._writer.add_scalar("validation/J&F", score, done)
        self._look(done)

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def _look(self, done: int) -> None:
        self._start, self._waited, self._done = time.perf_counter(), 0.0, done


def save_checkpoint(state: State, folder: Path, iteration: int, record: dict[str, Any], *, keep: int, group: Group) -> Path:
    """Write the run's state, on rank 0, and remove all but the newest `keep`; every rank calls it, and gets the path."""
    state.means.gather()
    path = checkpoint.checkpoint_path(folder, iteration)
    if group.rank == 0:
        content = state.content(iteration, record)
        write_atomically(path, lambda file: torch.save(content, file))
        for old in checkpoint.checkpoints_in(folder)[keep:]:
            old.unlink()
    return path


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
        results.claim(videos, {"made by": "training"}, overwrite=True, shown=False)
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


def print_once(group: Group, text: str) -> None:
    if group.rank == 0:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
