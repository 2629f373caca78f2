"""Train one stage of STCN (sections 5 and F), in one process or in several under torchrun.

python train.py --id first --stage 0 --device cpu
torchrun --nproc_per_node=2 train.py --id first --stage 0
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import util  # isort: skip, must come before PyTorch  # noqa: F401
import torch
from torch import Tensor

from dataset.davis import davis_videos
from dataset.sampling import Draws, Schedule, load
from dataset.sources import (
    Source,
    add_crop_flag,
    add_data_flags,
    add_sampling_flags,
    data_roots,
    sampling_options,
    stage_sources,
)
from dataset.stages import STAGES, Stage, max_skip
from dataset.youtube import annotated_objects, youtube_videos
from evaluation.results import ResultFolder
from evaluation.run import evaluate
from evaluation.score_tables import davis_scores, youtube_scores
from evaluation.scores import score_videos
from evaluation.scoring_jobs import long_enough
from evaluation.truth import Truth
from model import STCN, NetworkConfig, VideoSegmenter, save_network
from model.network import ARCHITECTURES
from model.resnet import BACKBONES
from model.similarity import SIMILARITIES
from training.config import TrainConfig
from training.journal import print_once
from training.loop import Intervals, Run, finish, loop
from training.start import Start, drawn, find_start, load_state, refuse_other_network, sampled, set_aside_newer
from training.state import RunningMeans, State, moving_average
from training.step import data_parallel, figure_names, first_masks, make_optimizer, make_scaler, training_step
from util.device import device_of, fastest_format, use_threads
from util.distributed import Processes
from util.errors import InputError, names_some, one_line, one_line_errors
from util.files import one_line_for, path_in, refuse_file_above
from util.flags import (
    DefaultsFormatter,
    Parser,
    first_line,
    float_between,
    non_negative_int,
    positive_float,
    positive_int,
    seed_int,
    worker_count,
)
from util.lock import Lock
from util.tensors import normalise

FINETUNING = {
    "stage": 3,
    "davis_root": "none",  # own videos alone, unless others are named
    "yv_root": "none",
    "iterations": 500,
    "batch_size": 4,
    "crop": 256,
    "save_every": 100,
    "schedule": "cosine",  # falls to 0 over any number of iterations; `lr` stays that of the paper's videos
    "bootstrap_start": 0,  # the network knows the easy pixels
    "bootstrap_end": 0,
}  # defaults with `--finetune`
LARGEST_DECAY = 0.999999  # at 1, the average would stay what it was after the first iteration
OWN_SIZE = 480  # pixels, shorter side at which own videos are validated, as in `eval_youtube.py`
CALIBRATION_BATCHES, CALIBRATION_BATCH = 8, 4


def parser() -> argparse.ArgumentParser:
    result = Parser(description=first_line(__doc__), formatter_class=DefaultsFormatter, argument_default=None)
    run = result.add_argument_group("run")
    run.add_argument("--id", required=True, default=argparse.SUPPRESS, help="name of the run (required)")
    run.add_argument(
        "--stage", type=int, choices=range(len(STAGES)), default=0, help="0: static images, 1: BL30K, 2 and 3: videos"
    )
    run.add_argument(
        "--save_dir", default="saves", metavar="DIR", help="folder for <id>_s<stage>.pth and the run's own folder"
    )
    run.add_argument("--save_every", type=positive_int, default=500, metavar="N", help="iterations between checkpoints")
    run.add_argument("--keep", type=positive_int, default=3, metavar="N", help="number of newest checkpoints to keep")
    run.add_argument(
        "--resume", default="auto", metavar="auto|never|PATH", help="auto continues from the newest readable checkpoint"
    )
    run.add_argument("--seed", type=seed_int, default=0, help="random seed of samples and initial weights")
    run.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or mps; torchrun gives each process its GPU")
    run.add_argument("--num_workers", type=worker_count, default=8, metavar="N", help="worker processes that prepare samples")
    run.add_argument(
        "--val_every",
        type=positive_int,
        metavar="N",
        help="iterations between validations on DAVIS val or --val_root (default: with --val_root as --save_every, else none)",
    )
    run.add_argument(
        "--val_root",
        metavar="DIR",
        help="validate on your own videos instead, JPEGImages/<video>/ and Annotations/<video>/, each from its first masks",
    )
    run.add_argument("--log_every", type=positive_int, default=25, metavar="N", help="log means over every N iterations")
    run.add_argument("--image_every", type=positive_int, default=500, metavar="N", help="iterations between logged pictures")
    run.add_argument("--check", action="store_true", help="check the flags and the stage's data, and end")
    run.add_argument("--debug", action="store_true", help="log values every iteration, and pictures every 50")
    run.add_argument("--benchmark", action="store_true", help="let cuDNN choose algorithms by timing")
    run.add_argument("--deterministic", action="store_true", help="use only deterministic algorithms")
    run.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    data = result.add_argument_group("data")
    add_data_flags(data)
    add_sampling_flags(data)
    add_crop_flag(data)

    network = result.add_argument_group("network")
    network.add_argument("--load_network", metavar="FILE", help="start from this network, ours or a released one")
    network.add_argument(
        "--finetune",
        metavar="FILE",
        help="start from this network with other defaults: "
        + ", ".join(f"--{name} {value}" for name, value in FINETUNING.items()),
    )
    network.add_argument("--load_model", metavar="FILE", help="continue from this training checkpoint, ours or a released one")
    network.add_argument("--no_pretrained", action="store_true", help="start without ImageNet weights")
    kinds: dict[str, Any] = {"key_backbone": {"choices": BACKBONES}, "value_backbone": {"choices": BACKBONES}}
    kinds |= {"key_dim": {"type": positive_int}, "value_dim": {"type": positive_int}, "similarity": {"choices": SIMILARITIES}}
    kinds |= {"arch": {"choices": ARCHITECTURES}}
    for field in dataclasses.fields(NetworkConfig):
        paper = f"of a new network (default: the paper's, {field.default})"
        if field.name in kinds:
            network.add_argument(f"--{field.name}", help=paper, **kinds[field.name])
    network.add_argument(
        "--no_attention", dest="attention", action="store_false", default=None, help="leave CBAM out of a new network"
    )

    network.add_argument("--aspp", action="store_true", default=None, help="put ASPP behind the key encoder's backbone")
    network.add_argument(
        "--skip_blocks",
        action="store_true",
        default=None,
        help="put a residual block on each of the decoder's skip connections (default: in STM alone)",
    )

    steps = result.add_argument_group("optimisation", "defaults are the paper's settings of the stage")
    steps.add_argument("-i", "--iterations", type=positive_int, help="total number of iterations (default: the stage's)")
    steps.add_argument(
        "-b", "--batch_size", type=positive_int, help="samples per process and pass (default: the stage's batch, divided)"
    )
    steps.add_argument("--accumulate", type=positive_int, default=1, metavar="N", help="passes of --batch_size per iteration")
    steps.add_argument("--optimizer", choices=("adam", "adamw"), default="adam", help="optimiser")
    steps.add_argument("--lr", type=positive_float, default=1e-5, help="learning rate")
    steps.add_argument("--encoder_lr", type=positive_float, help="learning rate of the ResNets (default: --lr)")
    steps.add_argument("--schedule", choices=("step", "cosine"), default="step", help="learning rate schedule")
    steps.add_argument(
        "--steps", type=positive_int, nargs="*", help="iterations at which the learning rate drops (default: the stage's)"
    )
    steps.add_argument("--gamma", type=positive_float, default=0.1, help="factor by which the learning rate drops")
    steps.add_argument("--clip_grad", type=positive_float, help="clip the gradient to this norm (default: no clipping)")
    steps.add_argument(
        "--ema",
        type=float_between(0, LARGEST_DECAY),
        metavar="DECAY",
        help="train the exponential moving average of the weights, such as 0.998 (default: no average)",
    )
    steps.add_argument(
        "--bootstrap_start",
        type=non_negative_int,
        default=20_000,
        metavar="N",
        help="iteration up to which the loss counts all pixels",
    )
    steps.add_argument(
        "--bootstrap_end",
        type=non_negative_int,
        default=70_000,
        metavar="N",
        help="iteration from which the loss counts the hardest 15 %% of the pixels",
    )
    steps.add_argument("--no_amp", action="store_true", help="use float32 on CUDA too")
    steps.add_argument(
        "--amp_dtype",
        choices=("float16", "bfloat16"),
        help="type for mixed precision; bfloat16 also works on the CPU (default: float16 on CUDA, none elsewhere)",
    )
    return result


def parse() -> argparse.Namespace:
    """The flags; raises `InputError` for two networks to start from."""
    arguments = parser().parse_args()
    if arguments.finetune is not None:
        if arguments.load_network or arguments.load_model:
            raise InputError("--finetune: cannot be combined with --load_network or --load_model")
        for_this = parser()
        for_this.set_defaults(**FINETUNING, load_network=arguments.finetune)
        arguments = for_this.parse_args()
    if arguments.val_root is not None:
        if Path(arguments.val_root).resolve() in [Path(root).resolve() for root in arguments.own_root]:
            raise InputError(f"--val_root: {arguments.val_root} is trained on (--own_root), where scores mean little")
        arguments.val_every = arguments.val_every or arguments.save_every
    return arguments


def skip_of_draw(stage: Stage, schedule: Schedule, draw: int) -> int:
    """The curriculum: the largest distance between a draw's frames."""
    return max_skip(stage, draw / (schedule.total * schedule.iterations))


def complete(arguments: argparse.Namespace, world: int) -> TrainConfig:
    """The settings, with the stage's values for flags that were not given; raises `InputError` if they do not fit together."""
    stage = STAGES[arguments.stage]
    if arguments.iterations is None:
        arguments.iterations = stage.iterations
    arguments.steps = tuple(stage.steps if arguments.steps is None else arguments.steps)
    if arguments.batch_size is None:
        if stage.batch % (world * arguments.accumulate):
            raise InputError(
                f"--batch_size: stage {arguments.stage} has {stage.batch} samples per iteration, which {world} processes "
                f"with --accumulate {arguments.accumulate} cannot divide equally; give it"
            )
        arguments.batch_size = stage.batch // (world * arguments.accumulate)
    if arguments.bootstrap_end < arguments.bootstrap_start:
        raise InputError("--bootstrap_end: expected at least --bootstrap_start")
    if arguments.crop % 16:
        raise InputError(f"--crop: expected a multiple of 16, found {arguments.crop}")
    if arguments.yv_all and arguments.yv_list:
        raise InputError("--yv_list: cannot be combined with --yv_all")
    return TrainConfig.of(arguments)


@one_line_errors
def main() -> int:
    arguments = parse()
    device = device_of(arguments.device)
    if arguments.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = arguments.benchmark
    use_threads(None)
    path_in(arguments.save_dir, arguments.id, source="--id")
    folder = path_in(arguments.save_dir, f"{arguments.id}_s{arguments.stage}", source="--id")
    path_in(arguments.save_dir, f".{folder.name}.pth.01234567", source="--id")  # the temporary name in `write_atomically`
    refuse_file_above(folder)
    if arguments.check:
        sources, _ = read_data(arguments, complete(arguments, world=1))
        print(data_text(arguments.stage, sources))
        return 0
    with Lock(folder, "train.py"), Processes(cuda=device.type == "cuda") as processes, one_line_for(arguments.save_dir):
        run = prepare(arguments, folder, processes, device)
        if run.start < run.config.iterations:
            return loop(run, save_network)
        print_once(processes, f"{run.final}: already finished, after {run.start} iterations")
        return 0 if run.final.exists() else finish(run, save_network)


def prepare(arguments: argparse.Namespace, folder: Path, processes: Processes, device: torch.device) -> Run:
    """Check everything, and set up the network and its training from where the run begins or goes on."""
    config = complete(arguments, processes.world)
    stage = STAGES[arguments.stage]
    schedule = Schedule(config.iterations, config.batch_size, config.accumulate, processes.world)
    sources, truth = read_data(arguments, config)
    draws = Draws(sources, seed=config.seed, max_skip=partial(skip_of_draw, stage, schedule))
    record = {
        "stage": arguments.stage,
        **config.record(),
        **sampled(arguments.stage, sampling_options(arguments)),
        **drawn(sources, schedule),
    }
    objective = config.objective(device)
    torch.manual_seed(config.seed)

    start = find_start(arguments, folder, record, processes)
    refuse_other_network(start.network, arguments)
    final = folder.with_name(f"{folder.name}.pth")
    if processes.broadcast(final.is_dir() or (final.exists() and not start.same_run)):
        raise InputError(f"{final}: already exists, but not the run it came from; move it, or give another --id")
    network = start.network.to(device).to(memory_format=fastest_format(device, half=objective.amp_dtype is not None)).train()
    if not start.content and arguments.no_pretrained and arguments.load_network is None:
        network.set_statistics(calibration_clips(draws, device))
    state = State(
        network,
        objective,
        make_optimizer(network, config),
        make_scaler(objective, device),
        RunningMeans(figure_names(1 if arguments.stage == 0 else 2), processes),
        averaged=None if config.ema is None else moving_average(network, config.ema),
    )
    if start.content:
        load_state(state, start)
    if processes.rank == 0:
        set_aside_newer(folder, start.iteration if start.same_run else 0)
    if arguments.compile:
        network.compile()
    print_once(processes, describe(arguments.stage, config, sources, network, device, start, processes.world))
    every = Intervals(arguments.save_every, arguments.log_every, arguments.image_every, arguments.val_every)
    if arguments.debug:
        every = every._replace(log=1, image=50)
    return Run(
        config,
        record,
        folder,
        start.iteration,
        draws,
        schedule,
        arguments.num_workers,
        state,
        data_parallel(network) if processes.world > 1 else network,
        training_step,
        every,
        arguments.keep,
        processes,
        device,
        partial(validate, state, truth, folder, processes) if truth and truth.videos else None,
    )


def read_data(arguments: argparse.Namespace, config: TrainConfig) -> tuple[dict[str, tuple[Source, int]], Truth | None]:
    """The stage's data sets, and what to validate on; raises `InputError` if something in them is missing or wrong."""
    sources = stage_sources(arguments.stage, data_roots(arguments), **sampling_options(arguments), crop=config.crop)
    if not arguments.val_every:
        return sources, None
    if arguments.val_root is not None:
        return sources, own_truth(Path(arguments.val_root))
    videos = davis_videos(arguments.davis_root)
    if absent := [frame for video in videos for frame in video.without_truth]:
        raise InputError(f"--val_every: no ground truth for {names_some(absent)}")
    return sources, Truth("DAVIS val", long_enough(videos), "val")


def own_truth(root: Path) -> Truth:
    """Own videos to validate on; raises `InputError` if they are unsuitable, or no object is shown twice."""
    videos = youtube_videos(root, truth=root / "Annotations")
    meta = {video.name: annotated_objects(video) for video in videos}
    if not any(len(found.frames) > 1 for objects in meta.values() for found in objects.values()):
        raise InputError(f"--val_root: expected masks after an object's first in {root / 'Annotations'}, found none to score")
    return Truth(str(root), videos, "valid", meta)


def calibration_clips(draws: Draws, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A few batches in the form that `STCN.forward` takes; the same for any number of processes."""
    alone = Schedule(CALIBRATION_BATCHES, CALIBRATION_BATCH)
    for batch in load(draws, alone, rank=0, start=0, workers=0):
        labels, valid = batch.labels.to(device), batch.valid.to(device)
        yield normalise(batch.frames.to(device)), first_masks(labels, valid.shape[1]), valid


def validate(state: State, truth: Truth, folder: Path, processes: Processes) -> float | None:
    """J&F on the videos, on rank 0.  `None` on other ranks and, after a warning, if a video cannot be read."""
    network = state.result.eval()
    results = ResultFolder(folder / "validation")
    if processes.rank == 0:
        results.claim(truth.videos, {"made by": "training"}, overwrite=True)
    size = None if truth.meta is None else OWN_SIZE
    make_segmenter = partial(VideoSegmenter, network, size=size)
    summary = evaluate(truth.videos, make_segmenter, results, processes, workers=1, shown=False)
    network.train()
    if summary is None:
        return None
    if summary.failures:
        print(f"\nwarning: no validation: {one_line(summary.failures[0])}", file=sys.stderr)
        return None
    scores = score_videos(truth.jobs(results.masks), processes=1, shown=False)
    if truth.meta is None:
        return davis_scores(scores)["global"]["J&F"]
    return youtube_scores(scores, truth.meta, {""})["global"]["G"]  # without categories, the mean of J and F


def data_text(stage: int, sources: dict[str, tuple[Source, int]]) -> str:
    """The data sets of a stage, each with its number of samples and repeats."""
    often = {name: f" x {repeats}" if repeats > 1 else "" for name, (_, repeats) in sources.items()}
    return f"stage {stage} on {', '.join(f'{name} ({len(source)}{often[name]})' for name, (source, _) in sources.items())}"


def describe(
    stage: int, config: TrainConfig, sources: dict, network: STCN, device: torch.device, start: Start, world: int
) -> str:
    """A description of the run, for the terminal."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    lines = [
        data_text(stage, sources),
        f"{network.config}, {parameters / 1e6:.1f} M parameters",
        f"{world} x {device.type}: {config.batch_size * config.accumulate * world} samples per iteration "
        f"= {world} processes x {config.batch_size} samples x {config.accumulate} passes",
    ]
    if start.iteration:
        lines.append(f"resuming after {start.iteration} of {config.iterations} iterations")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
