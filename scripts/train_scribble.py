"""Train the scribble network (model/scribble.py), which turns clicks, a box or scribbles into a mask.

python scripts/train_scribble.py --id scribble --device cpu

Not a stage of train.py, whose flags, starting points and validations are STCN's.  Samples are photographs with masks and
frames of training videos, with marks by the robot.  The same command goes on from the newest checkpoint.
"""

import argparse
import sys
from pathlib import Path

import util  # isort: skip, must come before PyTorch  # noqa: F401
import torch

from dataset.sampling import Draws, Schedule
from dataset.scribbles import MOSAICS, ScribbleSource
from dataset.sources import YOUTUBE_LIST, Sources, add_crop_flag, add_data_flags, add_own_flag, data_roots, stage_sources
from model.checkpoint import digest
from model.scribble import ScribbleNetwork, load_scribble_network, scribble_network_from
from training.config import TrainConfig
from training.flags import add_run_flags
from training.loop import Intervals, Run, loop
from training.start import Start, drawn, newest_readable, refuse_to_replace, resumed, take_up
from training.state import RunningMeans, State
from training.step import SCRIBBLE_FIGURES, make_optimizer, make_scaler, scribble_step
from util.device import device_of, use_threads
from util.distributed import Processes
from util.errors import InputError, one_line_errors
from util.files import one_line_for
from util.flags import Parser, positive_float, positive_int
from util.guards import path_in, refuse_file_above
from util.lock import Lock

CLIP_GRAD = 5.0
VIDEOS_OFTEN = 20  # times more often than train.py takes a video beside others: a video has many frames


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    add_run_flags(result, result="<id>.pth", save_every=250, num_workers=1)
    result.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or mps")
    start = result.add_mutually_exclusive_group()
    start.add_argument("--load_network", metavar="FILE", help="start from this scribble network")
    start.add_argument("--no_pretrained", action="store_true", help="start without ImageNet weights")
    result.add_argument("-i", "--iterations", type=positive_int, default=3000, help="total number of iterations")
    result.add_argument("-b", "--batch_size", type=positive_int, default=12, help="pictures per iteration")
    result.add_argument("--lr", type=positive_float, default=5e-4, help="learning rate, which falls as a cosine")
    result.add_argument("--encoder_lr", type=positive_float, default=1.5e-4, help="learning rate of the ResNet")
    result.add_argument("--amp_dtype", choices=("float16", "bfloat16"), help="type for mixed precision, as for train.py")
    add_data_flags(result)
    add_own_flag(result, "also train on")
    add_crop_flag(result)
    result.set_defaults(optimizer="adamw", schedule="cosine", clip_grad=CLIP_GRAD, crop=256, bl_root="none")
    return result


def sources_of(arguments: argparse.Namespace) -> Sources:
    """Photographs and training videos, as far as they are there, with scribbles."""
    roots = data_roots(arguments)
    found: Sources = {}
    if roots["static_root"] is not None:
        found |= stage_sources(0, roots, crop=arguments.crop)
    if roots["yv_root"] is not None or roots["davis_root"] is not None or arguments.own_root:
        videos = stage_sources(3, roots, own=arguments.own_root, youtube_list=YOUTUBE_LIST, crop=arguments.crop)
        if twice := found.keys() & videos.keys():
            raise InputError(f"--own_root: {min(twice)} is the name of another data set, too")
        found |= {name: (source, often * VIDEOS_OFTEN) for name, (source, often) in videos.items()}
    if not found:
        raise InputError("expected photographs or videos to train on, found neither")
    return {name: (ScribbleSource(source), often) for name, (source, often) in found.items()}


@one_line_errors
def main() -> int:
    arguments = parser().parse_args()
    device = device_of(arguments.device)
    use_threads(None)
    folder = path_in(arguments.save_dir, arguments.id, source="--id")
    path_in(folder, "log", source="--id")
    refuse_file_above(folder)
    with Lock(folder, "train_scribble.py"), Processes() as processes, one_line_for(arguments.save_dir):
        if processes.world > 1:
            raise InputError(f"torchrun: expected one process, found {processes.world}")
        return loop(prepare(arguments, folder, processes, device))


def prepare(arguments: argparse.Namespace, folder: Path, processes: Processes, device: torch.device) -> Run:
    """Check everything, and set up the network and its training from where the run begins or goes on."""
    config = TrainConfig.of(arguments)
    sources = sources_of(arguments)
    schedule = Schedule(config.iterations, config.batch_size)
    draws = Draws(sources, seed=config.seed)
    record = {**config.record(), "no_pretrained": arguments.no_pretrained, "mosaics": MOSAICS, **drawn(sources, schedule)}
    record["load_network"] = arguments.load_network and digest(arguments.load_network)
    amp_dtype = config.autocast_dtype(device)
    torch.manual_seed(config.seed)
    start = find_start(arguments, folder, record)
    refuse_to_replace(folder.with_name(f"{folder.name}.pth"), start, processes)
    network = start.network.to(device).to(memory_format=torch.channels_last).train()
    optimizer, scaler = make_optimizer(network, config), make_scaler(amp_dtype, device)
    means = RunningMeans(SCRIBBLE_FIGURES, processes)
    state = State(network, amp_dtype, optimizer, scaler, means)
    take_up(state, start, folder, processes)
    every = Intervals(arguments.save_every, arguments.log_every)
    print(f"{', '.join(f'{name} ({text})' for name, text in record['data'].items())}; from iteration {start.iteration}")
    return Run(
        config=config,
        record=record,
        folder=folder,
        start=start.iteration,
        draws=draws,
        schedule=schedule,
        workers=arguments.num_workers,
        state=state,
        model=network,
        step=scribble_step,
        every=every,
        keep=arguments.keep,
        processes=processes,
        device=device,
        half=True,
    )


def find_start(arguments: argparse.Namespace, folder: Path, record: dict) -> Start:
    """The newest checkpoint of this run, or a new network."""
    path = newest_readable(folder)
    if path is not None:
        return resumed(path, record, scribble_network_from)
    if arguments.load_network is not None:
        return Start(load_scribble_network(arguments.load_network), 0, {}, False)
    return Start(ScribbleNetwork(pretrained=not arguments.no_pretrained), 0, {}, False)


if __name__ == "__main__":
    sys.exit(main())
