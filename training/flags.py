"""The flags of `train.py`, and the settings of a run from them and the table of stages."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from dataset.sources import add_crop_flag, add_data_flags, add_sampling_flags
from dataset.stages import STAGES
from model import NetworkConfig
from model.network import CHOICES
from training.config import TrainConfig
from util.errors import InputError
from util.flags import (
    Parser,
    float_between,
    non_negative_int,
    positive_float,
    positive_int,
    seed_int,
    worker_count,
)

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


def add_run_flags(parser: argparse._ActionsContainer, *, result: str, save_every: int, num_workers: int) -> None:
    """Add the flags that every training has; `result` is the name of the network's file."""
    parser.add_argument("--id", required=True, help="name of the run (required)")
    parser.add_argument("--save_dir", default="saves", metavar="DIR", help=f"folder for {result} and the run's own folder")
    parser.add_argument(
        "--save_every", type=positive_int, default=save_every, metavar="N", help="iterations between checkpoints"
    )
    parser.add_argument("--keep", type=positive_int, default=3, metavar="N", help="number of newest checkpoints to keep")
    parser.add_argument("--seed", type=seed_int, default=0, help="random seed of samples and initial weights")
    parser.add_argument(
        "--num_workers", type=worker_count, default=num_workers, metavar="N", help="worker processes that prepare samples"
    )
    parser.add_argument("--log_every", type=positive_int, default=25, metavar="N", help="log means over every N iterations")


def training_parser(doc: str | None) -> argparse.ArgumentParser:
    result = Parser(doc)
    run = result.add_argument_group("run")
    add_run_flags(run, result="<id>_s<stage>.pth", save_every=500, num_workers=8)
    run.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or mps; torchrun gives each process its GPU")
    run.add_argument(
        "--stage", type=int, choices=range(len(STAGES)), default=0, help="0: static images, 1: BL30K, 2 and 3: videos"
    )
    run.add_argument(
        "--resume", default="auto", metavar="auto|never|PATH", help="auto continues from the newest readable checkpoint"
    )
    run.add_argument(
        "--val_every",
        type=positive_int,
        metavar="N",
        help="iterations between validations on DAVIS val or --val_root; the end is one, too (default: with --val_root as "
        "--save_every, else none)",
    )
    run.add_argument(
        "--val_root",
        metavar="DIR",
        help="validate on your own videos instead, JPEGImages/<video>/ and Annotations/<video>/, each from its first masks",
    )
    run.add_argument("--image_every", type=positive_int, default=500, metavar="N", help="iterations between logged pictures")
    run.add_argument("--check", action="store_true", help="check the flags and the stage's data, and end")
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
    network.add_argument(
        "--after", type=int, choices=range(len(STAGES)), metavar="N", help="start from this run's network of stage N instead"
    )
    network.add_argument("--load_model", metavar="FILE", help="continue from this training checkpoint, ours or a released one")
    network.add_argument("--no_pretrained", action="store_true", help="start without ImageNet weights")
    for field in dataclasses.fields(NetworkConfig):
        if type(field.default) is not bool:
            kind: dict[str, Any] = {"choices": CHOICES[field.name]} if field.name in CHOICES else {"type": positive_int}
            network.add_argument(f"--{field.name}", help=f"of a new network (default: the paper's, {field.default})", **kind)
    network.add_argument(
        "--no_attention", dest="attention", action="store_false", default=None, help="leave CBAM out of a new network"
    )

    network.add_argument("--aspp", action="store_true", default=None, help="put ASPP behind the key encoder's backbone")

    steps = result.add_argument_group("optimisation", "defaults are the paper's settings of the stage")
    steps.add_argument("-i", "--iterations", type=positive_int, help="total number of iterations (default: the stage's)")
    steps.add_argument(
        "-b", "--batch_size", type=positive_int, help="samples per process and pass (default: the stage's batch, divided)"
    )
    steps.add_argument("--accumulate", type=positive_int, metavar="N", help="passes of --batch_size per iteration")
    steps.add_argument("--optimizer", choices=("adam", "adamw"), help="optimiser")
    steps.add_argument("--lr", type=positive_float, help="learning rate")
    steps.add_argument("--encoder_lr", type=positive_float, help="learning rate of the ResNets (default: --lr)")
    steps.add_argument("--schedule", choices=("step", "cosine"), help="learning rate schedule")
    steps.add_argument(
        "--steps", type=positive_int, nargs="*", help="iterations at which the learning rate drops (default: the stage's)"
    )
    steps.add_argument("--gamma", type=positive_float, help="factor by which the learning rate drops")
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
        metavar="N",
        help="iteration up to which the loss counts all pixels",
    )
    steps.add_argument(
        "--bootstrap_end",
        type=non_negative_int,
        metavar="N",
        help="iteration from which the loss counts the hardest 15 %% of the pixels",
    )
    steps.add_argument("--no_amp", action="store_true", help="use float32 on CUDA too")
    steps.add_argument(
        "--amp_dtype",
        choices=("float16", "bfloat16"),
        help="type for mixed precision; bfloat16 also works on the CPU (default: float16 on CUDA, none elsewhere)",
    )
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig) if field.name != "steps"}
    result.set_defaults(**{name: value for name, value in defaults.items() if value is not dataclasses.MISSING})
    return result


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The flags, with other defaults for `--finetune`; raises `InputError` for flags that contradict each other."""
    arguments = parser.parse_args()
    if arguments.finetune is not None:
        if arguments.load_network or arguments.load_model or arguments.after is not None:
            raise InputError("--finetune: cannot be combined with --load_network, --load_model or --after")
        parser.set_defaults(**FINETUNING, load_network=arguments.finetune)
        arguments = parser.parse_args()
    if arguments.after is not None:
        arguments.load_network = str(Path(arguments.save_dir, f"{arguments.id}_s{arguments.after}.pth"))
    if arguments.val_root is not None:
        if Path(arguments.val_root).resolve() in [Path(root).resolve() for root in arguments.own_root]:
            raise InputError(f"--val_root: {arguments.val_root} is trained on (--own_root), where scores mean little")
        arguments.val_every = arguments.val_every or arguments.save_every
    return arguments


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
    if arguments.yv_all and arguments.yv_list:
        raise InputError("--yv_list: cannot be combined with --yv_all")
    return TrainConfig.of(arguments)
