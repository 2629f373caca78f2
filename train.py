"""Train one stage of STCN (sections 5 and F), in one process or in several under torchrun.

python train.py --id first --stage 0 --device cpu
torchrun --nproc_per_node=2 train.py --id first --stage 0
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import util  # isort: skip, must come before PyTorch  # noqa: F401
import torch
from torch import Tensor

from dataset.davis import davis_videos
from dataset.mask_files import mask_files
from dataset.sampling import Draws, Schedule, load
from dataset.sources import Sources, data_roots, sampling_options, stage_sources
from dataset.stages import STAGES, Stage, max_skip
from dataset.youtube import annotated_objects, youtube_videos
from evaluation.results import ResultFolder
from evaluation.run import evaluate
from evaluation.score_tables import davis_scores
from evaluation.scores import long_enough, score_videos
from evaluation.truth import Truth
from model import STCN, VideoSegmenter
from training.config import TrainConfig
from training.flags import complete, parse, training_parser
from training.journal import print_once
from training.loop import Intervals, Run, finish, loop
from training.start import Start, drawn, find_start, refuse_other_network, refuse_to_replace, sampled, take_up
from training.state import RunningMeans, State, moving_average
from training.step import data_parallel, figure_names, first_masks, make_optimizer, make_scaler, training_step
from util.device import device_of, fastest_format, use_threads
from util.distributed import Processes
from util.errors import InputError, names_some, one_line, one_line_errors
from util.files import one_line_for
from util.guards import path_in, refuse_file_above
from util.lock import Lock
from util.tensors import normalise

OWN_SIZE = 480  # pixels, shorter side at which own videos are validated, as in `eval_youtube.py`
CALIBRATION_BATCHES, CALIBRATION_BATCH = 8, 4


def parser() -> argparse.ArgumentParser:
    return training_parser(__doc__)


def skip_of_draw(stage: Stage, schedule: Schedule, draw: int) -> int:
    """The curriculum: the largest distance between a draw's frames."""
    return max_skip(stage, draw / (schedule.total * schedule.iterations))


@one_line_errors
def main() -> int:
    arguments = parse(parser())
    device = device_of(arguments.device)
    if arguments.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = arguments.benchmark
    use_threads(None)
    path_in(arguments.save_dir, arguments.id, source="--id")
    folder = path_in(arguments.save_dir, f"{arguments.id}_s{arguments.stage}", source="--id")
    path_in(arguments.save_dir, f".{folder.name}.pth.01234567", source="--id")  # the temporary name in `write_atomically`
    path_in(folder, "log", source="--id")
    refuse_file_above(folder)
    if arguments.check:
        sources, _ = read_data(arguments, complete(arguments, world=1))
        print(data_text(arguments.stage, sources))
        return 0
    with Lock(folder, "train.py"), Processes(cuda=device.type == "cuda") as processes, one_line_for(arguments.save_dir):
        run = prepare(arguments, folder, processes, device)
        if run.start < run.config.iterations:
            return loop(run)
        print_once(processes, f"{run.final}: already finished, after {run.start} iterations")
        return 0 if run.final.exists() else finish(run)


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
    amp_dtype = config.autocast_dtype(device)
    torch.manual_seed(config.seed)

    start = find_start(arguments, folder, record, processes)
    refuse_other_network(start.network, arguments)
    refuse_to_replace(folder.with_name(f"{folder.name}.pth"), start, processes)
    network = start.network.to(device).to(memory_format=fastest_format(device, half=amp_dtype is not None)).train()
    if not start.content and arguments.no_pretrained and arguments.load_network is None:
        network.set_statistics(calibration_clips(draws, device))
    state = State(
        network,
        amp_dtype,
        make_optimizer(network, config),
        make_scaler(amp_dtype, device),
        RunningMeans(figure_names(1 if arguments.stage == 0 else 2), processes),
        best_on="" if truth is None else digest_of(truth),
        averaged=None if config.ema is None else moving_average(network, config.ema),
    )
    take_up(state, start, folder, processes)
    if start.same_run and state.best < 0 <= start.content["best"]:
        print_once(processes, f"validation: other videos than before, so {folder / 'best.pth'} begins anew")
    if arguments.compile:
        network.compile()
    print_once(processes, describe(arguments.stage, config, sources, network, device, start, processes.world))
    every = Intervals(arguments.save_every, arguments.log_every, arguments.image_every, arguments.val_every)
    return Run(
        config=config,
        record=record,
        folder=folder,
        start=start.iteration,
        draws=draws,
        schedule=schedule,
        workers=arguments.num_workers,
        state=state,
        model=data_parallel(network) if processes.world > 1 else network,
        step=training_step,
        every=every,
        keep=arguments.keep,
        processes=processes,
        device=device,
        validate=partial(validate, state, truth, folder, processes) if truth and truth.videos else None,
    )


def read_data(arguments: argparse.Namespace, config: TrainConfig) -> tuple[Sources, Truth | None]:
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


def digest_of(truth: Truth) -> str:
    """What tells other videos to validate on from these: names, and sizes of masks, which stay when a data set is copied."""
    masks = ([video.name, frame, path] for video in truth.videos for frame, path in sorted(video.truth.items()))
    sizes = [[name, frame, sum(file.stat().st_size for file in mask_files(path))] for name, frame, path in masks]
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()


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
    return davis_scores(scores)["global"]["J&F"]


def data_text(stage: int, sources: Sources) -> str:
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
